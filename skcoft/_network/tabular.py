"""The network for tabular data, with its views and synthesised anomalies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._input.defaults import TABULAR_DEFAULTS
from .._utils.random import seeded
from .._utils.torch_context import torch_defaults
from .module_state import arrays_to_tensors, copy_module, module_arrays
from .views import Drawer, Loader

HIDDEN_WIDTH = 64
VIEW_NOISE = 0.1  # in standard deviations of a feature
MASKED_SHARE = 0.1  # of the values of a view
MAX_DEVIATION = 1e4  # in standard deviations; larger values are clipped
APPENDED_CONSTANT = 5.0


def mean_and_scale(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the standard deviation of every feature; 1 for a constant feature."""
    scale = rows.std(axis=0)
    scale[~(scale > 10 * np.finfo(np.float64).eps * np.abs(rows).max(axis=0))] = 1.0
    return torch.from_numpy(rows.mean(axis=0)), torch.from_numpy(scale)


@dataclass(frozen=True)
class HeldOutStandardizer:
    """Embeds rows with the mean and scale of the training rows only.

    With few rows, a row is closer to a mean that includes it, in units of a deviation that
    includes it, than a new row will be. A held-out shot must therefore be left out of both.

    Attributes
    ----------
    network : TabularNetwork
        The network, on the CPU.
    rows : ndarray of shape (n_rows, n_features)
        The inputs of the network for all rows of a support.
    is_reference : ndarray of bool, shape (n_rows,)
        The rows that the network's means and scales were computed from.
    """

    network: nn.Module
    rows: np.ndarray
    is_reference: np.ndarray

    def embed(self, is_training: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Return embeddings of all rows, standardised by the training rows.

        ``embeddings`` are returned if fewer than two training rows are reference rows.
        """
        reference = self.is_reference & is_training
        if reference.sum() < 2:
            return embeddings
        with torch.inference_mode():
            mean, scale = mean_and_scale(self.rows[reference])
            features = self.network(torch.tensor(self.rows), mean, scale)
        return F.normalize(features.float(), dim=1).double().numpy()

    def take(self, is_kept: np.ndarray) -> "HeldOutStandardizer":
        """Return the standardizer with some of the rows.

        Without all reference rows, the network's means and scales cannot be computed again, so
        there are no reference rows then.
        """
        is_reference = self.is_reference[is_kept]
        if is_reference.sum() < self.is_reference.sum():
            is_reference = np.zeros_like(is_reference)
        return HeldOutStandardizer(self.network, self.rows[is_kept], is_reference)

    def extend(self, added: "HeldOutStandardizer") -> "HeldOutStandardizer":
        """Return the standardizer with more rows, which are not reference rows."""
        rows = np.concatenate([self.rows, added.rows])
        not_reference = np.zeros(len(added.rows), dtype=bool)
        is_reference = np.concatenate([self.is_reference, not_reference])
        return HeldOutStandardizer(self.network, rows, is_reference)


class TabularNetwork(nn.Module):
    """Standardise rows, add a residual multilayer perceptron and append a constant.

    The last layer of the perceptron starts at zero, so the network starts as the identity on
    standardised rows. The constant preserves the magnitude of a row when embeddings are
    L2-normalised: up to about ``APPENDED_CONSTANT`` standard deviations from the mean, the map is
    nearly linear.
    """

    defaults = TABULAR_DEFAULTS
    layers = None
    origin = None
    embeds_text = False
    view_options: dict[str, Any] = {}
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        super().__init__()
        self.width = rows.shape[1] + 1
        mean, scale = mean_and_scale(rows)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        with seeded(seed):
            first = nn.Linear(rows.shape[1], HIDDEN_WIDTH)
            last = nn.Linear(HIDDEN_WIDTH, rows.shape[1])
        self.body = nn.Sequential(first, nn.ReLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def __getstate__(self) -> dict[str, np.ndarray]:
        return module_arrays(self)

    def __setstate__(self, state: dict[str, np.ndarray]) -> None:
        with torch_defaults():
            TabularNetwork.__init__(self, np.zeros((1, len(state["mean"]))), 0)
            self.load_state_dict(arrays_to_tensors(state))
        self.eval()

    def forward(
        self,
        rows: torch.Tensor,
        mean: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        mean = self.mean if mean is None else mean
        scale = self.scale if scale is None else scale
        x = ((rows - mean) / scale).clamp(-MAX_DEVIATION, MAX_DEVIATION).float()
        x = (x + self.body(x)) / rows.shape[1] ** 0.5
        return torch.cat([x, torch.full_like(x[:, :1], APPENDED_CONSTANT)], dim=1)

    def prepare_support(
        self, loaders: Sequence[Loader], is_shot: np.ndarray
    ) -> tuple[list[Loader], HeldOutStandardizer]:
        """Draw all rows of a support; return loaders of them and their standardizer.

        A view is random, so it is drawn once: the standardizer embeds the same rows again.
        """
        indices = torch.arange(int(is_shot.sum()))
        batches = [load(indices) for load in loaders]
        rows = np.concatenate([batch.cpu().numpy() for batch in batches])
        standardizer = HeldOutStandardizer(copy_module(self).cpu(), rows, is_shot)
        return [batch.__getitem__ for batch in batches], standardizer

    def make_views(self) -> Drawer:
        """Return the function that draws views."""
        return self.views

    def make_synthesizer(self, name: str) -> Drawer:
        """Return the function that makes anomalies, the same for all names of ``negatives``."""
        return self.shuffled

    def views(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Add noise of a tenth of a standard deviation; set a tenth of the values to the mean."""
        noise = torch.empty_like(rows).normal_(generator=generator)
        is_masked = torch.empty_like(rows).uniform_(generator=generator) < MASKED_SHARE
        return torch.where(is_masked, self.mean, rows + VIEW_NOISE * self.scale * noise)

    def shuffled(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Permute the values of each feature among rows; add a large error to half of them."""
        order = torch.empty_like(rows).uniform_(generator=generator).argsort(dim=0)
        error = torch.empty_like(rows).normal_(generator=generator)
        has_error = torch.empty_like(rows).uniform_(generator=generator) < 0.5
        return rows.gather(0, order) + 2 * self.scale * error * has_error
