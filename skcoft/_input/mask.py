"""Region of interest: a mask that says what of every image is looked at, True, and what is not."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

HALF = 0.5  # of a position that has to be inside


def is_mask(value):
    """Whether a value is an array (h, w) of True and False, or 1 and 0, that is True somewhere."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return False
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        return False
    return bool(np.isin(array, (0, 1)).all() and array.any())


def check_fit(mask, shape, name):
    """Raise ValueError where an image (H, W) has another shape than the mask, but for rounding."""
    (h, w), (height, width) = mask.shape, shape
    if abs(h * width - w * height) > max(h + w, height + width) / 2:
        raise ValueError(
            f"mask must have the shape of the images, at any size; it has {h}x{w} pixels, {name} "
            f"has {height}x{width}."
        )


def at_size(mask, size):
    """Bring a mask to a size (H, W): that of the pixel of it which the middle of each is in."""
    rows, columns = (
        (np.arange(new) + 0.5) * old // new for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[np.ix_(rows.astype(int), columns.astype(int))]


def pixels_inside(mask, shape, size, resize):
    """Which pixels (h, w) of an image of a shape are looked at when it has been resized to a size.

    ``resize`` is how images are. Pixels that something outside has a part in are left out, so
    that nothing there has any influence, unless no others are left.
    """
    outside = resize(torch.from_numpy(~at_size(mask, shape)).float()[None, None], size)[0, 0]
    return outside <= outside.min()


def fill_outside(image, inside):
    """Fill an image (3, h, w) with the mean colour of its inside, where it is not looked at."""
    mean = image[:, inside].double().mean(1).float()
    return torch.where(inside, image, mean[:, None, None])


def patches_inside(mask, grid):
    """Which positions of a grid (h, w) are looked at: those that are inside by half at least.

    Where none are, those that are inside most.
    """
    share = F.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], tuple(grid))[0].numpy()
    return share >= min(HALF, share.max())


def nearest_inside(inside):
    """For every position of a grid the nearest one inside, as its number among these."""
    numbers = np.cumsum(inside).reshape(inside.shape) - 1
    rows, columns = ndimage.distance_transform_edt(
        ~inside, return_distances=False, return_indices=True
    )
    return numbers[rows, columns]


def hide_outside(drawn, mask):
    """Return a map (H, W) that is NaN where nothing is looked at; as it is without a mask."""
    return drawn if mask is None else np.where(at_size(mask, drawn.shape), drawn, np.nan)
