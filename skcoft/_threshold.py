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


def held_out_scores(fitted, embeddings, shots, own):
    """Score every shot by a density that has seen no view of it.

    ``fitted`` is the density of all shots, ``own`` marks the rows that are shots themselves
    rather than views. Up to ten shots are left out one at a time, more of them in ten folds. In
    hundreds of dimensions the normalising constant moves by far more than scores differ, so
    densities that offer it (``fit_at_scale_of``) keep the scale of the one fitted on all shots.
    """
    folds = GroupKFold(min(len(np.unique(shots)), MOST_FOLDS))
    scores = np.full(len(shots), np.nan)
    for seen, unseen in folds.split(embeddings, groups=shots):
        unseen = unseen[own[unseen]]
        if hasattr(fitted, "fit_at_scale_of"):
            fold = clone(fitted).fit_at_scale_of(fitted, embeddings[seen])
        else:
            fold = fit_density(fitted, embeddings[seen], shots[seen])
        scores[unseen] = fold.score_samples(embeddings[unseen])
    return scores[own]


def automatic_offset(fitted, embeddings, shots, own):
    """Threshold below which about 5 % of unseen normal images fall.

    The lower end of a one-sided Student prediction interval of the held-out scores, which
    widens as the shots get fewer. One shot leaves nothing to hold out: the lowest score of its
    views is taken and a warning says so.
    """
    k = len(np.unique(shots))
    if k == 1:
        warnings.warn(
            "contamination='auto' cannot calibrate a threshold on one image: score_samples ranks "
            "images, but predict's threshold is only that image's lowest-scoring view. Pass at "
            "least 2 images.",
            stacklevel=3,
        )
        return float(np.min(fitted.score_samples(embeddings)))
    scores = held_out_scores(fitted, embeddings, shots, own)
    width = stats.t.ppf(1 - FALSE_ALARMS, k - 1) * np.sqrt(1 + 1 / k)
    return float(scores.mean() - width * scores.std(ddof=1))
