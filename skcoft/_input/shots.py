"""What counts as one shot: copies of an image, and images that are known to belong together."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .duplicates import WIDTH, are_plain, compare_rows, compare_samples
from .images import item_name


@dataclass(frozen=True)
class Shots:
    """Images in the order of learning, and the shot that each belongs to.

    Attributes
    ----------
    pictures : ndarray of shape (n_images, ...)
        By what copies are told; of samples of several images all side by side.
    limits : ndarray of shape (n_images,) or (n_images, n_modalities)
        How far a JPEG file of each image lies from it, by which copies are told as well.
    known : list
        The user's group of each image; None where there is none.
    ids : ndarray of shape (n_images,)
        The shot that each image belongs to, named by the number of its first image. Copies are one
        shot, as are the images of a group.
    """

    pictures: np.ndarray
    limits: np.ndarray
    known: list
    ids: np.ndarray

    @classmethod
    def of(cls, inputs, known=None, mirrored=False):
        """Group inputs; ``known`` are the user's groups of them, or None."""
        rows, several = inputs.input_type == "tabular", len(inputs.by_modality)
        width = inputs.values.shape[1] if rows else several * WIDTH
        pictures = np.empty((0, width), np.float64 if rows else np.float32)
        limits = np.empty(0 if several == 1 else (0, several))
        bit_depths = {modality: part.bit_depth for modality, part in inputs.by_modality.items()}
        found = cls(pictures, limits, [], np.empty(0, int)).extend(
            inputs, known, bit_depths, mirrored
        )
        if not rows:
            _warn_of_plain(inputs, found.pictures)
        return found

    def extend(self, inputs, known, bit_depths, mirrored=False):
        """Return these with more images; warn of copies that no group of the user's explains.

        ``bit_depths`` are the bits of whole numbers, those of the fit, by modality. With
        ``mirrored``, an image and its mirror image are copies: of densities that know mirror
        images, each would
        know the other.
        """
        start, limits = len(self.ids), self.limits
        if inputs.input_type == "tabular":
            pictures = np.concatenate([self.pictures, inputs.values])
            limits = np.concatenate([limits, np.zeros(len(inputs))])
            alike = compare_rows(pictures, start)
        else:
            pictures, limits, alike = compare_samples(
                inputs.by_modality, bit_depths, self.pictures, limits, mirrored
            )
        names = [*self.known, *([None] * len(inputs) if known is None else known)]
        ids, copies = list(self.ids), []
        firsts = {name: ids[i] for i, name in reversed([*enumerate(self.known)])}
        for i, name in enumerate(names[start:], start):
            if name is not None and name in firsts:
                ids.append(firsts[name])
                continue
            same = np.flatnonzero(alike[i - start, :i])[:1]
            copies += [(i, int(j)) for j in same]
            ids.append(ids[same[0]] if len(same) else i)
            firsts[name] = ids[i]
        _warn_of_copies(copies, start)
        return Shots(pictures, limits, names, np.array(ids))


def _warn_of_plain(inputs, pictures):
    """Name the modalities whose pictures are of one colour all over."""
    parts = np.split(pictures, len(inputs.by_modality), axis=1)
    for modality, part in zip(inputs.by_modality, parts, strict=True):
        if are_plain(part):
            warnings.warn(
                f"Every one of the {len(inputs)} images of {item_name(modality)} is of one colour "
                "all over, so there is nothing to learn of them.",
                stacklevel=5,
            )


def _warn_of_copies(copies, start):
    """Name the first copies, counted as in X where both are in it."""
    if not copies:
        return
    i, j = copies[0]
    of = f"X[{j - start}]" if j >= start else f"shot {j} of an earlier call"
    more = f" and {len(copies) - 1} more" if len(copies) > 1 else ""
    warnings.warn(
        f"X holds copies: X[{i - start}] is one of {of}{more}. Copies count as one shot; say "
        "which images belong together with groups=.",
        stacklevel=5,
    )


def parse_groups(inputs, y, groups):
    """Return the user's groups of what y calls normal, or None; ValueError for another length."""
    if groups is None:
        return None
    check_consistent_length(inputs, groups)
    if len(set(np.shape(groups)) - {1}) > 1:
        raise ValueError(f"groups must have the shape (n,); got {np.shape(groups)}.")
    groups = np.asarray(column_or_1d(groups))
    if y is not None and -1 in np.asarray(y):
        groups = groups[np.asarray(y) == 1]
    return [None if is_missing(group) else group for group in groups.tolist()]


def is_missing(group):
    """Whether a group is none that is known: None or NaN."""
    return group is None or group != group


def mean_per_shot(values, ids):
    """Mean of the values (n_images, ...) of each shot, in the order of their first images."""
    shots, inverse = np.unique(ids, return_inverse=True)
    if len(shots) == len(ids):
        return values
    return np.stack([values[inverse == k].mean(axis=0) for k in range(len(shots))])
