"""Component for whole images: a density of their embeddings."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter
from torch import nn

from .._input.defaults import InputDefaults
from .._network.encoder import Encoder, embeddings_of
from .._network.support import Support
from .._utils.settings import DetectorSettings
from ..density import GaussianDensity, KernelDensity
from .standardization import Standardization
from .torch_density import doubles, graph_of_density

# What ``density`` accepts by name.
DENSITIES: dict[str, Callable[[InputDefaults], BaseEstimator]] = {
    "kde": lambda defaults: KernelDensity(covariance_type=defaults.kernel_covariance),
    "gaussian": lambda defaults: GaussianDensity(),
}
MAX_FOLDS = 10


class ImageDensity:
    """A density of the embeddings of shots and their views, see :class:`ScoreComponent`."""

    needs_patches: ClassVar[bool] = False
    state_fields: ClassVar[dict[str, Any]] = {
        "density": (KernelDensity, GaussianDensity),
        "fitted": (KernelDensity, GaussianDensity),
        "held_out_scores": "f8 K",
    }
    weight = 1.0
    summarize = staticmethod(embeddings_of)

    def __init__(self, density: Any) -> None:
        self.density = density

    @classmethod
    def build(cls, settings: DetectorSettings, encoder: Encoder) -> "Self | MeanOfDensities":
        """Return the component for ``density``, which may be a list."""
        if isinstance(settings.density, (list, tuple)):
            return MeanOfDensities.build(settings, encoder)
        return cls(build_density(settings.density, encoder))

    @property
    def densities(self) -> list[Any]:
        """The density, not fitted."""
        return [self.density]

    def fit(self, support: Support) -> Self:
        """Fit the density, and densities of the other shots for held-out scores."""
        support = support.without_probes()
        rows = support.embeddings, support.shot_ids, support.moves
        self.fitted = fit_density(self.density, *rows)
        groups, is_calibration = support.groups, support.is_calibration
        # the views of a single shot are left out one by one, which changes the scale of most
        # densities
        single = support.n_shots == 1 and not hasattr(self.fitted, "fit_at_scale_of")
        if len(groups) == 1 or single:
            self.held_out_scores = self.score(support.embeddings[is_calibration])
        else:
            held_out = support.embeddings_held_out, groups, is_calibration, support.moves_held_out
            self.held_out_scores = score_held_out(self.fitted, *held_out)
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the log density of embeddings."""
        return score_embeddings(self.fitted, embeddings)

    def to_graph(self) -> nn.Module:
        """Return the density as a module of embeddings."""
        return graph_of_density(self.fitted)


class MeanOfDensities:
    """The mean of several densities after standardisation, see :class:`ScoreComponent`.

    The mean is on the scale of the first density.
    """

    needs_patches: ClassVar[bool] = False
    state_fields: ClassVar[dict[str, Any]] = {
        "members": [ImageDensity],
        "held_out_scores": "f8 K",
    }
    weight = 1.0
    summarize = staticmethod(embeddings_of)

    def __init__(self, members: list[ImageDensity]) -> None:
        self.members = members

    @classmethod
    def build(cls, settings: DetectorSettings, encoder: Encoder) -> Self:
        """Return the component for a list of densities."""
        return cls([ImageDensity(build_density(each, encoder)) for each in settings.density])

    @property
    def densities(self) -> list[Any]:
        """The densities, not fitted."""
        return [member.density for member in self.members]

    def fit(self, support: Support) -> Self:
        """Fit every density, and densities of the other shots for held-out scores."""
        for member in self.members:
            member.fit(support)
        self.held_out_scores = self._mean([member.held_out_scores for member in self.members])
        return self

    @property
    def fitted(self) -> list[Any]:
        """The fitted densities."""
        return [member.fitted for member in self.members]

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the mean score of embeddings."""
        return self._mean([member.score(embeddings) for member in self.members])

    def to_graph(self) -> nn.Module:
        """Return the mean as a module of embeddings."""
        return MeanGraph([member.to_graph() for member in self.members], self._standardizations())

    def _standardizations(self) -> list[Standardization]:
        return [Standardization.from_held_out(member.held_out_scores) for member in self.members]

    def _mean(self, scores: list[np.ndarray]) -> np.ndarray:
        scales = self._standardizations()
        standardised = [scale.apply(values) for scale, values in zip(scales, scores, strict=True)]
        return scales[0].invert(np.mean(standardised, axis=0))


class MeanGraph(nn.Module):
    """The mean of several densities of embeddings, as :class:`MeanOfDensities`."""

    def __init__(self, members: list[nn.Module], scales: list[Standardization]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.means = doubles([scale.mean for scale in scales])
        self.stds = doubles([scale.std for scale in scales])

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        scores = torch.stack([member(embeddings) for member in self.members], 1)
        standardised = Standardization(self.means, self.stds).apply(scores)
        return Standardization(self.means[0], self.stds[0]).invert(standardised.mean(1))


def build_density(density: Any, encoder: Encoder) -> BaseEstimator:
    """Return the unfitted density that a name stands for, or the density itself."""
    return DENSITIES[density](encoder.network.defaults) if isinstance(density, str) else density


def fit_density(
    density: Any,
    embeddings: np.ndarray,
    shot_ids: np.ndarray,
    moves: np.ndarray | None = None,
) -> Any:
    """Return a clone of a density, fitted on embeddings; see :func:`fit_options`."""
    density = clone(density)
    options = fit_options(density, shot_ids, moves)
    try:
        density.fit(embeddings, **options)
    except ValueError as error:  # for example, more neighbours than rows
        raise ValueError(
            f"density={density!r} cannot be fitted on {len(embeddings)} embeddings (of "
            f"{len(np.unique(shot_ids))} shots): {error}"
        ) from error
    if not (is_pyod_detector(density) or hasattr(density, "score_samples")):
        raise ValueError(
            f"density={density!r} has decision_function, but neither score_samples nor PyOD's "
            "decision_scores_, so it is unknown whether high values are normal. Pass a density "
            "with score_samples, for which higher is more normal."
        )
    return density


def fit_options(density: Any, shot_ids: np.ndarray, moves: np.ndarray | None) -> dict[str, Any]:
    """Return shots as groups and moves by harmless changes, each if ``density.fit`` takes it."""
    options = {"groups": shot_ids, "moves": moves}
    return {key: value for key, value in options.items() if has_fit_parameter(density, key)}


def is_pyod_detector(fitted: Any) -> bool:
    """Return whether a fitted density, or the last step of a pipeline, is a PyOD detector."""
    last = fitted[-1] if isinstance(fitted, Pipeline) else fitted
    return hasattr(last, "decision_scores_")


def score_embeddings(fitted: Any, embeddings: np.ndarray) -> np.ndarray:
    """Return scores of embeddings by a fitted density; higher is more normal.

    Those of a PyOD detector are its negative scores. Some detectors, such as ECOD, use the rows
    of a call as data. These score each row in a call of its own, so that a score does not depend
    on the other rows.
    """
    if not is_pyod_detector(fitted):
        return np.asarray(fitted.score_samples(embeddings), dtype=np.float64)

    def score(rows: np.ndarray) -> np.ndarray:
        return -np.asarray(fitted.decision_function(rows), dtype=np.float64)

    try:
        scores, first = score(embeddings), score(embeddings[:1])
        if not np.allclose(scores[:1], first, rtol=1e-4):
            scores = np.concatenate([score(row[None]) for row in embeddings])
    except Exception as error:  # a detector that compares the rows of a call may raise anything
        raise ValueError(f"density={fitted!r} cannot score a single embedding: {error}") from error
    return scores


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
