"""Kernel density of patch embeddings: many rows, in single precision, on the network's device."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn import get_config
from sklearn.utils.extmath import row_norms

from ..density import log_constant, logsumexp_rows, scott_bandwidth
from .torch_density import LogKernelDensity

BANDWIDTH_FACTOR = 0.5  # of Scott's rule, which is for one cluster: patches form many
MAX_CHUNK_ROWS = 256  # the exponents of so many rows fit in the cache of a CPU core


class PatchKDE:
    """The density of :class:`skcoft.density.KernelDensity`, for tensors instead of arrays.

    Rows and kernels are centered and divided by the bandwidth before they are rounded. So log
    densities above about -1,000 nats differ by less than 1e-3 nats from double precision. The
    result for a row depends on the number of rows in the call, but not on their values.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        Locations of the kernels.
    bandwidth : float or None
        Standard deviation of the kernels. None means half of Scott's rule.
    metric : ndarray of shape (d, d) or None
        Matrix by which points and rows are multiplied first, see :func:`metric_of_moves`.
    """

    state_fields: ClassVar[dict[str, Any]] = {
        "bandwidth": Real,
        "center": "f4 e",
        "scaled": "f4 k e",
        "exponents": "f4 k",
        "constant": Real,
        "metric": ("f4 e e", None),
    }

    def __init__(
        self,
        points: np.ndarray,
        bandwidth: float | None = None,
        metric: np.ndarray | None = None,
    ) -> None:
        self.metric = metric
        points = points if metric is None else points @ metric
        center = points.mean(axis=0, dtype=np.float64)
        centered = points - center
        if bandwidth is None:
            bandwidth = BANDWIDTH_FACTOR * scott_bandwidth(centered, len(points))
        self.bandwidth = bandwidth
        scaled = centered / self.bandwidth
        self.center = center.astype(np.float32)
        self.scaled = scaled.astype(np.float32)
        self.exponents = (-0.5 * np.square(scaled).sum(axis=1)).astype(np.float32)
        n, d = points.shape
        self.constant = float(log_constant(n, d, self.bandwidth))
        if metric is not None:
            self.constant -= float(np.linalg.slogdet(metric.astype(np.float64))[1])

    def to_torch(self, device: torch.device | str = "cpu") -> LogKernelDensity:
        """Return the density as a module on a device."""
        # copies, because torch warns of the read-only arrays that joblib gives its workers
        center, scaled, exponents = (
            torch.tensor(array, device=device)
            for array in (self.center, self.scaled, self.exponents)
        )
        metric = None if self.metric is None else torch.tensor(self.metric, device=device)
        constants = self.bandwidth, scaled, exponents, self.constant
        return LogKernelDensity(center, *constants, metric)

    @torch.inference_mode()
    def log_maps(self, patches: torch.Tensor) -> np.ndarray:
        """Return the log density in nats (n, h, w), float64, of patches (n, h, w, d)."""
        log_density = self.to_torch(patches.device)
        maps = [log_density(image.flatten(0, 1), self.chunk_size) for image in patches]
        return np.stack([log_map.view(patches.shape[1:3]).numpy() for log_map in maps])

    def log_density_of_others(
        self, rows: np.ndarray, owners: np.ndarray, kernel_owners: np.ndarray
    ) -> np.ndarray:
        """Return the log density (n,) of rows (n, d) under the kernels that others own."""
        rows = rows if self.metric is None else rows @ self.metric
        z = (rows - self.center) / self.bandwidth
        is_own = owners[:, None] == kernel_owners
        exponents = np.where(is_own, -np.inf, z @ self.scaled.T + self.exponents)
        shares = 1 - is_own.mean(axis=1)  # of the kernels
        sums = logsumexp_rows(exponents) - np.log(shares)
        return sums - 0.5 * np.square(z).sum(axis=1) - self.constant

    @property
    def chunk_size(self) -> int:
        """Number of rows per chunk, bounded by scikit-learn's ``working_memory``."""
        budget = get_config()["working_memory"] * 2**20
        return int(np.clip(budget // (4 * len(self.scaled)), 1, MAX_CHUNK_ROWS))


def metric_of_moves(moves: Sequence[np.ndarray], bandwidth: float) -> np.ndarray:
    """Return the symmetric matrix (d, d) that makes kernels wider in the directions of moves.

    Spherical kernels of points that are multiplied by it have, in the space of the points, the
    covariance of kernels of the bandwidth plus the mean square of the moves.

    Parameters
    ----------
    moves : sequence of ndarrays of shape (..., d)
        Differences between patches that should score alike.
    bandwidth : float
        Standard deviation of the kernels.
    """
    rows = [move.reshape(-1, move.shape[-1]).astype(np.float64) for move in moves]
    second_moment = sum(each.T @ each for each in rows) / sum(map(len, rows))
    variances, directions = np.linalg.eigh(second_moment)
    scales = (1 + variances.clip(min=0) / bandwidth**2) ** -0.5
    return ((directions * scales) @ directions.T).astype(np.float32)


def choose_kernels(points: np.ndarray, n_kernels: int, seed: int) -> np.ndarray:
    """Return the indices of points that are spread out: k-means++ seeding, float64.

    They are those of :func:`sklearn.cluster.kmeans_plusplus` with one trial per kernel. It checks
    its arrays for every kernel, which takes longer than the distances of the patches of a shot.
    """
    random_state = np.random.RandomState(seed)
    points = points.astype(np.float64)
    doubled, transposed, ones = -2 * points, points.T, np.ones(len(points))
    squares, closest = row_norms(points, squared=True), np.full(len(points), np.inf)
    distances, cumulated = np.empty((2, len(points)))
    chosen = np.empty(n_kernels, dtype=int)
    chosen[0] = random_state.choice(len(points), p=ones / len(points))
    for i in range(n_kernels):
        if i:
            np.cumsum(closest, out=cumulated)
            threshold = random_state.uniform() * (closest @ ones)
            chosen[i] = min(np.searchsorted(cumulated, threshold), len(points) - 1)
        # squared distances, added up in the order of scikit-learn, whose rounding they share
        np.dot(doubled[chosen[i]], transposed, out=distances)
        distances += squares[chosen[i]]
        distances += squares
        np.minimum(closest, np.maximum(distances, 0, out=distances), out=closest)
    return chosen
