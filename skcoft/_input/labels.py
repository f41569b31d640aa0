"""The one parser of y: +1 for normal, -1 for anomalous, nothing else."""

import warnings

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .errors import is_mapping, refuse_array

WANTED = "y must hold +1 (normal) and -1 (anomalous)"


def check_labels(X, y):
    """Return y, as long as X, as +1 and -1; raise ValueError where it holds other labels."""
    counted = hasattr(X, "__len__") or hasattr(X, "shape")
    if counted and not is_mapping(X):  # of modalities, each as long as y
        check_consistent_length(X, y)
    refuse_array(y, "y")
    y = column_or_1d(y)
    if not _are_signs(y):
        raise ValueError(f"{WANTED}; got {_seen(y)}. {_remedy(y)}")
    return np.where(y == 1, 1, -1)


def _are_signs(y):
    """Whether all labels are +1 and -1, by whatever numbers."""
    return set(y.tolist()) <= {-1, 1} and not _booleans(y).any()


def _booleans(y):
    return np.array([isinstance(label, (bool, np.bool_)) for label in y.tolist()], dtype=bool)


def _seen(y):
    """Text of the labels in y, ten at most."""
    labels = sorted({repr(label) for label in y.tolist()})
    more = f", ... ({len(labels)} in all)" if len(labels) > 10 else ""
    return f"the labels {', '.join(labels[:10])}{more}"


def _remedy(y):
    """Return the line that makes +1 and -1 of y; which label means what, its user knows."""
    labels = set(y.tolist())
    if _booleans(y).all():
        return "Where True means an anomaly, pass np.where(y, -1, 1), else np.where(y, 1, -1)."
    if any(label != label for label in labels):
        return "Leave out the images without a label."
    if labels <= {0, 1}:
        return (
            "Where 1 means an anomaly, pass np.where(y == 1, -1, 1), else np.where(y == 1, 1, -1)."
        )
    if -1 in labels:
        return "Leave out the images with other labels."
    example = min(labels, key=str)
    return f"Name the normal ones, for example np.where(y == {example!r}, 1, -1)."


def are_classes(y):
    """Whether labels may be class labels that are meant for others: numbers, none of them -1."""
    numbers = y.dtype.kind in "iuf" and not (y == -1).any()
    return bool(numbers and not np.isnan(y.astype(float)).any() and not _are_signs(y))


def split_by_label(inputs, y, allow_class_labels=False):
    """Split validated inputs into normals and anomalies (None where y names none).

    ``allow_class_labels``: y may hold numbers that are meant for others, as scikit-learn hands its
    class labels to every step; they name no anomaly, which a warning says.
    """
    if y is None:
        return inputs, None
    check_consistent_length(inputs, y)
    refuse_array(y, "y")
    labels = np.array(column_or_1d(y).tolist())  # of objects, what they are
    if allow_class_labels and are_classes(labels):
        warnings.warn(
            f"y holds {_seen(labels)}, which name neither normal (+1) nor anomalous (-1) samples: "
            "y is left out of account, all samples are taken for normal.",
            stacklevel=3,
        )
        return inputs, None
    labels = check_labels(inputs, y)
    if 1 not in labels:
        raise ValueError(
            f"y holds no normal image (y == 1) to train on among n_samples={len(labels)}."
        )
    return inputs.take(labels == 1), inputs.take(labels == -1) if -1 in labels else None


def asks_for_labelled(negatives):
    """Whether labelled anomalies are among what ``negatives`` names."""
    return "labelled" in (negatives if isinstance(negatives, (list, tuple)) else [negatives])


def split_for_training(inputs, y, negatives, allow_class_labels=False):
    """Split as :func:`split_by_label`; anomalies are kept where ``negatives`` asks for them."""
    normals, anomalies = split_by_label(inputs, y, allow_class_labels)
    if not asks_for_labelled(negatives):
        return normals, None
    if y is None:
        raise ValueError("negatives='labelled' requires y, with -1 for anomalies; got None.")
    if anomalies is None:
        raise ValueError(
            "negatives='labelled' needs y of both +1 (normal) and -1 (anomaly); got "
            f"{_seen(np.asarray(y))}."
        )
    return normals, anomalies
