"""Component for whole images: a density of their embeddings."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from .._input.defaults import InputDefaults
from .._network.encoder import Encoder, embeddings_of
from .._network.support import Support
from .._utils.settings import DetectorSettings
from ..density import GaussianDensity, KernelDensity
from .density_calls import fit_density, score_embeddings
from .held_out import score_calibration_rows
from .standardization import Standardization
from .torch_density import doubles, graph_of_density

# What ``density`` accepts by name.
DENSITIES: dict[str, Callable[[InputDefaults], BaseEstimator]] = {
    "kde": lambda defaults: KernelDensity(covariance_type=defaults.kernel_covariance),
    "gaussian": lambda defaults: GaussianDensity(),
}


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
        # the views of a single shot are left out one by one, which changes the scale of most
        # densities
        single = support.n_shots == 1 and not hasattr(self.fitted, "fit_at_scale_of")
        if len(support.groups) == 1 or single:
            self.held_out_scores = self.score(support.embeddings[support.is_calibration])
        else:
            self.held_out_scores = score_calibration_rows(self.fitted, support)
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
