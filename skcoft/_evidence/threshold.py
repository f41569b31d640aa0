"""The threshold between normal and anomalous scores, p-values and labels."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import check_scoring

from .._utils.warning import warn_user
from .joint_score import JointScore
from .limits import MIN_SHOTS, is_suspect, lower_limit


@dataclass(frozen=True)
class Threshold:
    """Score below which an image is anomalous.

    Attributes
    ----------
    value : float
        The threshold.
    source : str or None
        What set it, for messages, such as ``"set_threshold(max_fpr=0.01)"``. None if it was
        computed from the training images.
    """

    value: float
    source: str | None = None


def automatic_offset(scores: np.ndarray, view_scores: np.ndarray) -> float:
    """Return :func:`lower_limit`; warn if the shots are too few to calibrate it."""
    n = len(scores)
    if n < MIN_SHOTS:
        warn_user(
            f"contamination='auto' cannot calibrate a threshold on {n} of the at least "
            f"{MIN_SHOTS} normal images that it needs. score_samples ranks images, but the "
            "threshold of predict is only the lowest score of the shots and their views. Call "
            "set_threshold with more normal images."
        )
    return lower_limit(scores, view_scores)


def map_threshold(joint: JointScore, is_view: np.ndarray) -> float | None:
    """Return the value that the maps of about 5 % of new normal images exceed; None without maps.

    ``is_view`` says which calibration rows are views.
    """
    if not joint.map_components():
        return None
    minima = -joint.held_out_map_maxima()
    return -lower_limit(joint.per_shot(minima)[joint.by_cluster()[0]], minima[is_view])


def suspect_shots(joint: JointScore) -> np.ndarray:
    """Return which shots score far below the other shots of their cluster, see `is_suspect`."""
    scores = joint.per_shot(joint.held_out_scores())
    suspect = np.zeros(len(scores), dtype=bool)
    for cluster in joint.by_cluster():
        suspect[cluster] = is_suspect(scores[cluster])
    return suspect


def check_finite_scores(scores: np.ndarray, name: str) -> None:
    """Raise ValueError if some scores are not finite, so that they cannot set a threshold."""
    count = np.count_nonzero(~np.isfinite(scores))
    if count:
        raise ValueError(
            f"{count} of {len(scores)} scores of {name} are NaN or infinite, so they cannot set a "
            "threshold. Use a density whose kernels have no end and whose covariance is not "
            "singular."
        )


def conformal_offset(scores: np.ndarray, max_fpr: float) -> float:
    """Return the threshold below which a new normal image scores with probability <= ``max_fpr``.

    It is the k-th smallest of n calibration scores, k = floor(max_fpr (n + 1)). One more
    exchangeable score is below it with a probability of at most k / (n + 1).
    """
    k = min(int(np.floor(max_fpr * (len(scores) + 1) + 1e-9)), len(scores))
    return float(np.sort(scores)[k - 1])


def labels_from_decision(distances: np.ndarray) -> np.ndarray:
    """Return +1 for distances from the threshold of 0 or more, -1 if negative or not finite."""
    return np.where(np.isfinite(distances) & (distances >= 0), 1, -1)


def conformal_pvalues(calibration_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (1 + number of calibration scores <= score) / (n + 1) for each score.

    A score that is not finite counts as lower than all others.
    """
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    below = np.searchsorted(np.sort(calibration_scores), scores, side="right")
    return (1 + below) / (len(calibration_scores) + 1)


def best_offset(scores: np.ndarray, y: np.ndarray, scoring: str | Callable[..., Any]) -> float:
    """Return the threshold at which the predicted labels maximise a metric.

    Candidates are all cuts between neighbouring scores, below all scores and above all scores. Of
    several best ones, the middle one is taken. A cut at which the metric is NaN, such as a
    precision without predictions, is not the best.
    """
    values = np.unique(scores)
    cuts = np.r_[values[0], (values[1:] + values[:-1]) / 2, np.nextafter(values[-1], np.inf)]
    scorer = check_scoring(_Cut(0.0), scoring)
    # A named metric does not improve with one more error. So it is computed only at cuts where the
    # labels of the neighbours change, and is no better between these.
    candidates = (
        _label_changes(values, scores, y) if isinstance(scoring, str) else np.arange(len(cuts))
    )
    metrics = np.array([_score_cut(scorer, scoring, cuts[i], scores, y) for i in candidates])
    if np.isnan(metrics).all():
        raise ValueError(
            f"scoring={scoring!r} is NaN for every threshold on X and y. Pass another metric."
        )
    is_best = metrics == np.nanmax(metrics)
    best: list[int] = []
    for i, first in enumerate(candidates):
        if is_best[i]:
            # cuts between two candidates of equal metric have the same metric
            next_is_best = i + 1 < len(candidates) and is_best[i + 1]
            best += range(first, candidates[i + 1]) if next_is_best else [first]
    return float(cuts[best[len(best) // 2]])


def _label_changes(values: np.ndarray, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return indices of the first cut, the last, and those between scores of different labels."""
    index = np.searchsorted(values, scores)
    means = np.bincount(index, y) / np.bincount(index)  # of the labels, +1 or -1 if all are equal
    same = (means[1:] == means[:-1]) & (np.abs(means[1:]) == 1)
    return np.r_[0, 1 + np.flatnonzero(~same), len(values)]


def _score_cut(
    scorer: Callable[..., Any],
    scoring: str | Callable[..., Any],
    cut: float,
    scores: np.ndarray,
    y: np.ndarray,
) -> float:
    """Return the value of a scorer at a cut."""
    try:
        value = scorer(_Cut(cut), scores[:, None], y)
    except AttributeError as error:  # the scorer needs more than labels
        raise ValueError(
            f"scoring={scoring!r} is not a metric of labels: {error}. Pass one that compares "
            "labels, such as 'balanced_accuracy'."
        ) from error
    if not isinstance(value, Real):
        raise ValueError(
            f"scoring={scoring!r} returned {value!r}, which is not a number. Pass a scorer that "
            "returns one."
        )
    return float(value)


class _Cut(ClassifierMixin, BaseEstimator):
    """Labels +1 and -1 from a column of scores, as a fitted classifier."""

    classes_ = np.array([-1, 1])

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.where(X[:, 0] < self.offset, -1, 1)
