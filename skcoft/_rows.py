"""The same method on rows of features: a small network, noise views, shuffled negatives."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ._modules import arrays_of, tensors_of
from ._random import seeded
from ._state import usual_torch

HIDDEN = 64
NOISE = 0.1
MASKED = 0.1
LIMIT = 1e4
LIFT = 5.0


class Rows:
    """Validated rows of features: ``values``, a float64 array (n, d)."""

    kind = "rows"
    depth = mask = modality = None  # no bits to be found, nothing to be left out

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def take(self, mask):
        """Rows where the boolean ``mask`` is true."""
        return Rows(self.values[mask])

    def masked(self, mask):
        """Rows as they are; ValueError where there is a mask, which images have."""
        if mask is not None:
            raise ValueError(
                "mask is for images; X holds rows of features. If they are flattened images, set "
                "image_shape."
            )
        return self

    @property
    def parts(self):
        """These, as ``Images.parts``."""
        return {None: self}

    def pieces(self, encoders):
        """Yield these: their embeddings are small."""
        yield self

    def groups(self, sizing):
        """Return the indices of rows that may share a batch: all of them."""
        return [np.arange(len(self))]

    def loader(self, sizing, device, *, depth=None, cache=False):
        """Return a function from indices to a batch on the device."""
        rows = torch.from_numpy(self.values.copy()).to(device)
        return lambda index: rows[index]


def standards(rows):
    """Return the mean and the scale of every feature, as tensors; 1 where nothing varies."""
    scale = rows.std(axis=0)
    scale[~(scale > 10 * np.finfo(np.float64).eps * np.abs(rows).max(axis=0))] = 1.0
    return torch.from_numpy(rows.mean(axis=0)), torch.from_numpy(scale)


@dataclass(frozen=True)
class Unseen:
    """Embeddings of rows by a network whose means and scales some of the shots had no part in.

    Few rows lie nearer to their own mean, in units of their own deviation, than other rows will:
    to be held out, a shot must be left out of both.

    Attributes
    ----------
    network : RowsNetwork
        The network.
    rows : ndarray of shape (n_rows, n_features)
        The rows of a support, as the network gets them.
    standard : ndarray of bool, shape (n_rows,)
        Those that the network's means and scales come from.
    """

    network: nn.Module
    rows: np.ndarray
    standard: np.ndarray

    def embed(self, seen, embeddings):
        """Embed all rows by what the rows of a mask know; as they are where that are too few."""
        known = self.standard & seen
        if known.sum() < 2:
            return embeddings
        with torch.inference_mode():
            features = self.network(torch.tensor(self.rows), *standards(self.rows[known]))
        return F.normalize(features.float(), dim=1).double().numpy()

    def extend(self, added):
        """Return these with more rows, which the network's means and scales do not come from."""
        rows = np.concatenate([self.rows, added.rows])
        standard = np.concatenate([self.standard, np.zeros(len(added.rows), dtype=bool)])
        return Unseen(self.network, rows, standard)


class RowsNetwork(nn.Module):
    """Standardise, add a residual multilayer perceptron, append a constant.

    The perceptron's last layer starts at zero, so the network starts as the identity on
    standardised rows. The constant keeps a row's magnitude when embeddings are L2-normalised:
    up to about ``LIFT`` standard deviations from the mean the map is nearly linear.
    """

    kind = "rows"
    depths = None
    origin = None
    knows_text = False
    view_options = {}

    def __init__(self, rows, seed):
        super().__init__()
        self.width = rows.shape[1] + 1
        mean, scale = standards(rows)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        with seeded(seed):
            self.body = nn.Sequential(
                nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, rows.shape[1])
            )
        nn.init.zeros_(self.body[2].weight)
        nn.init.zeros_(self.body[2].bias)

    def __getstate__(self):
        return arrays_of(self)

    def __setstate__(self, state):
        with usual_torch():
            self.__init__(np.zeros((1, len(state["mean"]))), 0)
            self.load_state_dict(tensors_of(state))
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
