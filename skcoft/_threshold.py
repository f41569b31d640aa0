"""Where normal ends: a threshold on scores from a handful of normal shots."""

import warnings

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import GroupKFold
from sklearn.utils.validation import has_fit_parameter

FALSE_ALARMS = 0.05
MOST_FOLDS = 10
MOST_ALIKE = 100.0
FEWEST = 3  # shots that contamination="auto" can be calibrated on


def fit_density(density, embeddings, shots):
    """Fit a clone of ``density``; densities that know groups are told the shots."""
    density = clone(density)
    if has_fit_parameter(density, "groups"):
        return density.fit(embeddings, groups=shots)
    return density.fit(embeddings)


def held_out_scores(fitted, embeddings, shots, rows):
    """Score some rows by densities that have seen no view of their shot.

    ``fitted`` is the density of all shots, ``rows`` marks what to score. Up to ten shots are left
    out one at a time, more of them in ten folds. In hundreds of dimensions the normalising
    constant moves by far more than scores differ, so densities that offer it
    (``fit_at_scale_of``) keep the scale of the one fitted on all shots.
    """
    folds = GroupKFold(min(len(np.unique(shots)), MOST_FOLDS))
    scores = np.full(len(shots), np.nan)
    for seen, unseen in folds.split(embeddings, groups=shots):
        unseen = unseen[rows[unseen]]
        if hasattr(fitted, "fit_at_scale_of"):
            fold = clone(fitted).fit_at_scale_of(fitted, embeddings[seen])
        else:
            fold = fit_density(fitted, embeddings[seen], shots[seen])
        scores[unseen] = fold.score_samples(embeddings[unseen])
    return scores[rows]


def join_densities(fitted, local, embeddings, shots, own, mirrored):
    """Return the weight of the local log density (0 without one) and held-out scores of shots.

    ``own`` marks the shots themselves and ``mirrored`` their mirror images, if these count.

    The weight makes the held-out scores of both densities vary alike, times the :func:`likeness`
    of the shots, by their local embeddings averaged over positions. A single shot has only its
    views to hold out, one at a time. Of fewer than ``FEWEST`` shots, scores of all their views
    follow.
    """
    single, few = own.sum() == 1, own.sum() < FEWEST
    if local is not None:
        rows = local.calibrated
    else:
        rows = np.ones_like(own) if few else own | mirrored
    groups = np.arange(len(shots)) if single else shots
    if len(groups) == 1 or (single and not hasattr(fitted, "fit_at_scale_of")):
        scores = np.asarray(fitted.score_samples(embeddings[rows]))
    else:
        scores = held_out_scores(fitted, embeddings, groups, rows)
    weight = 0.0
    if local is not None:
        weight = float(scores.std() / local.scale) or 1.0
        weight *= likeness(local.means[~mirrored], shots[~mirrored], own[~mirrored])
        scores = scores + weight * (local.held_out - local.location)
    sides = mean_of_sides(scores, own[rows], mirrored[rows])
    return weight, np.append(sides, scores[~(own | mirrored)[rows]]) if few else sides


def mean_of_sides(scores, own, mirrored):
    """Mean score of each shot and, where there is one, its mirror image."""
    if not mirrored.any():
        return scores[own]
    return (scores[own] + scores[mirrored]) / 2


def likeness(embeddings, shots, own):
    """How alike the shots are: 1 where they differ as much as views of one shot do, more if less.

    The expected squared distance of two independent views of a shot, which is twice that of a view
    from its shot, over the mean squared distance of two shots. At most ``MOST_ALIKE``, which equal
    shots reach; 1 where there is no pair of either.
    """
    firsts, owners = embeddings[own], shots[own]
    n = len(firsts)
    if n == 1 or own.all():
        return 1.0
    between = 2 * n / (n - 1) * firsts.var(axis=0).sum()
    order = np.argsort(owners)
    views, names = embeddings[~own], shots[~own]
    shot_of_view = firsts[order[np.searchsorted(owners, names, sorter=order)]]
    within = 2 * np.square(views - shot_of_view).sum(axis=1).mean()
    return float(within / max(between, within / MOST_ALIKE)) if within else 1.0


def automatic_offset(scores, n_shots):
    """Threshold below which about 5 % of unseen normal images fall, from held-out scores.

    The lower end of a one-sided Student prediction interval, which widens as the shots get fewer.
    A held-out score sums up n - 1 distances to other shots, of which any two scores share one. So
    they correlate by about 1 / (n - 1): they scatter less than scores of unseen images, and their
    mean varies as 2 / n. Two shots have one distance and nothing to tell its scatter by: of them,
    and of a single shot, it is the lowest score of a shot or view, with a warning.
    """
    if n_shots < FEWEST:
        warnings.warn(
            f"contamination='auto' cannot calibrate a threshold on {n_shots} of the at least "
            f"{FEWEST} normal images that it needs: score_samples ranks images, but predict's "
            "threshold is only the lowest score of a shot or a view of one.",
            stacklevel=4,
        )
        return float(scores.min())
    spread = scores.std(ddof=1) / np.sqrt(1 - 1 / (n_shots - 1))
    width = stats.t.ppf(1 - FALSE_ALARMS, n_shots - 1) * np.sqrt(1 + 2 / n_shots)
    return float(scores.mean() - width * spread)


def conformal_offset(scores, max_fpr):
    """Threshold below which unseen normal images fall with a probability of ``max_fpr`` at most.

    The k-th smallest of n calibration scores, k = floor(max_fpr (n + 1)), is undercut by one more
    exchangeable score with a probability of at most k / (n + 1).
    """
    k = int(np.floor(max_fpr * (len(scores) + 1) + 1e-9))
    return float(np.sort(scores)[k - 1])


def conformal_pvalues(calibration, scores):
    """Share, of n calibration scores and the score itself, that is not above it."""
    below = np.searchsorted(np.sort(calibration), scores, side="right")
    return (1 + below) / (len(calibration) + 1)


def best_offset(scores, y, scoring):
    """Threshold on ``scores`` at which predicted labels do best by a scorer or its name.

    Of all cuts between neighbouring scores; where some tie, the one in their middle.
    """
    values = np.unique(scores)
    cuts = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2])
    scorer = check_scoring(_Cut(0.0), scoring)
    found = np.array([scorer(_Cut(cut), scores[:, None], y) for cut in cuts])
    best = np.flatnonzero(found == found.max())
    return float(cuts[best[len(best) // 2]])


class _Cut(ClassifierMixin, BaseEstimator):
    """Labels of +1 and -1 from a column of scores, as a fitted classifier."""

    classes_ = np.array([-1, 1])

    def __init__(self, offset):
        self.offset = offset

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.where(X[:, 0] < self.offset, -1, 1)
