"""TODO."""

import numpy as np
import torch
from torch import nn

from .._input.shots import mean_per_shot
from .._utils.random import seeded
from ..losses import negative_pair_loss, positive_pair_loss
from .contrastive import FAMILIES

POSITIVE_WEIGHT = 1 / 8, 2.0  # of "auto": per shot, and at most


def uses_negatives(settings):
    """Whether the negative pairs are a term of the objective."""
    return settings.negatives is not None and settings.negative_weight > 0


class Objective(nn.Module):
    """The terms of L = L_Con + λ_PP L_PP + λ_NP L_NP, from embeddings of a batch."""

    def __init__(self, contrast, positive_weight, negative_weight):
        super().__init__()
        self.contrast = contrast
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight

    def forward(self, h, shots):
        """Return the terms and their sum; ``h`` holds two views of each shot, then anomalies."""
        n = len(shots)
        terms = {
            "contrastive": self.contrast(h[:n], h[n : 2 * n], shots),
            "positive": positive_pair_loss(h[: 2 * n], torch.cat([shots, shots])),
            "negative": negative_pair_loss(h[: 2 * n], h[2 * n :])
            if len(h) > 2 * n
            else h.new_zeros(()),
        }
        terms["loss"] = (
            terms["contrastive"]
            + self.positive_weight * terms["positive"]
            + self.negative_weight * terms["negative"]
        )
        return terms


def build_objective(encoder, load, ids, settings, head_seed):
    """Build the objective, its center that of the shots' embeddings before fine-tuning."""
    batches = encoder.iter_features(load, [np.arange(len(ids))])
    frozen = np.concatenate([features.embeddings for _, features in batches])
    center = torch.from_numpy(mean_per_shot(frozen, ids).mean(axis=0)).float()
    with seeded(head_seed):
        contrast = FAMILIES[settings.contrastive](center, settings.temperature)
    positive_weight = settings.positive_weight
    if positive_weight == "auto":
        per_shot, most = POSITIVE_WEIGHT
        positive_weight = min(per_shot * len(np.unique(ids)), most)
    return Objective(contrast, positive_weight, settings.negative_weight).to(encoder.device)
