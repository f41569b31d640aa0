"""Which training images count as one shot, and which shots ``partial_fit`` keeps."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._utils.warning import warn_user
from .duplicates import equal_modalities
from .images import item_name
from .labels import normal_positions
from .types import InputData

MAX_IMAGES_PER_SHOT = 8  # that partial_fit keeps, such as duplicates of a part that never moves


@dataclass(frozen=True)
class ShotRegistry:
    """The training images that a detector keeps, in order, and the shot of each.

    Attributes
    ----------
    thumbnails : ndarray of shape (n_images, ...)
        Thumbnails by which duplicates are found, those of several modalities side by side. For
        tabular data, the rows.
    jpeg_distances : ndarray of shape (n_images,) or (n_images, n_modalities)
        Distance of each thumbnail from that of the image after saving it as a JPEG file.
    groups : list
        The user's group of each image; None for images without one.
    ids : ndarray of shape (n_images,)
        The shot of each image, named by the number of its first image, counted over all calls.
        Duplicates are one shot, as are the images of a group.
    n_seen : int or None
        Number of images in all calls, whether they are kept or not. None in models of earlier
        versions, which keep all images.
    """

    thumbnails: np.ndarray
    jpeg_distances: np.ndarray
    groups: list[Any]
    ids: np.ndarray
    n_seen: int | None = None

    @property
    def n_images_seen(self) -> int:
        """Number of images in all calls."""
        return len(self.ids) if self.n_seen is None else self.n_seen

    @classmethod
    def of(
        cls, inputs: InputData, groups: list[Any] | None = None, mirrored: bool = False
    ) -> "ShotRegistry":
        """Return the registry of the images of a first fit; ``groups`` are the user's or None."""
        bit_depths = {name: images.bit_depth for name, images in inputs.by_modality.items()}
        empty = cls(*inputs.empty_thumbnails(), [], np.empty(0, int), 0)
        registry = empty.extend(inputs, groups, bit_depths, mirrored)
        _check_modalities_differ(inputs, registry.thumbnails)
        return registry

    def extend(
        self,
        inputs: InputData,
        groups: list[Any] | None,
        bit_depths: Mapping[Any, int | None],
        mirrored: bool = False,
    ) -> "ShotRegistry":
        """Return a registry with more images; warn of duplicates that no group explains.

        ``bit_depths`` are those of the fit, by modality. With ``mirrored``, an image and its
        mirror image are duplicates: densities that contain mirror images know both from either.
        """
        start = len(self.ids)
        thumbnails, jpeg_distances, is_duplicate = inputs.find_duplicates(
            self.thumbnails, self.jpeg_distances, bit_depths, mirrored
        )
        all_groups = [*self.groups, *([None] * len(inputs) if groups is None else groups)]
        ids, duplicates = list(self.ids), []
        id_of_group = {name: ids[i] for i, name in reversed([*enumerate(self.groups)])}
        for i, name in enumerate(all_groups[start:], start):
            if name is not None and name in id_of_group:
                ids.append(id_of_group[name])
                continue
            originals = np.flatnonzero(is_duplicate[i - start, :i])[:1]
            duplicates += [(i, int(j)) for j in originals]
            ids.append(ids[originals[0]] if len(originals) else self.n_images_seen + i - start)
            id_of_group[name] = ids[i]
        _warn_of_duplicates(duplicates, start)
        n_seen = self.n_images_seen + len(inputs)
        return ShotRegistry(thumbnails, jpeg_distances, all_groups, np.array(ids), n_seen)

    def choose_kept(self, n_earlier: int, max_shots: int, seed: int) -> np.ndarray:
        """Return a mask of the images to keep, if those from ``n_earlier`` on are new.

        At most ``max_shots`` shots are kept, see :func:`choose_shots`. A new image is left out if
        its shot has ``MAX_IMAGES_PER_SHOT`` images already.
        """
        kept_shots = choose_shots(np.unique(self.ids).tolist(), max_shots, seed)
        is_new = np.arange(len(self.ids)) >= n_earlier
        is_surplus = is_new & (count_before(self.ids) >= MAX_IMAGES_PER_SHOT)
        return np.isin(self.ids, kept_shots) & ~is_surplus

    def take(self, is_kept: np.ndarray) -> "ShotRegistry":
        """Return the registry with the images of a mask."""
        return replace(
            self,
            thumbnails=self.thumbnails[is_kept],
            jpeg_distances=self.jpeg_distances[is_kept],
            groups=list(compress(self.groups, is_kept)),
            ids=self.ids[is_kept],
        )


def choose_shots(names: list[int], max_shots: int, seed: int) -> list[int]:
    """Return the shots to keep, sorted: all of them, or those with the lowest of random numbers.

    The random number of a shot depends on its name and the seed only. So the kept shots are a
    uniform random sample of all shots, whether these come in one call or in several (bottom-k
    sampling, a form of reservoir sampling).
    """
    if len(names) <= max_shots:
        return sorted(names)
    ranks = {name: np.random.default_rng([seed, abs(name)]).random() for name in names}
    return sorted(sorted(names, key=ranks.__getitem__)[:max_shots])


def count_before(ids: np.ndarray) -> np.ndarray:
    """Return how many earlier items have the same id, for each item."""
    counts: Counter[int] = Counter()
    result = np.empty(len(ids), dtype=int)
    for i, name in enumerate(ids.tolist()):
        result[i] = counts[name]
        counts[name] += 1
    return result


def _check_modalities_differ(inputs: InputData, thumbnails: np.ndarray) -> None:
    """Raise ValueError if a modality of several tells nothing; warn if the images are plain.

    Ground truth of normal images is one colour, and a path beside an image is the same image.
    """
    names = list(inputs.by_modality)
    for name in inputs.plain_modalities(thumbnails):
        what = (
            f"Every one of the {len(inputs)} images of {item_name(name)} is of one colour all "
            "over. Nothing can be learned from them."
        )
        if len(names) == 1:
            warn_user(f"{what} Check the images.")
            continue
        others = [other for other in names if other != name]
        raise ValueError(
            f"{what} Masks of normal images look like this, and a mask must not become evidence. "
            f"Leave out the modality {name!r} and pass {others} alone."
        )
    pair = equal_modalities(inputs, thumbnails)
    if pair is not None:
        raise ValueError(
            f"{item_name(pair[0])} and {item_name(pair[1])} are the same image in each of the "
            f"{len(inputs)} samples, so it would count twice. Leave out one of the two."
        )


def _warn_of_duplicates(duplicates: list[tuple[int, int]], start: int) -> None:
    """Warn of (position, position of the original); those before ``start`` are earlier calls'."""
    if not duplicates:
        return
    i, j = duplicates[0]
    original = f"X[{j - start}]" if j >= start else f"shot {j} of an earlier call"
    count = "a duplicate" if len(duplicates) == 1 else f"{len(duplicates)} duplicates"
    warn_user(
        f"X holds {count}: X[{i - start}] duplicates {original}. Duplicates count as one shot. "
        "Pass groups= to say which images belong together.",
    )


def parse_groups(
    inputs: InputData, y: npt.ArrayLike | None, groups: npt.ArrayLike | None
) -> list[Any] | None:
    """Return the user's groups of the normal images, or None; ValueError for another shape."""
    if groups is None:
        return None
    check_consistent_length(inputs, groups)
    if len(set(np.shape(groups)) - {1}) > 1:
        raise ValueError(f"groups must have the shape (n,); got {np.shape(groups)}.")
    values = np.asarray(column_or_1d(groups))
    values = values[normal_positions(y, len(values))]
    return [None if is_missing_group(group) else group for group in values.tolist()]


def is_missing_group(group: Any) -> bool:
    """Whether a group is None or NaN, so that the image has no group."""
    return group is None or group != group


def mean_per_shot(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the mean of the values (n_images, ...) of each shot, ordered by first image."""
    shots, inverse = np.unique(ids, return_inverse=True)
    if len(shots) == len(ids):
        return values
    return np.stack([values[inverse == k].mean(axis=0) for k in range(len(shots))])
