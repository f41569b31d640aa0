"""Density of local embeddings: where an image departs from the shots."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import kmeans_plusplus

from .density import KernelDensity

POSITIONS = 32  # most positions along a side
WIDTH = 128  # most numbers per position; wider ones are projected at random
SUPPORT = 2048  # kernels in all, shared among the shots
LEAST = 32  # kernels per shot
TOP = 0.01  # share of positions that an image is scored by
FEW = 4  # shots, below which their views are scored held out as well


def choose_depths(sizes):
    """Choose the two maps that local embeddings are made of, by the sizes (H, W) of all maps.

    Of a pyramid, the deepest map at each of the two resolutions next to the coarsest, which the
    whole-image embedding stands for; of a transformer, whose maps share one resolution, those
    after a half and three quarters of its blocks.
    """
    deepest = {size: i for i, size in enumerate(sizes)}
    if len(deepest) == 1:
        return sorted({(len(sizes) - 1) // 2, (3 * len(sizes) - 1) // 4})
    return sorted(deepest[size] for size in sorted(deepest)[1:3])


def local_embeddings(maps, projection=None):
    """Embeddings of positions, (n, h, w, d), from maps (n, c, H, W) of one or more depths.

    Maps are averaged over 3 x 3 neighbours, brought to the finest map's grid and to unit length
    at every position, so that each depth weighs the same.
    """
    sides = zip(*(features.shape[-2:] for features in maps), strict=True)
    grid = tuple(min(max(side), POSITIONS) for side in sides)
    parts = []
    for features in maps:
        features = average_neighbours(features.float())
        if tuple(features.shape[-2:]) != grid:
            features = F.interpolate(features, grid, mode="bilinear", antialias=True)
        parts.append(F.normalize(features, dim=1))
    positions = torch.cat(parts, dim=1).permute(0, 2, 3, 1) / len(parts) ** 0.5
    return positions if projection is None else positions @ projection


def average_neighbours(features):
    """Average maps (n, c, h, w) over 3 x 3 neighbours, fewer at the border."""
    return F.avg_pool2d(features, 3, 1, 1, count_include_pad=False)


class LocalDensity:
    """Kernel density of the shots' local embeddings, with bounded memory.

    Every shot is thinned to a part of ``SUPPORT`` kernels that are spread out by k-means++
    seeding, in the manner of PatchCore's coreset (arXiv 2106.08265), so leaving a shot out is
    leaving out its kernels. ``held_out`` are scores of shots, then views, whose shot was left
    out (of a single shot, whose view was); ``location`` and ``scale`` are their mean and
    standard deviation; ``calibrated`` marks their rows. Views count with fewer than 4 shots only.
    ``means`` are the local embeddings of every row, averaged over its positions.
    """

    def __init__(self, seed):
        self.seed = seed
        self.coresets = {}
        self.bandwidth = None
        self.held_out = self.in_sample = np.empty(0)
        self.calibrated = np.empty(0, dtype=bool)
        self.means = None

    def add(self, positions, shots, n_shots, mirror=False):
        """Add views (n, h, w, d), the ``n_shots`` shots themselves first; ``shots`` names each.

        With ``mirror`` the shots' mirror images come next, and are scored as the shots are.

        Scores of shots that were added before stay as they are.
        """
        groups = shots
        if not self.coresets and n_shots == 1:
            groups = -1 - np.arange(len(shots))
        known = len(self.coresets)
        names = np.unique(groups)
        per_group = max(SUPPORT // (known + len(names)), LEAST)
        for name in names:
            points = positions[groups == name].reshape(-1, positions.shape[-1])
            self.coresets[name] = kmeans_plusplus(
                points, min(per_group, len(points)), random_state=self.seed, n_local_trials=1
            )[0]
        for name, points in self.coresets.items():
            self.coresets[name] = points[:per_group]  # the seeding goes from far to near
        self.density = self._density(self.coresets)
        self.bandwidth = self.density.bandwidth_
        means = positions.mean(axis=(1, 2), dtype=np.float64)
        self.means = means if self.means is None else np.concatenate([self.means, means])
        n = n_shots * (1 + mirror)
        self.in_sample = np.append(self.in_sample, lowest(self.log_maps(positions[:n])))
        n = n if n_shots >= FEW else len(positions)
        self.calibrated = np.append(self.calibrated, np.arange(len(positions)) < n)
        held_out = np.empty(n)
        for name in np.unique(groups[:n]):
            others = {g: points for g, points in self.coresets.items() if g != name}
            rows = np.flatnonzero(groups[:n] == name)
            density = self._density(others or self.coresets)
            held_out[rows] = lowest(log_maps(density, positions[rows]))
        self.held_out = np.append(self.held_out, held_out)
        self.location = float(self.held_out.mean())
        self.scale = float(self.held_out.std()) or 1.0
        return self

    def _density(self, coresets):
        points = np.concatenate(list(coresets.values()))
        return KernelDensity("scale" if self.bandwidth is None else self.bandwidth).fit(points)

    def log_maps(self, positions):
        """Log density, in nats, at every position (n, h, w, d) of images."""
        return log_maps(self.density, positions)


def log_maps(density, positions):
    """Log density (n, h, w) of local embeddings (n, h, w, d)."""
    flat = density.score_samples(positions.reshape(-1, positions.shape[-1]))
    return flat.reshape(positions.shape[:-1])


def lowest(maps):
    """Score of each image: the mean log density of its least likely hundredth of positions."""
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(TOP * flat.shape[1]))
    return np.partition(flat, count - 1, axis=1)[:, :count].mean(axis=1)
