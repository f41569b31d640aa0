"""Support: what densities are fitted on, and which shot each row comes from."""

from dataclasses import dataclass, fields, replace

import numpy as np

from .tabular import HeldOutStandardizer

SHOT, MIRROR, VIEW, PROBE = 0, 1, 2, 3  # what a row is an embedding of
FEW = 4  # shots, below which their views are scored held out as well


@dataclass(frozen=True)
class Support:
    """Embeddings of shots, of their mirror images and of their views.

    Table that were embedded together come in this order: the shots, their mirror images, round
    after round of views, then of probes: views that no density is fitted on, by which it is told
    how alike the shots are.

    Attributes
    ----------
    embeddings : ndarray of shape (n_rows, d)
        L2-normalised embeddings.
    shot_ids : ndarray of shape (n_rows,)
        The shot that each row comes from: the number of its image, or of the first one where
        several are one shot, as copies are.
    roles : ndarray of shape (n_rows,)
        ``SHOT``, ``MIRROR``, ``VIEW`` or ``PROBE``.
    is_calibration : ndarray of bool, shape (n_rows,)
        Table that stand for unseen images: parts score them held out. Shots and their mirror
        images; of fewer than ``FEW`` shots, whose scores alone say too little, views as well.
    patches : list of ndarrays of shape (h, w, e) or None
        Local embeddings of every row, while they are at hand: they are large, so fits let go. With
        a mask, those inside alone, (1, k, e).
    unseen : HeldOutStandardizer or None
        Of rows of features, what embeds them anew where some are held out.
    anomaly_embeddings : ndarray of shape (n_anomalies, d) or None
        Embeddings of labelled anomalies, where they count.
    """

    embeddings: np.ndarray
    shot_ids: np.ndarray
    roles: np.ndarray
    is_calibration: np.ndarray
    patches: list | None = None
    standardizer: HeldOutStandardizer | None = None
    anomaly_embeddings: np.ndarray | None = None

    @classmethod
    def allot(cls, ids, n_views, mirror, n_probes=0):
        """Say what the rows of images are; their embeddings are to be filled in.

        ``ids`` are the shots that the images belong to; with ``mirror`` each has a mirror image.
        """
        ids = np.asarray(ids)
        counts = [1, bool(mirror), n_views, n_probes]
        rounds = np.array([SHOT, MIRROR, VIEW, PROBE]).repeat(counts)
        roles = rounds.repeat(len(ids))
        few = len(np.unique(ids)) < FEW
        is_calibration = roles <= (VIEW if few else MIRROR)
        return cls(None, np.tile(ids, len(rounds)), roles, is_calibration)

    @property
    def n_shots(self):
        """Number of shots; copies of an image count as one."""
        return len(np.unique(self.shot_ids[self.is_shot]))

    @property
    def n_images(self):
        """Number of images."""
        return int(self.is_shot.sum())

    @property
    def is_shot(self):
        """Mask of the shots themselves."""
        return self.roles == SHOT

    @property
    def is_view(self):
        """Mask of views, whether densities are fitted on them or not."""
        return self.roles >= VIEW

    @property
    def groups(self):
        """What is held out together: the rows of a shot; of a single shot, each row alone."""
        return np.arange(len(self.shot_ids)) if self.n_shots == 1 else self.shot_ids

    def extend(self, added):
        """Append the rows of more shots, without local embeddings."""
        joined = {
            field.name: np.concatenate([getattr(self, field.name), getattr(added, field.name)])
            for field in fields(self)
            if field.name not in ("patches", "standardizer", "anomaly_embeddings")
        }
        standardizer = self.standardizer and self.standardizer.extend(added.standardizer)
        return Support(
            **joined, standardizer=standardizer, anomaly_embeddings=self.anomaly_embeddings
        )

    def embeddings_held_out(self, seen):
        """Embeddings of all rows by what those of a mask know; of images as they are."""
        if self.standardizer is None:
            return self.embeddings
        return self.standardizer.embed(seen, self.embeddings)

    def without_probes(self):
        """Leave out what no density is fitted on."""
        rows = self.roles != PROBE
        patches = self.patches
        if patches is not None:
            patches = [patches[row] for row in np.flatnonzero(rows)]
        names = "embeddings", "shot_ids", "roles", "is_calibration"
        kept = {name: getattr(self, name)[rows] for name in names}
        return replace(self, **kept, patches=patches)

    def without_patches(self):
        """Leave the local embeddings out."""
        return replace(self, patches=None)
