"""Where normal ends: a threshold on scores from a handful of normal shots."""

import warnings

import numpy as np
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GroupKFold
from sklearn.utils.validation import has_fit_parameter

FALSE_ALARMS = 0.05
MOST_FOLDS = 10


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


def automatic_offset(scores):
    """Threshold below which about 5 % of unseen normal images fall.

    The lower end of a one-sided Student prediction interval of the shots' held-out scores,
    which widens as the shots get fewer.
    """
    k = len(scores)
    width = stats.t.ppf(1 - FALSE_ALARMS, k - 1) * np.sqrt(1 + 1 / k)
    return float(scores.mean() - width * scores.std(ddof=1))


def join_densities(fitted, local, embeddings, shots, own, contamination):
    """Return the weight of the local log density (0 without one) and the threshold.

    The weight makes the held-out scores of both densities vary alike. A single shot has only its
    views to hold out, one at a time; the lowest of their scores is then the threshold, and a
    warning says so.
    """
    single = len(np.unique(shots)) == 1
    if local is not None:
        rows = local.calibrated
    else:
        rows = np.ones_like(own) if single else own
    weight, scores = 0.0, None
    if local is not None or contamination == "auto":
        groups = np.arange(len(shots)) if single else shots
        if len(groups) == 1 or (single and not hasattr(fitted, "fit_at_scale_of")):
            scores = np.asarray(fitted.score_samples(embeddings[rows]))
        else:
            scores = held_out_scores(fitted, embeddings, groups, rows)
    if local is not None:
        weight = float(scores.std() / local.scale) or 1.0
        scores = scores + weight * (local.held_out - local.location)
    if contamination != "auto":
        training = np.asarray(fitted.score_samples(embeddings[own]))
        if local is not None:
            training = training + weight * (local.in_sample - local.location)
        return weight, float(np.percentile(training, 100 * contamination))
    if single:
        warnings.warn(
            "contamination='auto' cannot calibrate a threshold on one image: score_samples ranks "
            "images, but predict's threshold is only that image's lowest-scoring view. Pass at "
            "least 2 images.",
            stacklevel=4,
        )
        return weight, float(scores.min())
    return weight, automatic_offset(scores[own[rows]])
