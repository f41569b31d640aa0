"""Evidence of positions: a density of local embeddings, which tells where an image departs."""

import warnings

import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus

from ._groups import mean_of_shots
from ._kernels import Kernels
from ._positions import POSITIONS

SUPPORT = 2048  # kernels in all, shared among the shots
LEAST = 32  # kernels per shot
TOP = 0.01  # share of positions that an image is scored by, of POSITIONS at most
MOST_ALIKE = 100.0


class LocalDensity:
    """A part, see ``_parts.py``: kernel density of the shots' local embeddings.

    Memory is bounded: every shot is thinned to its share of ``SUPPORT`` kernels, spread out by
    k-means++ seeding in the manner of PatchCore's coreset (arXiv 2106.08265), so leaving a shot
    out is leaving out its kernels. Scores of shots that were learned before stay as they are.

    Attributes
    ----------
    coresets : dict of group to ndarray of shape (n_kernels, d)
        Local embeddings of each shot, from far to near.
    means : ndarray of shape (n_rows, d)
        Local embeddings of every row of the support, averaged over its positions.
    held_out : ndarray
        Scores of the calibrating rows under the kernels of other shots.
    lows : ndarray
        Least log density of each of these rows at any of its positions, likewise.
    weight : float
        The :func:`likeness` of the shots.
    """

    needs_positions = True

    def __init__(self, seed):
        self.seed = seed
        self.coresets = {}
        self.bandwidth = None
        self.held_out = self.lows = self.in_sample_scores = np.empty(0)
        self.means = None

    @classmethod
    def build(cls, settings, encoder):
        """Build the part where it is wanted and the network has positions."""
        if not settings.local:
            return None
        if not encoder.has_positions:
            reason = getattr(encoder.network, "no_maps", None)
            if reason is not None:
                warnings.warn(
                    f"The local density is left out, the backbone has no maps: {reason}. "
                    "local=False says that this is meant.",
                    stacklevel=2,
                )
            return None
        return cls(encoder.seed)

    def learn(self, added):
        """Add the kernels of new shots, and score them, with these and by those of others."""
        means = np.stack([row.mean(axis=(0, 1), dtype=np.float64) for row in added.positions])
        self.means = means if self.means is None else np.concatenate([self.means, means])
        added = added.without_probes()
        positions, groups = added.positions, added.shots
        if not self.coresets and added.n_shots == 1:
            groups = -1 - added.groups  # its views, which no later shot's number may meet
        self._add_kernels(positions, groups)
        scores = [
            evidence_of(self.density, row)[0]
            for row, wanted in zip(positions, added.own, strict=True)
            if wanted
        ]
        self.in_sample_scores = np.append(self.in_sample_scores, scores)
        rows = np.flatnonzero(added.calibrating)
        scores, lows = self._score_held_out([positions[row] for row in rows], groups[rows]).T
        self.held_out, self.lows = np.append(self.held_out, scores), np.append(self.lows, lows)

    def _add_kernels(self, positions, groups):
        names = np.unique(groups)
        per_group = max(SUPPORT // len({*self.coresets, *names}), LEAST)
        for name in names:
            rows = np.flatnonzero(groups == name)
            points = np.concatenate([_flat(positions[row]) for row in rows])
            if name in self.coresets:  # more images of a shot that is known
                points = np.concatenate([self.coresets[name], points])
            _, chosen = kmeans_plusplus(
                points.astype(np.float64),  # once: it would convert them for every kernel
                min(per_group, len(points)),
                random_state=self.seed,
                n_local_trials=1,
            )
            self.coresets[name] = points[chosen]
        for name, points in self.coresets.items():
            self.coresets[name] = points[:per_group]  # the seeding goes from far to near
        self.density = self._fit_density(self.coresets)
        self.bandwidth = self.density.bandwidth

    def _fit_density(self, coresets):
        """Fit the kernels of some shots, at the bandwidth of the first fit of all."""
        return Kernels(np.concatenate(list(coresets.values())), self.bandwidth)

    def _score_held_out(self, positions, groups):
        found = np.empty((len(positions), 2))
        for name in np.unique(groups):
            others = {g: points for g, points in self.coresets.items() if g != name}
            rows = np.flatnonzero(groups == name)
            density = self._fit_density(others or self.coresets)
            found[rows] = [evidence_of(density, positions[row]) for row in rows]
        return found

    def fit(self, support):
        """Weigh by how alike all shots are: objects in scenes differ where nothing is wrong."""
        self.weight = likeness(self.means, support)
        return self

    def keep(self, features):
        """Score and least log density of each image; positions of all would be too many."""
        return evidence(self.density.log_maps(features.positions))

    def score(self, kept):
        """Mean log density of each image's least likely positions."""
        return kept[:, 0]

    def low(self, kept):
        """Log density of each image's least likely position."""
        return kept[:, 1]

    def in_sample(self, support):
        """Scores of the shots, kernels on themselves included."""
        return self.in_sample_scores

    def log_maps(self, features):
        """Log density, in nats, at every position (n, h, w) of a batch.

        Outside of a mask that of the nearest position inside, so that maps can be enlarged.
        """
        maps = self.density.log_maps(features.positions)
        return maps if features.nearest is None else maps[:, 0][:, features.nearest]


def _flat(positions):
    return positions.reshape(-1, positions.shape[-1])


def evidence_of(density, positions):
    """Score and least log density of one image's local embeddings (h, w, d), an array."""
    return evidence(density.log_maps(torch.from_numpy(positions)[None]))[0]


def evidence(maps):
    """Return (n, 2): the score and the least log density of each image."""
    return np.stack([lowest(maps), maps.min(axis=(1, 2))], axis=1)


def count_lowest(positions):
    """How many of so many positions an image is scored by."""
    return max(1, round(TOP * min(positions, POSITIONS)))


def lowest(maps):
    """Score of each image: the mean log density of its least likely hundredth of positions.

    Of a large image no more of them than of another: a defect is not larger there.
    """
    flat = maps.reshape(len(maps), -1)
    count = count_lowest(flat.shape[1])
    return np.partition(flat, count - 1, axis=1)[:, :count].mean(axis=1)


def likeness(points, support):
    """How alike the shots are: 1 where they differ as much as views of one shot do, more if less.

    Of ``points``, one for each row of the support: the expected squared distance of two
    independent views of a shot, which is twice that of a view from its shot, over the mean
    squared distance of two shots. At most ``MOST_ALIKE``, which equal shots reach; 1 where there
    is no pair of either.
    """
    own, seen = support.own, support.probes
    order = np.argsort(support.shots[own], kind="stable")
    owners = support.shots[own][order]
    firsts = mean_of_shots(points[own][order], owners)
    n = len(firsts)
    if n == 1 or not seen.any():
        return 1.0
    between = 2 * n / (n - 1) * firsts.var(axis=0).sum()
    shot_of_view = firsts[np.searchsorted(np.unique(owners), support.shots[seen])]
    within = 2 * np.square(points[seen] - shot_of_view).sum(axis=1).mean()
    return float(within / max(between, within / MOST_ALIKE)) if within else 1.0
