"""The same method on rows of features: a small network, noise views, shuffled negatives."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._input.defaults import TABULAR_DEFAULTS
from .._utils.random import seeded
from .._utils.torch_context import torch_defaults
from .module_state import arrays_to_tensors, module_arrays

HIDDEN = 64
NOISE = 0.1
MASKED = 0.1
LIMIT = 1e4
LIFT = 5.0


def mean_and_scale(rows):
    """Return the mean and the scale of every feature, as tensors; 1 where nothing varies."""
    scale = rows.std(axis=0)
    scale[~(scale > 10 * np.finfo(np.float64).eps * np.abs(rows).max(axis=0))] = 1.0
    return torch.from_numpy(rows.mean(axis=0)), torch.from_numpy(scale)


@dataclass(frozen=True)
class HeldOutStandardizer:
    """Embeddings of rows by a network whose means and scales some of the shots had no part in.

    Few rows lie nearer to their own mean, in units of their own deviation, than other rows will:
    to be held out, a shot must be left out of both.

    Attributes
    ----------
    network : TabularNetwork
        The network.
    rows : ndarray of shape (n_rows, n_features)
        The rows of a support, as the network gets them.
    is_reference : ndarray of bool, shape (n_rows,)
        Those that the network's means and scales come from.
    """

    network: nn.Module
    rows: np.ndarray
    is_reference: np.ndarray

    def embed(self, seen, embeddings):
        """Embed all rows by what the rows of a mask know; as they are where that are too few."""
        known = self.is_reference & seen
        if known.sum() < 2:
            return embeddings
        with torch.inference_mode():
            features = self.network(torch.tensor(self.rows), *mean_and_scale(self.rows[known]))
        return F.normalize(features.float(), dim=1).double().numpy()

    def extend(self, added):
        """Return these with more rows, which the network's means and scales do not come from."""
        rows = np.concatenate([self.rows, added.rows])
        standard = np.concatenate([self.is_reference, np.zeros(len(added.rows), dtype=bool)])
        return HeldOutStandardizer(self.network, rows, standard)


class TabularNetwork(nn.Module):
    """Standardise, add a residual multilayer perceptron, append a constant.

    The perceptron's last layer starts at zero, so the network starts as the identity on
    standardised rows. The constant keeps a row's magnitude when embeddings are L2-normalised:
    up to about ``LIFT`` standard deviations from the mean the map is nearly linear.
    """

    input_type = "tabular"
    defaults = TABULAR_DEFAULTS
    layers = None
    origin = None
    knows_text = False
    view_options = {}

    def __init__(self, rows, seed):
        super().__init__()
        self.width = rows.shape[1] + 1
        mean, scale = mean_and_scale(rows)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        with seeded(seed):
            self.body = nn.Sequential(
                nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, rows.shape[1])
            )
        nn.init.zeros_(self.body[2].weight)
        nn.init.zeros_(self.body[2].bias)

    def __getstate__(self):
        return module_arrays(self)

    def __setstate__(self, state):
        with torch_defaults():
            self.__init__(np.zeros((1, len(state["mean"]))), 0)
            self.load_state_dict(arrays_to_tensors(state))
        self.eval()

    def forward(self, rows, mean=None, scale=None):
        mean, scale = (self.mean, self.scale) if mean is None else (mean, scale)
        x = ((rows - mean) / scale).clamp(-LIMIT, LIMIT).float()
        x = (x + self.body(x)) / rows.shape[1] ** 0.5
        return torch.cat([x, torch.full_like(x[:, :1], LIFT)], dim=1)

    def make_views(self, **options):
        """Return the function that draws views; it has no options."""
        return self.views

    def make_synthesizer(self, name):
        """Return the function that makes anomalies, whatever their name among images."""
        return self.shuffled

    def views(self, rows, generator):
        """Add noise of a tenth of a standard deviation; mask a tenth of the features."""
        noise = torch.empty_like(rows).normal_(generator=generator)
        masked = torch.empty_like(rows).uniform_(generator=generator) < MASKED
        return torch.where(masked, self.mean, rows + NOISE * self.scale * noise)

    def shuffled(self, rows, generator):
        """Give each feature the value of another row, and every second feature a large error."""
        order = torch.empty_like(rows).uniform_(generator=generator).argsort(dim=0)
        error = torch.empty_like(rows).normal_(generator=generator)
        hit = torch.empty_like(rows).uniform_(generator=generator) < 0.5
        return rows.gather(0, order) + 2 * self.scale * error * hit
