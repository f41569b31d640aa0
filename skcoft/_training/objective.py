"""The objective of fine-tuning: the sum of a contrastive, a positive and a negative loss."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from .._utils.random import seeded
from .._utils.settings import EmbedderSettings
from ..losses import negative_pair_loss, positive_pair_loss
from .contrastive import FAMILIES, ContrastiveFamily

LoadFunction: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""From indices of training images to a batch of them, all of one size, on the device."""

LOSS_NAMES = ("loss", "contrastive", "positive", "negative")
AUTO_POSITIVE_WEIGHT_PER_SHOT = 1 / 8
MAX_AUTO_POSITIVE_WEIGHT = 2.0


def uses_negatives(settings: EmbedderSettings) -> bool:
    """Return whether the objective includes the loss of negative pairs."""
    return settings.negatives is not None and settings.negative_weight > 0


class Objective(nn.Module):
    """The loss L = L_Con + λ_PP L_PP + λ_NP L_NP of a batch of embeddings."""

    def __init__(
        self, contrast: ContrastiveFamily, positive_weight: float, negative_weight: float
    ) -> None:
        super().__init__()
        self.contrast = contrast
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight

    def forward(self, h: torch.Tensor, shots: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the losses; ``h`` embeds two views of each shot, then the anomalies."""
        n = len(shots)
        contrastive = self.contrast(h[:n], h[n : 2 * n], shots)
        positive = positive_pair_loss(h[: 2 * n], torch.cat([shots, shots]))
        negative = h.new_zeros(())
        if len(h) > 2 * n:
            negative = negative_pair_loss(h[: 2 * n], h[2 * n :])
        loss = contrastive + self.positive_weight * positive + self.negative_weight * negative
        return dict(zip(LOSS_NAMES, (loss, contrastive, positive, negative), strict=True))


def build_objective(
    frozen_shots: np.ndarray, settings: EmbedderSettings, head_seed: int, device: str
) -> Objective:
    """Build the objective; its center is that of the shots' embeddings before fine-tuning."""
    center = torch.from_numpy(frozen_shots.mean(axis=0)).float()
    with seeded(head_seed):
        contrast = FAMILIES[settings.contrastive](center, settings.temperature)
    positive_weight = settings.positive_weight
    if positive_weight == "auto":
        n_shots = len(frozen_shots)
        positive_weight = min(AUTO_POSITIVE_WEIGHT_PER_SHOT * n_shots, MAX_AUTO_POSITIVE_WEIGHT)
    objective = Objective(contrast, float(positive_weight), settings.negative_weight)
    return objective.to(device)
