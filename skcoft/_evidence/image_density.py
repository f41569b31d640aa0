"""Evidence of whole images: a density of their embeddings."""

from functools import partial

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from ..density import GaussianDensity, KernelDensity
from .standardization import location_of, scale_of

DENSITIES = {
    "images": {"kde": partial(KernelDensity, covariance_type="full"), "gaussian": GaussianDensity},
    "tabular": {"kde": KernelDensity, "gaussian": GaussianDensity},
}
MOST_FOLDS = 10


class ImageDensity:
    """A part, see ``_parts.py``: any density of the embeddings of shots and their views."""

    needs_patches = False
    weight = 1.0

    def __init__(self, density):
        self.density = density

    @classmethod
    def build(cls, settings, encoder):
        """Build the part that ``density`` asks for."""
        density, named = settings.density, DENSITIES[encoder.network.input_type]
        several = isinstance(density, (list, tuple))
        members = [
            cls(named[one]() if isinstance(one, str) else one)
            for one in (density if several else [density])
        ]
        return MeanOfDensities(members) if several else members[0]

    def fit(self, support):
        """Fit the density, and others that have not seen one shot, or a tenth of them."""
        support = support.without_probes()
        self.fitted = fit_density(self.density, support.embeddings, support.shot_ids)
        groups, rows = support.groups, support.is_calibration
        # one shot's views are left out one by one, which moves the scale of most densities
        single = support.n_shots == 1 and not hasattr(self.fitted, "fit_at_scale_of")
        if len(groups) == 1 or single:
            self.held_out_scores = self.score(support.embeddings[rows])
        else:
            self.held_out_scores = score_held_out(
                self.fitted, support.embeddings_held_out, groups, rows
            )
        return self

    @staticmethod
    def summarize(features):
        """Embeddings of a batch, which densities share: so it is not of this one."""
        return features.embeddings

    def score(self, embeddings):
        """Log density of embeddings."""
        return score_embeddings(self.fitted, embeddings)

    def score_training(self, support):
        """Log density of the shots, kernels on themselves included."""
        return self.score(support.embeddings[support.is_shot])


class MeanOfDensities:
    """A part: the mean of several densities, each brought to one scale by held-out shots.

    The scale is the first one's, so that a list of one density is that density.
    """

    needs_patches = False
    weight = 1.0
    summarize = staticmethod(ImageDensity.summarize)

    def __init__(self, members):
        self.members = members

    def fit(self, support):
        """Fit every density, and those that have not seen one shot."""
        for member in self.members:
            member.fit(support)
        self.held_out_scores = self._mean([member.held_out_scores for member in self.members])
        return self

    @property
    def fitted(self):
        """The fitted densities."""
        return [member.fitted for member in self.members]

    @property
    def levels(self):
        """Mean and standard deviation, 1 where it is 0, of each density's held-out scores."""
        return [(location_of(member), scale_of(member)) for member in self.members]

    def score(self, embeddings):
        """Mean score of embeddings."""
        return self._mean([member.score(embeddings) for member in self.members])

    def score_training(self, support):
        """Mean score of the shots, kernels on themselves included."""
        return self._mean([member.score_training(support) for member in self.members])

    def _mean(self, scores):
        levels = self.levels
        standard = [
            (found - mean) / deviation
            for found, (mean, deviation) in zip(scores, levels, strict=True)
        ]
        mean, deviation = levels[0]
        return mean + deviation * np.mean(standard, axis=0)


def fit_density(density, embeddings, shots):
    """Fit a clone of ``density``; densities that know groups are told the shots."""
    density = clone(density)
    known = {"groups": shots} if has_fit_parameter(density, "groups") else {}
    try:
        density.fit(embeddings, **known)
    except ValueError as error:  # such as more neighbours than there are rows
        raise ValueError(
            f"density={density!r} cannot be fitted on {len(embeddings)} embeddings (of "
            f"{len(np.unique(shots))} shots): {error}"
        ) from error
    if not (is_pyod_detector(density) or hasattr(density, "score_samples")):
        raise ValueError(
            f"density={density!r} has decision_function alone, and not PyOD's decision_scores_: "
            "nothing tells whether a higher value is more normal or more anomalous. Give it "
            "score_samples, higher = more normal."
        )
    return density


def is_pyod_detector(fitted):
    """Whether a fitted density, or a pipeline's last step, follows PyOD's contract."""
    last = fitted[-1] if isinstance(fitted, Pipeline) else fitted
    return hasattr(last, "decision_scores_")


def score_embeddings(fitted, embeddings):
    """Score embeddings by a fitted density, higher = more normal."""
    if is_pyod_detector(fitted):
        return scores_by_pyod(fitted, embeddings)
    return np.asarray(fitted.score_samples(embeddings), dtype=np.float64)


def scores_by_pyod(fitted, embeddings):
    """Turn PyOD's scores round.

    Some of its detectors, such as ECOD, count the rows of a call as data: each is then scored in
    a call of its own, so that its score does not depend on the others.
    """

    def score(rows):
        return -np.asarray(fitted.decision_function(rows), dtype=np.float64)

    try:
        scores, first = score(embeddings), score(embeddings[:1])
        if not np.allclose(scores[:1], first, rtol=1e-4):
            scores = np.concatenate([score(row[None]) for row in embeddings])
    except Exception as error:  # whatever a detector says that compares the rows of a call
        raise ValueError(f"density={fitted!r} cannot score an embedding alone: {error}") from error
    return scores


def leave_shots_out(groups):
    """Yield indices (seen, unseen): up to ten groups are left out one by one, more in tenths."""
    folds = GroupKFold(min(len(np.unique(groups)), MOST_FOLDS))
    return folds.split(groups, groups=groups)


def score_held_out(fitted, embed, groups, rows):
    """Score some rows by densities that have seen no row of their group.

    ``fitted`` is the density of all groups, ``embed`` gives the embeddings of all rows by what
    those of a mask know, ``rows`` marks what to score. Up to ten groups are
    left out one at a time, more of them in ten folds. In hundreds of dimensions the normalising
    constant moves by far more than scores differ, so densities that offer it
    (``fit_at_scale_of``) keep the scale of the one fitted on all groups.
    """
    scores = np.full(len(groups), np.nan)
    for seen, unseen in leave_shots_out(groups):
        known = np.zeros(len(groups), dtype=bool)
        known[seen] = True
        embeddings = embed(known)
        unseen = unseen[rows[unseen]]
        if hasattr(fitted, "fit_at_scale_of"):
            known = {"groups": groups[seen]} if has_fit_parameter(fitted, "groups") else {}
            fold = clone(fitted).fit_at_scale_of(fitted, embeddings[seen], **known)
        else:
            fold = fit_density(fitted, embeddings[seen], groups[seen])
        scores[unseen] = score_embeddings(fold, embeddings[unseen])
    return scores[rows]
