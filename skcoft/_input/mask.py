"""Region of interest: a mask (h, w) that is True inside, where images are inspected."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from .errors import UnreadableImageError

MIN_INSIDE_SHARE = 0.5  # share of a patch that must be inside for the patch to count


def is_mask(value: Any) -> bool:
    """Whether a value is an array (h, w) of booleans, or of 1 and 0, that is not all False."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return False
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        return False
    return bool(np.isin(array, (0, 1)).all() and array.any())


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
