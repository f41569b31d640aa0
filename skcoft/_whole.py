"""Evidence of whole images: a density of their embeddings."""

from functools import partial

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupKFold
from sklearn.utils.validation import has_fit_parameter

from .density import GaussianDensity, KernelDensity

DENSITIES = {
    "images": {"kde": partial(KernelDensity, covariance_type="full"), "gaussian": GaussianDensity},
    "rows": {"kde": KernelDensity, "gaussian": GaussianDensity},
}
MOST_FOLDS = 10


class WholeImage:
    """A part, see ``_parts.py``: any density of the embeddings of shots and their views."""

    needs_positions = False
    weight = 1.0

    def __init__(self, density):
        self.density = density

    @classmethod
    def build(cls, settings, encoder):
        """Build the part that ``density`` asks for."""
        density = settings.density
        named = DENSITIES[encoder.network.kind]
        return cls(named[density]() if isinstance(density, str) else density)

    def fit(self, support):
        """Fit the density, and others that have not seen one shot, or a tenth of them."""
        support = support.without_probes()
        self.fitted = fit_density(self.density, support.embeddings, support.shots)
        groups, rows = support.groups, support.calibrating
        # one shot's views are left out one by one, which moves the scale of most densities
        single = support.n_shots == 1 and not hasattr(self.fitted, "fit_at_scale_of")
        if len(groups) == 1 or single:
            self.held_out = np.asarray(self.fitted.score_samples(support.embeddings[rows]))
        else:
            self.held_out = held_out_scores(self.fitted, support.embeddings_unseen, groups, rows)
        return self

    @staticmethod
    def keep(features):
        """Embeddings of a batch, which densities share: so it is not of this one."""
        return features.embeddings

    def score(self, embeddings):
        """Log density of embeddings."""
        return np.asarray(self.fitted.score_samples(embeddings), dtype=np.float64)

    def in_sample(self, support):
        """Log density of the shots, kernels on themselves included."""
        return self.score(support.embeddings[support.own])


def fit_density(density, embeddings, shots):
    """Fit a clone of ``density``; densities that know groups are told the shots."""
    density = clone(density)
    if has_fit_parameter(density, "groups"):
        return density.fit(embeddings, groups=shots)
    return density.fit(embeddings)


def held_out_scores(fitted, embed, groups, rows):
    """Score some rows by densities that have seen no row of their group.

    ``fitted`` is the density of all groups, ``embed`` gives the embeddings of all rows by what
    those of a mask know, ``rows`` marks what to score. Up to ten groups are
    left out one at a time, more of them in ten folds. In hundreds of dimensions the normalising
    constant moves by far more than scores differ, so densities that offer it
    (``fit_at_scale_of``) keep the scale of the one fitted on all groups.
    """
    folds = GroupKFold(min(len(np.unique(groups)), MOST_FOLDS))
    scores = np.full(len(groups), np.nan)
    for seen, unseen in folds.split(groups, groups=groups):
        known = np.zeros(len(groups), dtype=bool)
        known[seen] = True
        embeddings = embed(known)
        unseen = unseen[rows[unseen]]
        if hasattr(fitted, "fit_at_scale_of"):
            known = {"groups": groups[seen]} if has_fit_parameter(fitted, "groups") else {}
            fold = clone(fitted).fit_at_scale_of(fitted, embeddings[seen], **known)
        else:
            fold = fit_density(fitted, embeddings[seen], groups[seen])
        scores[unseen] = fold.score_samples(embeddings[unseen])
    return scores[rows]
