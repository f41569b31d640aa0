"""Families of the contrastive term L_Con, with the heads that they need."""

from torch import nn

from ..losses import info_nce_loss, mean_shifted_loss, simsiam_loss

PROJECTED = 128


class MeanShifted(nn.Module):
    """Contrast of directions from the frozen features' center; no head."""

    contrasts_one = False

    def __init__(self, center, temperature):
        super().__init__()
        self.register_buffer("center", center)
        self.temperature = temperature

    def forward(self, first, second, shots):
        return mean_shifted_loss(first, second, shots, self.center, temperature=self.temperature)


class InfoNCE(nn.Module):
    """Contrast of views through a projector."""

    contrasts_one = False

    def __init__(self, center, temperature):
        super().__init__()
        self.projector = _perceptron(len(center), len(center), PROJECTED)
        self.temperature = temperature

    def forward(self, first, second, shots):
        first, second = self.projector(first), self.projector(second)
        return info_nce_loss(first, second, shots, temperature=self.temperature)


class SimSiam(nn.Module):
    """Prediction of one view from the other, through a projector and a predictor."""

    contrasts_one = True

    def __init__(self, center, temperature):
        super().__init__()
        self.projector = _perceptron(len(center), len(center), PROJECTED)
        self.predictor = _perceptron(PROJECTED, PROJECTED // 2, PROJECTED)

    def forward(self, first, second, shots):
        first, second = self.projector(first), self.projector(second)
        return simsiam_loss(first, second, self.predictor(first), self.predictor(second))


def _perceptron(n_in, n_hidden, n_out):
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))


# A family is built with the center (d,) of the shots' embeddings before fine-tuning and the
# temperature; it maps L2-normalised embeddings (n, d) of two views of each shot, and the shots'
# numbers (n,), to a loss. ``contrasts_one`` says whether one shot alone is something to learn
# from. Its parameters are heads: trained along, then thrown away.
FAMILIES = {"mean_shifted": MeanShifted, "infonce": InfoNCE, "simsiam": SimSiam}
