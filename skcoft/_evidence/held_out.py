"""Scores of rows by densities of the other groups, as of images that were not in ``fit``."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupKFold

from .._network.support import Support
from .density_calls import fit_density, fit_options, score_embeddings
from .gram import Gram, can_use_gram

MAX_FOLDS = 10


def score_calibration_rows(fitted: Any, support: Support) -> np.ndarray:
    """Return scores of the calibration rows by densities that were fitted without their group.

    ``fitted`` is the density of all rows. The scores are those of :func:`score_held_out`. For
    images and the densities of this package, they are computed from inner products, which takes a
    fraction of the time.
    """
    groups, is_scored = support.groups, support.is_calibration
    if support.standardizer is None and can_use_gram(fitted, support.embeddings, support.moves):
        try:
            return score_by_gram(fitted, support, groups, is_scored)
        except np.linalg.LinAlgError:  # too few digits, for example of images that hardly differ
            pass
    embed, moves_of = support.embeddings_held_out, support.moves_held_out
    return score_held_out(fitted, embed, groups, is_scored, moves_of)


def score_by_gram(
    fitted: Any, support: Support, groups: np.ndarray, is_scored: np.ndarray
) -> np.ndarray:
    """Return the scores of :func:`score_held_out` of a support; see :class:`Gram`."""
    gram = Gram.of(support.embeddings, support.moves)
    scores = np.full(len(groups), np.nan)
    for train, test in leave_groups_out(groups):
        moves = np.flatnonzero(support.selected_moves(np.isin(np.arange(len(groups)), train)))
        test = test[is_scored[test]]
        scores[test] = gram.score(fitted, train, test, groups[train], moves)
    return scores[is_scored]


def leave_groups_out(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (train, test) row indices: at most ten folds of whole groups."""
    folds = GroupKFold(min(len(np.unique(groups)), MAX_FOLDS))
    return folds.split(groups, groups=groups)


def score_held_out(
    fitted: Any,
    embed: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray,
    is_scored: np.ndarray,
    moves_of: Callable[[np.ndarray], np.ndarray | None] = lambda is_training: None,
) -> np.ndarray:
    """Return scores of some rows by densities that were fitted without the group of the row.

    Up to ten groups are left out one at a time. More groups are left out in ten folds. In hundreds
    of dimensions the normalising constant varies far more than scores do. So densities that offer
    ``fit_at_scale_of`` keep the scale of the density of all groups.

    Parameters
    ----------
    fitted : estimator
        Density of all groups.
    embed : callable
        Returns the embeddings of all rows by a network that is fitted on the rows of a mask.
    groups : ndarray of shape (n_rows,)
        Group of each row.
    is_scored : ndarray of bool, shape (n_rows,)
        Rows to score.
    moves_of : callable
        Returns how harmless changes move the embeddings of the rows of a mask, if it is known.
    """
    scores = np.full(len(groups), np.nan)
    for train, test in leave_groups_out(groups):
        is_training = np.isin(np.arange(len(groups)), train)
        embeddings, moves = embed(is_training), moves_of(is_training)
        test = test[is_scored[test]]
        if hasattr(fitted, "fit_at_scale_of"):
            options = fit_options(fitted, groups[train], moves)
            fold = clone(fitted).fit_at_scale_of(fitted, embeddings[train], **options)
        else:
            fold = fit_density(fitted, embeddings[train], groups[train], moves)
        scores[test] = score_embeddings(fold, embeddings[test])
    return scores[is_scored]
