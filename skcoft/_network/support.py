"""Support: the embeddings that densities are fitted on, and the shot of each row."""

from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from .tabular import HeldOutStandardizer

SHOT, MIRROR, VIEW, PROBE = 0, 1, 2, 3  # the roles of rows
MAX_CHANGED_SHOTS = 16  # enough to show how harmless changes move embeddings
MIN_CALIBRATION_SHOTS = 4  # with fewer shots, their views are calibration rows as well
MAX_RATIO = 100.0  # maximum within/between ratio
ROW_ARRAYS = "embeddings", "shot_ids", "roles", "is_calibration"  # fields with an item per row


@dataclass(frozen=True)
class Support:
    """Embeddings of shots, of their mirror images and of their views.

    Rows that were embedded together are in this order: the shots, their mirror images, one round
    of views after another, one round of probes after another. Probes are views that no density is
    fitted on. They show how similar the shots are.

    Attributes
    ----------
    embeddings : ndarray of shape (n_rows, d)
        L2-normalised embeddings.
    shot_ids : ndarray of shape (n_rows,)
        The shot of each row: the number of its image. If several images are one shot, such as
        duplicates, it is the number of the first one.
    roles : ndarray of shape (n_rows,)
        ``SHOT``, ``MIRROR``, ``VIEW`` or ``PROBE``.
    is_calibration : ndarray of bool, shape (n_rows,)
        Rows that stand for new images: components score them held out. These are the shots and
        their mirror images. With fewer than ``MIN_CALIBRATION_SHOTS`` shots, these are too few
        scores, so views are included.
    patches : list of ndarrays of shape (h, w, e) or None
        Patch embeddings of every row. With a mask, only patches inside it, (1, k, e). Those of
        probes are reduced to their mean, (1, 1, e). None if they were dropped, because they are
        large.
    standardizer : HeldOutStandardizer or None
        For tabular data: embeds the rows again with some of them held out.
    anomaly_embeddings : ndarray of shape (n_anomalies, d) or None
        Embeddings of labelled anomalies, if they are used.
    moves : ndarray of shape (n_moves, d) or None
        How harmless changes of an image, such as noise, move its embedding. They are scaled so
        that their mean square is the sum over the kinds of change. None for tabular data.
    move_ids : ndarray of shape (n_moves,) or None
        The shot of each move.
    patch_moves : list of ndarrays of shape (h, w, e) or None
        The same of patch embeddings. None if they were dropped.
    """

    embeddings: np.ndarray
    shot_ids: np.ndarray
    roles: np.ndarray
    is_calibration: np.ndarray
    patches: list | None = None
    standardizer: HeldOutStandardizer | None = None
    anomaly_embeddings: np.ndarray | None = None
    moves: np.ndarray | None = None
    move_ids: np.ndarray | None = None
    patch_moves: list | None = None

    @classmethod
    def allot(cls, ids: npt.ArrayLike, n_views: int, mirror: bool, n_probes: int = 0) -> "Support":
        """Return a support with the roles of all rows, but without embeddings.

        ``ids`` are the shots of the images. If ``mirror`` is True, each has a mirror image.
        """
        ids = np.asarray(ids)
        counts = [1, bool(mirror), n_views, n_probes]
        rounds = np.array([SHOT, MIRROR, VIEW, PROBE]).repeat(counts)
        roles = rounds.repeat(len(ids))
        few_shots = len(np.unique(ids)) < MIN_CALIBRATION_SHOTS
        is_calibration = roles <= (VIEW if few_shots else MIRROR)
        return cls(np.empty((len(roles), 0)), np.tile(ids, len(rounds)), roles, is_calibration)

    @property
    def n_shots(self) -> int:
        """Number of shots. Duplicates of an image are one shot."""
        return len(np.unique(self.shot_ids[self.is_shot]))

    @property
    def n_images(self) -> int:
        """Number of images."""
        return int(self.is_shot.sum())

    @property
    def is_shot(self) -> np.ndarray:
        """Mask of the rows that are images themselves."""
        return self.roles == SHOT

    @property
    def is_view(self) -> np.ndarray:
        """Mask of the rows that are views or probes."""
        return self.roles >= VIEW

    @property
    def groups(self) -> np.ndarray:
        """Group of each row; groups are held out together.

        A group is a shot with its mirror image and views. If there is a single shot, each row is
        its own group.
        """
        return np.arange(len(self.shot_ids)) if self.n_shots == 1 else self.shot_ids

    def extend(self, added: "Support") -> "Support":
        """Return the support with the rows of more shots, without patch embeddings."""
        rows: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(added, name)])
            for name in ROW_ARRAYS
        }
        rows |= self._extend_moves(added)
        standardizer = None
        if self.standardizer is not None and added.standardizer is not None:
            standardizer = self.standardizer.extend(added.standardizer)
        return replace(self, **rows, standardizer=standardizer).without_patches()

    @property
    def n_unchanged(self) -> int:
        """Number of shots whose moves are still wanted; 0 for models of earlier versions."""
        if self.move_ids is None:
            return 0
        return max(0, MAX_CHANGED_SHOTS - len(np.unique(self.move_ids)))

    def _extend_moves(self, added: "Support") -> dict[str, np.ndarray | None]:
        """Return the moves with those of more shots, if both have moves."""
        if (
            self.moves is None
            or self.move_ids is None
            or added.moves is None
            or added.move_ids is None
        ):
            return {"moves": self.moves, "move_ids": self.move_ids}
        return {
            "moves": np.concatenate([self.moves, added.moves]),
            "move_ids": np.concatenate([self.move_ids, added.move_ids]),
        }

    def embeddings_held_out(self, is_training: np.ndarray) -> np.ndarray:
        """Return embeddings of all rows that use the training rows only.

        Embeddings of images do not depend on other images, so they are returned unchanged.
        """
        if self.standardizer is None:
            return self.embeddings
        return self.standardizer.embed(is_training, self.embeddings)

    def moves_held_out(self, is_training: np.ndarray) -> np.ndarray | None:
        """Return the moves of shots that have training rows; all moves of a single shot."""
        is_selected = self.selected_moves(is_training)
        return None if self.moves is None or not is_selected.any() else self.moves[is_selected]

    def selected_moves(self, is_training: np.ndarray) -> np.ndarray:
        """Return the mask of the moves that :meth:`moves_held_out` returns, (n_moves,)."""
        if self.moves is None or self.move_ids is None or self.n_shots == 1:
            return np.ones(0 if self.moves is None else len(self.moves), dtype=bool)
        return np.isin(self.move_ids, self.shot_ids[is_training])

    def without_probes(self) -> "Support":
        """Return the rows that densities are fitted on."""
        is_fitted = self.roles != PROBE
        patches = None if self.patches is None else list(compress(self.patches, is_fitted))
        return replace(self, **self._rows(is_fitted), patches=patches)

    def take(self, is_kept: np.ndarray) -> "Support":
        """Return the rows of some shots and their moves, without patch embeddings."""
        moves: dict[str, Any] = {}
        if self.moves is not None and self.move_ids is not None:
            is_moved = np.isin(self.move_ids, self.shot_ids[is_kept])
            moves = {"moves": self.moves[is_moved], "move_ids": self.move_ids[is_moved]}
        standardizer = self.standardizer and self.standardizer.take(is_kept)
        return replace(
            self, **self._rows(is_kept), **moves, standardizer=standardizer
        ).without_patches()

    def _rows(self, is_selected: np.ndarray) -> dict[str, Any]:
        return {name: getattr(self, name)[is_selected] for name in ROW_ARRAYS}

    def without_patches(self) -> "Support":
        """Return the support without patch embeddings."""
        return replace(self, patches=None, patch_moves=None)


def within_between_ratio(shots: np.ndarray, views: np.ndarray, shot_of_view: np.ndarray) -> float:
    """Return the expected squared distance within shots divided by that between shots.

    The distance within shots is that of two independent views of a shot, twice that of a view
    from its shot. The ratio is 1 if shots differ as much as views of one shot do, and larger if
    they differ less. The maximum, ``MAX_RATIO``, is reached by equal shots. Without two shots or
    without views, the ratio is 1.

    Parameters
    ----------
    shots : ndarray of shape (n_shots, d)
        Embedding of each shot.
    views : ndarray of shape (n_views, d)
        Embeddings of views of the shots.
    shot_of_view : ndarray of shape (n_views,)
        Index of the shot of each view.
    """
    n = len(shots)
    if n == 1 or not len(views):
        return 1.0
    between = 2 * n / (n - 1) * shots.var(axis=0).sum()
    within = 2 * np.square(views - shots[shot_of_view]).sum(axis=1).mean()
    return float(within / max(between, within / MAX_RATIO)) if within else 1.0
