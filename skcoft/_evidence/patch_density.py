"""Component for patches: a kernel density of patch embeddings, which also gives anomaly maps."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import nn

from .._input.shots import choose_shots, mean_per_shot
from .._network.encoder import Encoder, Features
from .._network.patches import MAX_PATCHES
from .._network.support import Support, within_between_ratio
from .._utils.settings import DetectorSettings
from .._utils.warning import warn_user
from .patch_kde import PatchKDE, choose_kernels, metric_of_moves
from .torch_density import LogKernelDensity

MAX_KERNELS = 2048  # shared among the shots
MAX_KERNEL_SHOTS = 256  # shots that have kernels, if there are more
SCORED_SHARE = 0.01  # share of the patches that the score of an image is computed from
COMPARED_SHARE = 0.05  # of a shot's kernels, which stand for its scored patches


class PatchDensity:
    """Kernel density of the patch embeddings of the shots, see :class:`ScoreComponent`.

    Memory and time are bounded, because every shot is reduced to its share of ``MAX_KERNELS``
    kernels. They are spread out by k-means++ seeding, similar to the coreset of PatchCore (arXiv
    2106.08265). So a shot is left out by leaving out its kernels. If there are more than
    ``MAX_KERNEL_SHOTS`` shots, only so many of them, chosen at random, have kernels. If shots are
    added later, the held-out scores of earlier shots follow, see :meth:`_update_held_out`.

    Attributes
    ----------
    coresets : dict of group to ndarray of shape (n_kernels, d)
        Kernels of each shot that has some, sorted so that the first ones are the most spread out.
    kde : PatchKDE
        Density of all kernels.
    patch_means : ndarray of shape (n_rows, d)
        Mean patch embedding of every row of the support.
    held_out_scores : ndarray
        Scores of the calibration rows under the kernels of other shots.
    held_out_minima : ndarray
        Lowest log density of any patch of each calibration row, under the same kernels.
    weight : float
        The :func:`within_between_ratio` of the shots.
    """

    needs_patches: ClassVar[bool] = True
    state_fields: ClassVar[dict[str, Any]] = {
        "seed": Integral,
        "coresets": {Integral: "f4 _ e"},
        "bandwidth": Real,
        "metric": ("f4 e e", None),
        "kde": PatchKDE,
        "held_out_scores": "f8 K",
        "held_out_minima": "f8 K",
        "patch_means": "f8 R e",
        "weight": Real,
    }
    weight: float

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.coresets: dict[int, np.ndarray] = {}
        self.bandwidth: float | None = None
        self.metric: np.ndarray | None = None
        self.held_out_scores = self.held_out_minima = np.empty(0)
        self.patch_means: Any = None  # an array after add_patches

    @classmethod
    def build(cls, settings: DetectorSettings, encoder: Encoder) -> "PatchDensity | None":
        """Return the component if ``local`` is True and the network has patch embeddings."""
        reason = getattr(encoder.network, "no_maps", None)
        if settings.local and reason is not None:
            warn_user(
                f"The patch density is left out, because the backbone has no maps: {reason}. Set "
                "local=False to confirm this."
            )
        return cls(encoder.seed) if settings.local and encoder.has_patches else None

    def add_patches(self, support: Support, earlier: Support | None = None) -> None:
        """Add the kernels of new shots and score these shots, held out."""
        patches = cast(list[np.ndarray], support.patches)
        means = np.stack([row.mean(axis=(0, 1), dtype=np.float64) for row in patches])
        earlier_means = means[:0] if self.patch_means is None else self.patch_means
        self.patch_means = np.concatenate([earlier_means, means])
        support = support.without_probes()
        patches, groups = cast(list[np.ndarray], support.patches), support.shot_ids
        if not self.coresets and support.n_shots == 1:
            # groups of its views; negative, so that no later shot has their number
            groups = -1 - support.groups
        earlier_coresets = dict(self.coresets)
        self._add_kernels(patches, groups, support.patch_moves)
        if earlier is not None:
            self._update_held_out(earlier_coresets, earlier.shot_ids[earlier.is_calibration])
        rows = np.flatnonzero(support.is_calibration)
        scores, minima = self._score_held_out([patches[row] for row in rows], groups[rows]).T
        self.held_out_scores = np.append(self.held_out_scores, scores)
        self.held_out_minima = np.append(self.held_out_minima, minima)

    def keep_rows(self, support: Support, is_kept: np.ndarray) -> None:
        """Forget the shots whose rows of the support are not kept."""
        kept = set(support.shot_ids[is_kept].tolist())
        # a single shot of fit has a group, of a negative number, for each of its views
        earlier_coresets = self.coresets
        self.coresets = {
            name: points
            for name, points in earlier_coresets.items()
            if name in kept or (name < 0 and 0 in kept)
        }
        self.patch_means = self.patch_means[is_kept]
        is_scored = is_kept[support.is_calibration]
        self.held_out_scores = self.held_out_scores[is_scored]
        self.held_out_minima = self.held_out_minima[is_scored]
        if len(self.coresets) < len(earlier_coresets):
            shot_ids = support.shot_ids[is_kept & support.is_calibration]
            self._update_held_out(earlier_coresets, shot_ids)

    def _add_kernels(
        self, patches: list[np.ndarray], groups: np.ndarray, moves: list[np.ndarray] | None
    ) -> None:
        is_first_fit = not self.coresets
        all_names = list({*self.coresets, *groups.tolist()})
        names = choose_shots(all_names, MAX_KERNEL_SHOTS, self.seed)
        per_group = MAX_KERNELS // len(names)
        for name in np.unique(groups[np.isin(groups, names)]).tolist():
            arrays = [patches[row] for row in np.flatnonzero(groups == name)]
            if name in self.coresets:  # more images of an earlier shot
                arrays.insert(0, self.coresets[name])
            points = np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])
            n_kernels = min(per_group, len(points))
            self.coresets[name] = points[choose_kernels(points, n_kernels, self.seed)]
        # the first ones are spread out most
        self.coresets = {
            name: points[:per_group] for name, points in self.coresets.items() if name in names
        }
        if is_first_fit and moves:
            spherical = self._fit_density(self.coresets)
            self.metric = metric_of_moves(moves, spherical.bandwidth)
        self.kde = self._fit_density(self.coresets)
        self.bandwidth = self.kde.bandwidth

    def _fit_density(self, coresets: dict[int, np.ndarray]) -> PatchKDE:
        """Return the density of some shots, with bandwidth and metric of the first fit of all."""
        return PatchKDE(np.concatenate(list(coresets.values())), self.bandwidth, self.metric)

    def _update_held_out(self, earlier: dict[int, np.ndarray], shot_ids: np.ndarray) -> None:
        """Let the held-out scores of earlier shots follow from the earlier kernels to these.

        More shots have fewer kernels each, so an image like the earlier shots scores lower. The
        patches of earlier shots are not stored, but their kernels are the most different ones of
        them. So a shot's scores change as do those of its least likely kernels, under the kernels
        of other shots. A shot without kernels changes as the others do on average. ``shot_ids``
        are the shots of the scores.
        """
        scored = {name: points for name, points in earlier.items() if name in self.coresets}
        if not scored or min(len(earlier), len(self.coresets)) < 2:
            return
        changes = self._score_kernels(scored, self.coresets) - self._score_kernels(scored, earlier)
        by_name = dict(zip(scored, changes, strict=True))
        mean = changes.mean(axis=0)
        rows = np.array([by_name.get(name, mean) for name in shot_ids.tolist()])
        self.held_out_scores = self.held_out_scores + rows[:, 0]
        self.held_out_minima = self.held_out_minima + rows[:, 1]

    def _score_kernels(
        self, scored: dict[int, np.ndarray], coresets: dict[int, np.ndarray]
    ) -> np.ndarray:
        """Return the score and the lowest log density of each shot's kernels (n_shots, 2)."""
        rows, shots = np.concatenate(list(scored.values())), owners(scored)
        density = self._fit_density(coresets)
        values = density.log_density_of_others(rows, shots, owners(coresets))
        lowest = [lowest_share(values[shots == name]) for name in scored]
        return np.array([(each.mean(), each[0]) for each in lowest])

    def _score_held_out(self, patches: list[np.ndarray], groups: np.ndarray) -> np.ndarray:
        scores = np.empty((len(patches), 2))
        for name in np.unique(groups).tolist():
            others = {g: points for g, points in self.coresets.items() if g != name}
            rows = np.flatnonzero(groups == name)
            has_kernels = others and len(others) < len(self.coresets)
            density = self._fit_density(others) if has_kernels else self.kde
            scores[rows] = [score_patches(density, patches[row]) for row in rows]
        return scores

    def fit(self, support: Support) -> Self:
        """Compute the weight from the similarity of all shots."""
        self.weight = ratio_of_support(self.patch_means, support)
        return self

    def summarize(self, features: Features) -> np.ndarray:
        """Return score and lowest log density (n, 2); all patches would need too much memory."""
        return summarize_maps(self.kde.log_maps(cast(torch.Tensor, features.patches)))

    def score(self, summary: np.ndarray) -> np.ndarray:
        """Return the mean log density of the least likely patches of each image."""
        return summary[:, 0]

    def minima(self, summary: np.ndarray) -> np.ndarray:
        """Return the log density of the least likely patch of each image."""
        return summary[:, 1]

    def log_maps(self, features: Features) -> np.ndarray:
        """Return the log density in nats at every patch (n, h, w).

        Outside of a mask, it is that of the nearest patch inside, so that maps can be resized.
        """
        maps = self.kde.log_maps(cast(torch.Tensor, features.patches))
        return maps if features.nearest is None else maps[:, 0][:, features.nearest]

    def to_graph(self) -> nn.Module:
        """Return scores and log densities as a module of patch embeddings."""
        return PatchGraph(self.kde.to_torch())


def owners(coresets: dict[int, np.ndarray]) -> np.ndarray:
    """Return the shot of each kernel."""
    return np.repeat(list(coresets), [len(points) for points in coresets.values()])


def lowest_share(values: np.ndarray) -> np.ndarray:
    """Return the lowest ``COMPARED_SHARE`` of values, sorted."""
    return np.sort(values)[: max(1, round(COMPARED_SHARE * len(values)))]


class PatchGraph(nn.Module):
    """Scores and log densities of patches (n, h, w, d), as :class:`PatchDensity`."""

    def __init__(self, log_density: LogKernelDensity) -> None:
        super().__init__()
        self.log_density = log_density

    def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = map(int, patches.shape[1:3])
        log_density = self.log_density(patches.flatten(0, 2)).unflatten(0, (-1, height * width))
        lowest = log_density.topk(count_scored(height * width), dim=1, largest=False)[0]
        return lowest.mean(1), log_density.unflatten(1, (height, width))


def score_patches(density: PatchKDE, patches: np.ndarray) -> np.ndarray:
    """Return score and lowest log density of the patch embeddings (h, w, d) of one image."""
    return summarize_maps(density.log_maps(torch.from_numpy(patches)[None]))[0]


def summarize_maps(maps: np.ndarray) -> np.ndarray:
    """Return (n, 2): the score and the lowest log density of each image."""
    return np.stack([mean_of_lowest(maps), maps.min(axis=(1, 2))], axis=1)


def count_scored(n_patches: int) -> int:
    """Return the number of patches that the score of an image is computed from.

    A large image has no more of them than one with ``MAX_PATCHES`` patches, because defects are
    not larger there.
    """
    return max(1, round(SCORED_SHARE * min(n_patches, MAX_PATCHES)))


def mean_of_lowest(maps: np.ndarray) -> np.ndarray:
    """Return the score of each image: the mean log density of its least likely patches."""
    flat = maps.reshape(len(maps), -1)
    count = count_scored(flat.shape[1])
    return np.partition(flat, count - 1, axis=1)[:, :count].mean(axis=1)


def ratio_of_support(points: np.ndarray, support: Support) -> float:
    """Return the :func:`within_between_ratio` of points, one for each row of the support."""
    is_shot, is_view = support.is_shot, support.is_view
    order = np.argsort(support.shot_ids[is_shot], kind="stable")
    shot_ids = support.shot_ids[is_shot][order]
    shots = mean_per_shot(points[is_shot][order], shot_ids)
    shot_of_view = np.searchsorted(np.unique(shot_ids), support.shot_ids[is_view])
    return within_between_ratio(shots, points[is_view], shot_of_view)
