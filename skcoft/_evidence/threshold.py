"""Where normal ends: a threshold on scores from a handful of normal shots."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import check_scoring

from .._input.shots import mean_per_shot
from .._network.support import SHOT, VIEW
from .._utils.warning import warn_user

FALSE_ALARMS = 0.05
FEWEST = 3  # shots that a limit can be calibrated on


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


def automatic_offset(scores, of_views):
    """Threshold below which about 5 % of unseen normal images fall; see :func:`lower_limit`.

    Warns where the shots are too few for it.
    """
    n = len(scores)
    if n < FEWEST:
        warn_user(
            f"contamination='auto' cannot calibrate a threshold on {n} of the at least "
            f"{FEWEST} normal images that it needs: score_samples ranks images, but predict's "
            "threshold is only the lowest score of a shot or a view of one.",
        )
    return lower_limit(scores, of_views)


def lower_limit(scores, of_views):
    """Limit below which about 5 % of unseen normal images fall, from held-out scores.

    The lower end of a one-sided Student prediction interval, which widens as the shots get fewer.
    A held-out score sums up n - 1 distances to other shots, of which any two scores share one. So
    they correlate by about 1 / (n - 1): they scatter less than scores of unseen images, and their
    mean varies as 2 / n. Two shots have one distance and nothing to tell its scatter by: of them,
    and of a single shot, it is the lowest score of a shot or view.

    ``scores`` are those of the n shots, ``of_views`` those of their views, if they were scored.
    """
    n = len(scores)
    if n < FEWEST:
        return float(min([*scores, *of_views]))
    spread = scores.std(ddof=1) / np.sqrt(1 - 1 / (n - 1))
    width = stats.t.ppf(1 - FALSE_ALARMS, n - 1) * np.sqrt(1 + 2 / n)
    return float(scores.mean() - width * spread)


def map_threshold(joint, roles, ids):
    """Value of maps that about 5 % of unseen normal images pass; None without maps.

    ``roles`` are those of the calibrating rows, ``ids`` say which shot each image belongs to.
    """
    if not joint.map_components():
        return None
    lows = -joint.held_out_map_maxima()
    return -lower_limit(mean_per_shot(lows[roles == SHOT], ids), lows[roles == VIEW])


def check_finite_scores(scores, name):
    """Raise ValueError where some scores are NaN or infinite: no threshold can be set on these."""
    bad = np.count_nonzero(~np.isfinite(scores))
    if bad:
        raise ValueError(
            f"{bad} of {len(scores)} scores of {name} are NaN or infinite, so no threshold can be "
            "set by them. Densities whose kernels end or whose covariance is singular give such."
        )


def conformal_offset(scores, max_fpr):
    """Threshold below which unseen normal images fall with a probability of ``max_fpr`` at most.

    The k-th smallest of n calibration scores, k = floor(max_fpr (n + 1)), is undercut by one more
    exchangeable score with a probability of at most k / (n + 1).
    """
    k = min(int(np.floor(max_fpr * (len(scores) + 1) + 1e-9)), len(scores))
    return float(np.sort(scores)[k - 1])


def labels_from_decision(distances):
    """Return +1 for normal and -1 for anomalous, as what is not finite is."""
    return np.where(np.isfinite(distances) & (distances >= 0), 1, -1)


def conformal_pvalues(calibration, scores):
    """Share, of n calibration scores and the score itself, that is not above it.

    A score that is not finite is below all others.
    """
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    below = np.searchsorted(np.sort(calibration), scores, side="right")
    return (1 + below) / (len(calibration) + 1)


def best_offset(scores, y, scoring):
    """Threshold on ``scores`` at which predicted labels do best by a scorer or its name.

    Of all cuts between neighbouring scores, below and above all; where some tie, the one in their
    middle. A cut at which a metric is NaN, such as a share of nothing, is not the best.
    """
    values = np.unique(scores)
    cuts = np.r_[values[0], (values[1:] + values[:-1]) / 2, np.nextafter(values[-1], np.inf)]
    scorer = check_scoring(_Cut(0.0), scoring)
    # a named metric gains nothing by a mistake more: between two cuts at which the labels of the
    # neighbours change, it is no better than at these
    tried = (
        _where_labels_change(values, scores, y) if isinstance(scoring, str) else range(len(cuts))
    )
    found = np.full(len(cuts), np.nan)
    for i in tried:
        found[i] = _value(scorer, scoring, cuts[i], scores, y)
    known = found[tried]
    if np.isnan(known).all():
        raise ValueError(f"scoring={scoring!r} is NaN for every threshold on X and y.")
    best = known == np.nanmax(known)
    for i, first in enumerate(tried[:-1]):  # what lies between two that tie ties with them
        if best[i] and best[i + 1]:
            found[first : tried[i + 1]] = known[i]
    best = np.flatnonzero(found == np.nanmax(known))
    return float(cuts[best[len(best) // 2]])


def _where_labels_change(values, scores, y):
    """Return the first cut, the last, and those between scores that are not of one label alone."""
    at = np.searchsorted(values, scores)
    normal = np.bincount(at, y == 1, len(values)) > 0
    anomalous = np.bincount(at, y == -1, len(values)) > 0
    same = (
        (normal[1:] != anomalous[1:])
        & (normal[1:] == normal[:-1])
        & (anomalous[1:] == anomalous[:-1])
    )
    return np.r_[0, 1 + np.flatnonzero(~same), len(values)]


def _value(scorer, scoring, cut, scores, y):
    """Value of a scorer at a cut."""
    try:
        value = scorer(_Cut(cut), scores[:, None], y)
    except AttributeError as error:  # it asks for more than labels
        raise ValueError(
            f"scoring={scoring!r} is no metric of labels, which a threshold could change: {error}"
        ) from error
    if not isinstance(value, Real):
        raise ValueError(f"scoring={scoring!r} must give a number; got {value!r}.")
    return value


class _Cut(ClassifierMixin, BaseEstimator):
    """Labels of +1 and -1 from a column of scores, as a fitted classifier."""

    classes_ = np.array([-1, 1])

    def __init__(self, offset):
        self.offset = offset

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.where(X[:, 0] < self.offset, -1, 1)
