"""Component for labelled anomalies: a linear head that separates them from the shots."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import nn

from .._input.labels import asks_for_labelled
from .._network.encoder import Encoder, embeddings_of
from .._network.support import Support
from .._utils.settings import DetectorSettings
from .held_out import leave_groups_out
from .torch_density import doubles

RIDGE_SHARE = 0.1  # penalty of the regression, relative to the total variance of the embeddings
HALF_WEIGHT_COUNT = 5  # number of labelled anomalies at which the head has weight 1/2


class LabelledHead:
    """A linear head on embeddings, see :class:`ScoreComponent`.

    The idea is from deviation networks (Pang et al., "Explainable Deep Few-shot Anomaly Detection
    with Deviation Networks", arXiv 2108.00462): a linear head gives labelled anomalies a score far
    below that of normal images, and the deviation from normal scores counts. Here the head is a
    ridge regression from embeddings to 0 for shots and -1 for anomalies, with equal weight of both
    sides. The deviation is that from held-out shots, as for all components.

    The head knows nothing of types of anomalies that are not labelled. So its weight is below
    that of the densities: ``m / (m + HALF_WEIGHT_COUNT)`` for m anomalies.

    Attributes
    ----------
    coefficients : ndarray of shape (d,)
        Coefficients of the head.
    intercept : float
        Intercept of the head.
    held_out_scores : ndarray
        Scores of the calibration rows by heads that were fitted without their shot.
    weight : float
        Weight in the joint score.
    """

    needs_patches: ClassVar[bool] = False
    state_fields: ClassVar[dict[str, Any]] = {
        "coefficients": "f8 d",
        "intercept": Real,
        "held_out_scores": "f8 K",
        "weight": Real,
    }
    summarize = staticmethod(embeddings_of)

    @classmethod
    def build(cls, settings: DetectorSettings, encoder: Encoder) -> "LabelledHead | None":
        """Return the component if ``negatives`` asks for labelled anomalies of images."""
        is_wanted = asks_for_labelled(settings.negatives)
        return cls() if is_wanted and encoder.network.defaults.needs_backbone else None

    def fit(self, support: Support) -> Self:
        """Fit the head, and heads of the other shots for held-out scores."""
        support = support.without_probes()
        normals, anomalies = support.embeddings, np.asarray(support.anomaly_embeddings)
        self.coefficients, self.intercept = fit_head(normals, anomalies)
        count = len(np.unique(anomalies, axis=0))
        self.weight = count / (count + HALF_WEIGHT_COUNT)
        scores = self.score(normals)
        if len(np.unique(support.groups)) > 1:
            for train, test in leave_groups_out(support.groups):
                coefficients, intercept = fit_head(normals[train], anomalies)
                scores[test] = normals[test] @ coefficients + intercept
        self.held_out_scores = scores[support.is_calibration]
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return about 0 for embeddings like those of shots, -1 for those like anomalies."""
        return embeddings @ self.coefficients + self.intercept

    def to_graph(self) -> nn.Module:
        """Return the head as a module of embeddings."""
        return LinearGraph(self.coefficients, self.intercept)


class LinearGraph(nn.Module):
    """A linear function of embeddings, as :meth:`LabelledHead.score`."""

    def __init__(self, coefficients: np.ndarray, intercept: float) -> None:
        super().__init__()
        self.coefficients, self.intercept = doubles(coefficients), doubles(intercept)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return embeddings @ self.coefficients + self.intercept


def fit_head(normals: np.ndarray, anomalies: np.ndarray) -> tuple[np.ndarray, float]:
    """Return coefficients (d,) and intercept of a ridge regression with equally weighted sides."""
    rows = np.concatenate([normals, anomalies])
    counts = [len(normals), len(anomalies)]
    targets = np.repeat([0.0, -1.0], counts)
    weights = np.repeat(0.5 / np.array(counts), counts)
    variance = weights @ np.square(rows - weights @ rows).sum(axis=1)
    ridge = Ridge(RIDGE_SHARE * variance or 1.0).fit(rows, targets, sample_weight=weights)
    return ridge.coef_, float(ridge.intercept_)
