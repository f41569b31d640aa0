"""Families of the contrastive loss L_Con, with the heads that they need."""

from typing import Any, Protocol

import torch
from torch import nn

from ..losses import info_nce_loss, mean_shifted_loss, simsiam_loss

PROJECTION_SIZE = 128


class ContrastiveFamily(Protocol):
    """A torch module from two views of each shot to a loss.

    Its parameters belong to heads, which are trained together with the network and discarded
    after fine-tuning.

    Attributes
    ----------
    learns_from_one_shot : bool
        Whether the loss has a gradient if all views are of one shot.
    """

    learns_from_one_shot: bool

    def __init__(self, center: torch.Tensor, temperature: float) -> None:
        """Build the heads; ``center`` (d,) is that of the shots' embeddings before fine-tuning."""

    def __call__(self, first: torch.Tensor, second: torch.Tensor, shots: torch.Tensor) -> Any:
        """Return the loss from L2-normalised embeddings (n, d) of two views, and shots (n,)."""


class MeanShifted(nn.Module):
    """Contrast of directions from the center of the frozen embeddings, without a head."""

    learns_from_one_shot = False
    center: torch.Tensor

    def __init__(self, center: torch.Tensor, temperature: float) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.temperature = temperature

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, shots: torch.Tensor
    ) -> torch.Tensor:
        return mean_shifted_loss(first, second, shots, self.center, temperature=self.temperature)


class InfoNCE(nn.Module):
    """Contrast of views through a projector."""

    learns_from_one_shot = False

    def __init__(self, center: torch.Tensor, temperature: float) -> None:
        super().__init__()
        self.projector = _perceptron(len(center), len(center), PROJECTION_SIZE)
        self.temperature = temperature

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, shots: torch.Tensor
    ) -> torch.Tensor:
        first, second = self.projector(first), self.projector(second)
        return info_nce_loss(first, second, shots, temperature=self.temperature)


class SimSiam(nn.Module):
    """Prediction of one view from the other, through a projector and a predictor."""

    learns_from_one_shot = True

    def __init__(self, center: torch.Tensor, temperature: float) -> None:
        super().__init__()
        self.projector = _perceptron(len(center), len(center), PROJECTION_SIZE)
        self.predictor = _perceptron(PROJECTION_SIZE, PROJECTION_SIZE // 2, PROJECTION_SIZE)

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, shots: torch.Tensor
    ) -> torch.Tensor:
        first, second = self.projector(first), self.projector(second)
        return simsiam_loss(first, second, self.predictor(first), self.predictor(second))


def _perceptron(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))


FAMILIES: dict[str, type[ContrastiveFamily]] = {
    "mean_shifted": MeanShifted,
    "infonce": InfoNCE,
    "simsiam": SimSiam,
}
