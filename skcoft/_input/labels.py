"""Parse y: +1 for normal, -1 for anomalous, and nothing else."""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._utils.params import as_list
from .._utils.warning import warn_user
from .errors import require_all_values
from .items import is_mapping
from .types import ImagesLike, InputData

MAX_NAMED_LABELS = 10  # in a message
AnyInput = TypeVar("AnyInput", bound=InputData)


def check_labels(X: ImagesLike, y: npt.ArrayLike) -> np.ndarray:
    """Return y as +1 and -1; ValueError for other labels or another length than X."""
    has_length = hasattr(X, "__len__") or hasattr(X, "shape")
    if has_length and not is_mapping(X):  # the length of a mapping is its number of modalities
        check_consistent_length(X, y)
    require_all_values(y, "y")
    labels = column_or_1d(y)
    if not _are_signs(labels):
        raise ValueError(
            f"y must hold +1 (normal) and -1 (anomalous); got {_describe_labels(labels)}. "
            f"{_remedy(labels)}"
        )
    return np.where(labels == 1, 1, -1)


def _are_signs(y: np.ndarray) -> bool:
    """Whether all labels are +1 and -1, of any numeric type."""
    return set(y.tolist()) <= {-1, 1} and not _are_booleans(y).any()


def _are_booleans(y: np.ndarray) -> np.ndarray:
    return np.array([isinstance(label, (bool, np.bool_)) for label in y.tolist()], dtype=bool)


def _describe_labels(y: np.ndarray) -> str:
    """Return the text for the labels in y."""
    labels = sorted({repr(label) for label in y.tolist()})
    more = f", ... ({len(labels)} in all)" if len(labels) > MAX_NAMED_LABELS else ""
    return f"the labels {', '.join(labels[:MAX_NAMED_LABELS])}{more}"


def _remedy(y: np.ndarray) -> str:
    """Return how to make +1 and -1 of y; only the user knows what each label means."""
    labels = set(y.tolist())
    if _are_booleans(y).all():
        return (
            "If True means an anomaly, pass np.where(y, -1, 1); otherwise pass np.where(y, 1, -1)."
        )
    if any(label != label for label in labels):
        return "Leave out the images without a label."
    if labels <= {0, 1}:
        return (
            "If 1 means an anomaly, pass np.where(y == 1, -1, 1); otherwise pass "
            "np.where(y == 1, 1, -1)."
        )
    if -1 in labels:
        return "Leave out the images with other labels."
    example = min(labels, key=str)
    return f"Say which label is normal, for example np.where(y == {example!r}, 1, -1)."


def are_classes(y: np.ndarray) -> bool:
    """Whether labels may be the class labels of another estimator: numbers other than -1."""
    is_numeric = y.dtype.kind in "iuf" and not (y == -1).any()
    return bool(is_numeric and not np.isnan(y.astype(float)).any() and not _are_signs(y))


def split_by_label(
    inputs: AnyInput, y: npt.ArrayLike | None, allow_class_labels: bool = False
) -> tuple[AnyInput, AnyInput | None]:
    """Split validated inputs into normal images and anomalies, None if y has no anomaly.

    With ``allow_class_labels``, class labels are ignored with a warning, because scikit-learn
    passes them to every step of a pipeline.
    """
    if y is None:
        return inputs, None
    check_consistent_length(inputs, y)
    require_all_values(y, "y")
    labels = np.array(column_or_1d(y).tolist())  # object arrays get the type of their values
    if allow_class_labels and are_classes(labels):
        warn_user(
            f"y holds {_describe_labels(labels)}, but +1 means normal and -1 anomalous. y is "
            "ignored and all samples count as normal. Pass y=None if that is right.",
        )
        return inputs, None
    labels = check_labels(inputs, y)
    if 1 not in labels:
        raise ValueError(
            f"y holds no normal image (y == 1) to train on among n_samples={len(labels)}."
        )
    return inputs.take(labels == 1), inputs.take(labels == -1) if -1 in labels else None


def normal_positions(y: npt.ArrayLike | None, n: int) -> np.ndarray:
    """Return the positions in X of the images that are fitted on, those not labelled -1."""
    return np.arange(n) if y is None else np.flatnonzero(np.asarray(y) != -1)


def asks_for_labelled(negatives: Any) -> bool:
    """Whether ``negatives`` contains ``"labelled"``."""
    return "labelled" in as_list(negatives)


def split_for_training(
    inputs: AnyInput,
    y: npt.ArrayLike | None,
    negatives: Any,
    allow_class_labels: bool = False,
) -> tuple[AnyInput, AnyInput | None]:
    """As :func:`split_by_label`; anomalies are returned only if ``negatives`` asks for them."""
    normals, anomalies = split_by_label(inputs, y, allow_class_labels)
    if not asks_for_labelled(negatives):
        return normals, None
    if y is None:
        raise ValueError("negatives='labelled' requires y, with -1 for anomalies; got None.")
    if anomalies is None:
        raise ValueError(
            "negatives='labelled' needs y of both +1 (normal) and -1 (anomaly); got "
            f"{_describe_labels(np.asarray(y))}."
        )
    return normals, anomalies
