"""The one parser of y: +1 for normal, -1 for anomalous; 0 may stand for -1."""

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d


def parse_labels(X, y):
    """Return y, as long as X, as +1 and -1; None where it holds other labels."""
    y = column_or_1d(y)
    check_consistent_length(X, y)
    labels = set(y.tolist())
    if labels <= {-1, 1} or labels <= {0, 1}:
        return np.where(y == 1, 1, -1)
    return None


def check_labels(X, y):
    """Return y as +1 (normal) and -1; raise ValueError where it holds other labels."""
    parsed = parse_labels(X, y)
    if parsed is None:
        labels = sorted(set(np.asarray(y).tolist()))
        raise ValueError(f"y must hold +1 (normal) and -1 (anomalous); got labels {labels}.")
    return parsed


def split_by_label(inputs, y):
    """Split validated inputs into normals and anomalies (None where y names none).

    Labels of anybody's, which scikit-learn hands to every detector, name none.
    """
    labels = None if y is None else parse_labels(inputs, y)
    if labels is None:
        return inputs, None
    if 1 not in labels:
        raise ValueError(
            f"y holds no normal image (y == 1) to train on among n_samples={len(labels)}."
        )
    return inputs.take(labels == 1), inputs.take(labels == -1) if -1 in labels else None


def split_for_training(inputs, y, negatives):
    """Split as :func:`split_by_label`; anomalies are kept where ``negatives`` asks for them."""
    normals, anomalies = split_by_label(inputs, y)
    if "labelled" not in (negatives if isinstance(negatives, (list, tuple)) else [negatives]):
        return normals, None
    if y is None:
        raise ValueError("negatives='labelled' requires y, with -1 for anomalies; got None.")
    if anomalies is None or -1 not in np.asarray(y):
        raise ValueError(
            "negatives='labelled' needs y of both +1 (normal) and -1 (anomaly); got labels "
            f"{np.unique(y).tolist()}."
        )
    return normals, anomalies
