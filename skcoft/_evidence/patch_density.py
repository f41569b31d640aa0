"""Evidence of patches: a density of local embeddings, which tells where an image departs."""

import warnings

import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus

from .._input.shots import mean_per_shot
from .._network.patches import MAX_PATCHES
from .patch_kde import PatchKDE

SUPPORT = 2048  # kernels in all, shared among the shots
LEAST = 32  # kernels per shot
TOP = 0.01  # share of patches that an image is scored by, of MAX_PATCHES at most
MAX_RATIO = 100.0


class PatchDensity:
    """A part, see ``_parts.py``: kernel density of the shots' local embeddings.

    Memory is bounded: every shot is thinned to its share of ``SUPPORT`` kernels, spread out by
    k-means++ seeding in the manner of PatchCore's coreset (arXiv 2106.08265), so leaving a shot
    out is leaving out its kernels. Scores of shots that were learned before stay as they are.

    Attributes
    ----------
    coresets : dict of group to ndarray of shape (n_kernels, d)
        Local embeddings of each shot, from far to near.
    patch_means : ndarray of shape (n_rows, d)
        Local embeddings of every row of the support, averaged over its patches.
    held_out_scores : ndarray
        Scores of the calibrating rows under the kernels of other shots.
    held_out_minima : ndarray
        Least log density of each of these rows at any of its patches, likewise.
    weight : float
        The :func:`within_between_ratio` of the shots.
    """

    needs_patches = True

    def __init__(self, seed):
        self.seed = seed
        self.coresets = {}
        self.bandwidth = None
        self.held_out_scores = self.held_out_minima = self.in_sample_scores = np.empty(0)
        self.patch_means = None

    @classmethod
    def build(cls, settings, encoder):
        """Build the part where it is wanted and the network has patches."""
        if not settings.local:
            return None
        if not encoder.has_patches:
            reason = getattr(encoder.network, "no_maps", None)
            if reason is not None:
                warnings.warn(
                    f"The local density is left out, the backbone has no maps: {reason}. "
                    "local=False says that this is meant.",
                    stacklevel=2,
                )
            return None
        return cls(encoder.seed)

    def add_patches(self, added):
        """Add the kernels of new shots, and score them, with these and by those of others."""
        means = np.stack([row.mean(axis=(0, 1), dtype=np.float64) for row in added.patches])
        self.patch_means = (
            means if self.patch_means is None else np.concatenate([self.patch_means, means])
        )
        added = added.without_probes()
        patches, groups = added.patches, added.shot_ids
        if not self.coresets and added.n_shots == 1:
            groups = -1 - added.groups  # its views, which no later shot's number may meet
        self._add_kernels(patches, groups)
        scores = [
            evidence_of(self.kde, row)[0]
            for row, wanted in zip(patches, added.is_shot, strict=True)
            if wanted
        ]
        self.in_sample_scores = np.append(self.in_sample_scores, scores)
        rows = np.flatnonzero(added.is_calibration)
        scores, lows = self._score_held_out([patches[row] for row in rows], groups[rows]).T
        self.held_out_scores, self.held_out_minima = (
            np.append(self.held_out_scores, scores),
            np.append(self.held_out_minima, lows),
        )

    def _add_kernels(self, patches, groups):
        names = np.unique(groups)
        per_group = max(SUPPORT // len({*self.coresets, *names}), LEAST)
        for name in names:
            rows = np.flatnonzero(groups == name)
            points = np.concatenate([_flat(patches[row]) for row in rows])
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
        self.kde = self._fit_density(self.coresets)
        self.bandwidth = self.kde.bandwidth

    def _fit_density(self, coresets):
        """Fit the kernels of some shots, at the bandwidth of the first fit of all."""
        return PatchKDE(np.concatenate(list(coresets.values())), self.bandwidth)

    def _score_held_out(self, patches, groups):
        found = np.empty((len(patches), 2))
        for name in np.unique(groups):
            others = {g: points for g, points in self.coresets.items() if g != name}
            rows = np.flatnonzero(groups == name)
            density = self._fit_density(others or self.coresets)
            found[rows] = [evidence_of(density, patches[row]) for row in rows]
        return found

    def fit(self, support):
        """Weigh by how alike all shots are: objects in scenes differ where nothing is wrong."""
        self.weight = within_between_ratio(self.patch_means, support)
        return self

    def summarize(self, features):
        """Score and least log density of each image; patches of all would be too many."""
        return evidence(self.kde.log_maps(features.patches))

    def score(self, kept):
        """Mean log density of each image's least likely patches."""
        return kept[:, 0]

    def minima(self, kept):
        """Log density of each image's least likely position."""
        return kept[:, 1]

    def score_training(self, support):
        """Scores of the shots, kernels on themselves included."""
        return self.in_sample_scores

    def log_maps(self, features):
        """Log density, in nats, at every position (n, h, w) of a batch.

        Outside of a mask that of the nearest position inside, so that maps can be enlarged.
        """
        maps = self.kde.log_maps(features.patches)
        return maps if features.nearest is None else maps[:, 0][:, features.nearest]


def _flat(patches):
    return patches.reshape(-1, patches.shape[-1])


def evidence_of(density, patches):
    """Score and least log density of one image's local embeddings (h, w, d), an array."""
    return evidence(density.log_maps(torch.from_numpy(patches)[None]))[0]


def evidence(maps):
    """Return (n, 2): the score and the least log density of each image."""
    return np.stack([lowest(maps), maps.min(axis=(1, 2))], axis=1)


def count_lowest(patches):
    """How many of so many patches an image is scored by."""
    return max(1, round(TOP * min(patches, MAX_PATCHES)))


def lowest(maps):
    """Score of each image: the mean log density of its least likely hundredth of patches.

    Of a large image no more of them than of another: a defect is not larger there.
    """
    flat = maps.reshape(len(maps), -1)
    count = count_lowest(flat.shape[1])
    return np.partition(flat, count - 1, axis=1)[:, :count].mean(axis=1)


def within_between_ratio(points, support):
    """How alike the shots are: 1 where they differ as much as views of one shot do, more if less.

    Of ``points``, one for each row of the support: the expected squared distance of two
    independent views of a shot, which is twice that of a view from its shot, over the mean
    squared distance of two shots. At most ``MAX_RATIO``, which equal shots reach; 1 where there
    is no pair of either.
    """
    own, seen = support.is_shot, support.is_view
    order = np.argsort(support.shot_ids[own], kind="stable")
    owners = support.shot_ids[own][order]
    firsts = mean_per_shot(points[own][order], owners)
    n = len(firsts)
    if n == 1 or not seen.any():
        return 1.0
    between = 2 * n / (n - 1) * firsts.var(axis=0).sum()
    shot_of_view = firsts[np.searchsorted(np.unique(owners), support.shot_ids[seen])]
    within = 2 * np.square(points[seen] - shot_of_view).sum(axis=1).mean()
    return float(within / max(between, within / MAX_RATIO)) if within else 1.0
