"""What counts as one shot: copies of an image, and images that are known to belong together."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length, column_or_1d

SIDE = 64  # of the pictures that are compared
ALIKE = 0.05  # greatest root mean square difference of copies, of pictures of deviation 1
LIGHT = 4 / 255  # difference of brightness that counts as much
ROUNDING = 1e-6  # of equal rows, of what a column varies by


@dataclass(frozen=True)
class Shots:
    """Images in the order of learning, and the shot that each belongs to.

    Attributes
    ----------
    pictures : ndarray of shape (n_images, ...)
        By what copies are told.
    known : list
        The user's group of each image; None where there is none.
    ids : ndarray of shape (n_images,)
        The shot that each image belongs to, named by the number of its first image. Copies are one
        shot, as are the images of a group.
    """

    pictures: np.ndarray
    known: list
    ids: np.ndarray

    @classmethod
    def of(cls, inputs, known=None, mirrored=False):
        """Group inputs; ``known`` are the user's groups of them, or None."""
        return cls(None, [], np.empty(0, dtype=int)).extend(inputs, known, inputs.depth, mirrored)

    def extend(self, inputs, known, depth, mirrored=False):
        """Return these with more images; warn of copies that no group of the user's explains.

        ``depth`` are the bits of whole numbers, those of the fit. With ``mirrored``, an image and
        its mirror image are copies: of densities that know mirror images, each would know the
        other.
        """
        added, start = inputs.pictures(SIDE, depth), len(self.ids)
        pictures = added if self.pictures is None else np.concatenate([self.pictures, added])
        names = [*self.known, *([None] * len(inputs) if known is None else known)]
        ids, copies = list(self.ids), []
        spread = pictures.std(axis=0) if inputs.kind == "rows" else None
        for i in range(start, len(names)):
            same = [j for j in range(i) if names[i] is not None and names[j] == names[i]]
            if not same:
                alike = _alike(pictures[:i], pictures[i], inputs.kind, spread)
                if mirrored and inputs.kind == "images":
                    alike |= _alike(pictures[:i], _mirrored(pictures[i]), inputs.kind, spread)
                same = np.flatnonzero(alike).tolist()
                copies += [(i, j) for j in same[:1]]
            ids.append(ids[same[0]] if same else i)
        _warn_of_copies(copies, start)
        return Shots(pictures, names, np.array(ids))


def _alike(pictures, picture, kind, spread):
    """Whether each of some pictures is a copy of one; ``spread`` is how much all of them vary."""
    if kind == "rows":
        # beside the spread: a time stamp or a voltage may lie far from zero and vary little
        exact = 4 * np.finfo(np.float64).eps * np.abs(picture)
        return (np.abs(pictures - picture) <= ROUNDING * spread + exact).all(axis=1)
    return np.linalg.norm(pictures - picture, axis=1) <= ALIKE


def _mirrored(picture):
    """Return the picture of the mirror image."""
    image, light = picture[:-1].reshape(-1, SIDE, SIDE), picture[-1:]
    return np.concatenate([image[..., ::-1].ravel(), light])


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


def pictures_of(images):
    """Flatten images (n, 3, H, W) to rows by which copies are told, whatever their light.

    Each at mean 0 and deviation 1, so that the distance of two rows is their root mean square
    difference; at last how bright it was.
    """
    flat = images.flatten(1).double().numpy()
    mean, deviation = flat.mean(axis=1, keepdims=True), flat.std(axis=1, keepdims=True)
    shape = (flat - mean) / np.where(deviation > 1 / 255, deviation, 1)
    return np.c_[shape / flat.shape[1] ** 0.5, mean * ALIKE / LIGHT].astype(np.float32)


def groups_of_shots(inputs, y, groups):
    """Return the user's groups of what y calls normal, or None; ValueError for another length."""
    if groups is None:
        return None
    check_consistent_length(inputs, groups)
    groups = np.asarray(column_or_1d(groups))
    if y is not None and -1 in np.asarray(y):
        groups = groups[np.asarray(y) == 1]
    return groups.tolist()


def draw_shots(ids, batch_size, generator):
    """Draw the indices of a batch: random permutations of the shots, one after another.

    Of a shot with several images one is drawn at random.
    """
    shots, counts = np.unique(ids, return_counts=True)
    repeats = -(-batch_size // len(shots))
    device = generator.device
    orders = [
        torch.randperm(len(shots), generator=generator, device=device) for _ in range(repeats)
    ]
    drawn = torch.cat(orders)[:batch_size]
    if counts.max() == 1:
        return drawn
    members = [torch.from_numpy(np.flatnonzero(ids == shot)).to(device) for shot in shots]
    picks = torch.rand(len(drawn), generator=generator, device=device)
    return torch.stack(
        [members[s][int(p * len(members[s]))] for s, p in zip(drawn, picks, strict=True)]
    )


def mean_of_shots(values, ids):
    """Mean of the values (n_images, ...) of each shot, in the order of their first images."""
    shots, inverse = np.unique(ids, return_inverse=True)
    if len(shots) == len(ids):
        return values
    return np.stack([values[inverse == k].mean(axis=0) for k in range(len(shots))])
