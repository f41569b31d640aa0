"""The densities of ``skcoft.density`` in torch, for many patches and for ONNX files."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ..density import LOG_2PI, GaussianDensity, KernelDensity, log_constant


class LogKernelDensity(nn.Module):
    """Log density under Gaussian kernels: the formula of :class:`skcoft.density.KernelDensity`.

    Parameters
    ----------
    center : tensor of shape (d,)
        Subtracted from kernels and rows, for precision.
    bandwidth : float or tensor
        Standard deviation of the kernels.
    points : tensor of shape (k, d)
        Locations of the kernels, centered and divided by the bandwidth.
    exponents : tensor of shape (k,)
        -0.5 times the squared norm of each point, plus the log weight of its kernel.
    constant : float or tensor
        Logarithm of the divisor, see :func:`skcoft.density.log_constant`.
    metric : tensor of shape (d, d) or None
        Matrix by which rows are multiplied first.
    """

    def __init__(
        self,
        center: torch.Tensor,
        bandwidth: Any,
        points: torch.Tensor,
        exponents: torch.Tensor,
        constant: Any,
        metric: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.metric = None if metric is None else nn.Parameter(metric, False)
        self.center, self.points = nn.Parameter(center, False), nn.Parameter(points, False)
        self.exponents = nn.Parameter(exponents, False)
        self.bandwidth, self.constant = bandwidth, constant

    def forward(self, rows: torch.Tensor, chunk_size: int | None = None) -> torch.Tensor:
        """Return the log density (n,) of rows (n, d), in float64 on the CPU."""
        rows = rows if self.metric is None else rows @ self.metric
        z = (rows - self.center) / self.bandwidth
        chunks = [z] if chunk_size is None else z.split(chunk_size)
        sums = torch.cat(
            [log_sum_exp(torch.addmm(self.exponents, chunk, self.points.T)) for chunk in chunks]
        )
        # on the CPU, because not every accelerator has float64
        return sums.cpu().double() - 0.5 * z.square().sum(1).cpu() - self.constant


def log_sum_exp(exponents: torch.Tensor) -> torch.Tensor:
    """Return the log-sum-exp of each row; overwrite ``exponents`` to save memory."""
    top = exponents.amax(1, keepdim=True)
    return exponents.sub_(top).exp_().sum(1).log_().add_(top[:, 0])


class KernelGraph(nn.Module):
    """A fitted :class:`skcoft.density.KernelDensity`, in double precision."""

    def __init__(self, density: KernelDensity) -> None:
        super().__init__()
        state = vars(density)
        kernels, shape = state["_kernels"], state["_shape"]
        self.whiten = nn.Identity() if shape is None else WhiteningGraph(shape)
        self.log_density = LogKernelDensity(
            doubles(state["_center"]),
            doubles(density.bandwidth_),
            doubles(kernels[:, :-1]),
            doubles(kernels[:, -1]),
            doubles(log_constant(len(kernels), density.n_features_in_, density.bandwidth_, shape)),
        )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.log_density(self.whiten(rows))


class WhiteningGraph(nn.Module):
    """Rows in units of a covariance, as :meth:`skcoft.density.GaussianDensity.whiten`."""

    def __init__(self, density: GaussianDensity) -> None:
        super().__init__()
        state = vars(density)
        self.ridge = doubles(state["_ridge"])
        self.location = doubles(density.location_)
        self.directions = doubles(state["_directions"])
        self.stds = doubles(np.sqrt(state["_spanned"]))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        centered = rows - self.location
        along = centered @ self.directions
        outside = centered.square().sum(1, keepdim=True) - along.square().sum(1, keepdim=True)
        return torch.cat([along / self.stds, (outside.clamp(min=0) / self.ridge).sqrt()], 1)


class GaussianGraph(nn.Module):
    """A fitted :class:`skcoft.density.GaussianDensity`."""

    def __init__(self, density: GaussianDensity) -> None:
        super().__init__()
        self.whiten = WhiteningGraph(density)
        self.constant = doubles(density.log_determinant_ + density.n_features_in_ * LOG_2PI)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return -0.5 * (self.whiten(rows).square().sum(1) + self.constant)


DENSITY_GRAPHS: dict[type, Callable[[Any], nn.Module]] = {
    KernelDensity: KernelGraph,
    GaussianDensity: GaussianGraph,
}


def graph_of_density(density: Any) -> nn.Module:
    """Return the module of a fitted density; raise ValueError for a density of the user."""
    if type(density) not in DENSITY_GRAPHS:
        raise ValueError(
            f"density={density!r} cannot be exported. ONNX files hold 'kde', 'gaussian' and the "
            "classes of skcoft.density. Fit with one of these."
        )
    return DENSITY_GRAPHS[type(density)](density)


def doubles(numbers: Any) -> nn.Parameter:
    """Return constants in double precision; some exporters round Python's floats to single."""
    return nn.Parameter(torch.tensor(np.asarray(numbers, dtype=np.float64)), False)
