"""Region of interest: a mask (h, w) that is True inside, where images are inspected."""

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from .decode import values_of
from .errors import UnreadableImageError
from .pixels import colors_of

MIN_INSIDE_SHARE = 0.5  # share of a patch that must be inside for the patch to count
MAX_BLACK_LEVEL = 1 / 8  # of the brightest pixel of a mask; nothing is black if all are brighter
NOISE_LEVEL = 1 / 64  # of a mask: black with less noise, such as that of JPEG files, is black
MAX_AMBIGUOUS_SHARE = 1e-3  # of the pixels of a mask in flat areas that are dark and not black
MAX_DISAGREEMENT = 0.01  # share of the pixels on which colours and transparency may disagree


def as_mask(value: Any) -> np.ndarray | None:
    """Return an array-like of booleans, or of 1 and 0, as a boolean array; None if it is none."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.ndim != 2 or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        return None
    return array.astype(bool)


def is_mask(value: Any) -> bool:
    """Whether a value is an array (h, w) of booleans, or of 1 and 0, that is not all False."""
    mask = as_mask(value)
    return mask is not None and bool(mask.any())


def read_mask(path: str | PathLike[str]) -> np.ndarray:
    """Return an image file as a mask, upright: bright or opaque pixels are inside.

    ValueError if it can be read in two ways.
    """
    name = f"The mask {fspath(path)!r}"
    values = values_of(fspath(path), f"{fspath(path)!r} (mask)")[0].float().numpy()
    colors = colors_of(torch.from_numpy(values)).numpy()
    levels, alpha = colors.max(axis=0), values[-1] if len(values) in (2, 4) else None
    if alpha is None or alpha.max() == alpha.min():
        if np.ptp(colors, axis=(1, 2)).max() == 0 and levels.max() > 0:
            return np.ones(levels.shape, dtype=bool)
        return _bright(levels, name)
    opaque, shown = _bright(alpha, name), levels * alpha
    if not shown.any() or (_bright(shown, name) != opaque).mean() > MAX_DISAGREEMENT:
        raise ValueError(
            f"{name} can be read in two ways: as its bright pixels or as its opaque pixels. Save "
            "it without transparency, white inside and black outside."
        )
    return opaque


def _bright(levels: np.ndarray, name: str) -> np.ndarray:
    """Return where levels (h, w) exceed half of their maximum; all others must be black."""
    low, high = levels.min(), levels.max()
    if high == 0:
        raise ValueError(f"{name} is black, so nothing is inside. Paint the inside white.")
    if low > MAX_BLACK_LEVEL * high:
        raise ValueError(f"{name} has no black pixels. Paint the outside black.")
    relative = (levels - low) / (high - low)
    spread = ndimage.maximum_filter(relative, 3) - ndimage.minimum_filter(relative, 3)
    is_dark = (relative > NOISE_LEVEL) & (relative <= 0.5) & (spread <= NOISE_LEVEL)
    if is_dark.mean() > MAX_AMBIGUOUS_SHARE:
        raise ValueError(
            f"{name} has areas that are neither black nor bright, {is_dark.mean():.1%} of its "
            "pixels. Paint them white if they are inside, or else black."
        )
    return relative > 0.5


def check_fit(mask: np.ndarray, shape: tuple[int, int], name: str) -> None:
    """Raise an error if the aspect ratio of an image (H, W) differs from that of the mask."""
    (h, w), (height, width) = mask.shape, shape
    if abs(h * width - w * height) > max(h + w, height + width) / 2:  # beyond rounding
        raise UnreadableImageError(
            f"mask must have the shape of the images, at any size; it has {h}x{w} pixels, {name} "
            f"has {height}x{width}."
        )


def at_size(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a mask at a size (H, W): each pixel as the one of the mask at its centre."""
    rows, columns = (
        (np.arange(new) + 0.5) * old // new for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[np.ix_(rows.astype(int), columns.astype(int))]


def pixels_inside(
    mask: np.ndarray,
    shape: tuple[int, int],
    size: tuple[int, int],
    resize: Callable[[torch.Tensor, tuple[int, int]], torch.Tensor],
) -> torch.Tensor:
    """Return which pixels (h, w) of an image of ``shape`` are inside after ``resize`` to a size.

    Pixels that are computed from any pixel outside are left out, so that nothing outside has any
    influence. If no others remain, those with the smallest part outside are inside.
    """
    outside = resize(torch.from_numpy(~at_size(mask, shape)).float()[None, None], size)[0, 0]
    return outside <= outside.min()


def fill_outside(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return an image (3, h, w) filled with the mean colour of its inside everywhere else."""
    mean = image[:, inside].double().mean(1).float()
    return torch.where(inside, image, mean[:, None, None])


def patches_inside(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return which patches of a grid (h, w) are inside by half or more.

    If there are none, return those with the greatest part inside.
    """
    inside = torch.from_numpy(mask).float()[None]
    share = F.adaptive_avg_pool2d(inside, grid)[0].numpy()
    return share >= min(MIN_INSIDE_SHARE, share.max())


def nearest_inside(inside: np.ndarray) -> np.ndarray:
    """Return, for every patch of a grid, the number of the nearest patch inside among these."""
    numbers = np.cumsum(inside).reshape(inside.shape) - 1
    rows, columns = ndimage.distance_transform_edt(
        ~inside, return_distances=False, return_indices=True
    )
    return numbers[rows, columns]


def hide_outside(anomaly_map: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return a map (H, W) that is NaN outside the mask; the map itself without a mask."""
    if mask is None:
        return anomaly_map
    return np.where(at_size(mask, anomaly_map.shape), anomaly_map, np.nan)
