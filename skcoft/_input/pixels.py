"""Arrays of pixels: their shape, type and range, checked once; from then on channels first."""

import numpy as np
import torch

from .chunks import is_one_image

TOLERANCE = 1e-6  # beyond 0..1, of floats that were scaled


def checked_batch(array, *, channels_first=False, name="X", stated=False, alone=False, first=0):
    """Return a batch of images as a channels-first tensor, or raise.

    ``alone``: the batch is one item of a list. ``stated``: its shape was given by the user.
    ``first``: how many images came before it.
    """
    shape = tuple(array.shape)
    seen = shape[1:] if alone else shape  # what the user passed
    n = "" if alone else "n, "
    if 0 in seen:
        found = "images" if shape[0] == 0 else "pixels"
        raise ValueError(f"{name} is empty (shape {seen}): found 0 {found}, at least 1 is needed.")
    if len(shape) not in ((4,) if channels_first else (3, 4)):
        layout = f"({n}C, H, W)" if channels_first else f"({n}H, W) or ({n}H, W, C)"
        hint = " Of gray images pass X[:, None]." if len(shape) == 3 else ""
        hint = " Of batches pass the images of all." if alone else hint
        raise ValueError(f"{name} must have shape {layout}; got {seen}.{hint}")
    if not (channels_first or stated) and is_one_image(shape):
        raise ValueError(_one_image(name, seen, alone))
    channels = 1 if len(shape) == 3 else shape[1 if channels_first else -1]
    if channels not in (1, 3, 4):
        order = f"({n}C, H, W)" if channels_first else f"({n}H, W, C)"
        raise ValueError(
            f"{name} must have 1, 3 or 4 channels in {order}; got {channels} (shape {seen}). "
            "Channels come last in arrays and first in tensors."
        )
    array = checked_values(array, name, None if alone else first)
    if array.ndim == 3:
        return array[:, None]
    return array if channels_first else array.permute(0, 3, 1, 2)


def _one_image(name, shape, alone):
    """Text for an array that has the look of one colour image, or of a row of one."""
    if alone:
        return (
            f"{name} has shape {shape}, a row of pixels of a colour image: is X one image? A gray "
            f"image that is {shape[-1]} pixels wide may be passed as (H, W, 1)."
        )
    return (
        f"{name} has shape {shape}, which is one image; pass {name}[None]. Where they are "
        f"gray images that are {shape[-1]} pixels wide, pass {name}[..., None]."
    )


def checked_values(array, name, first=None):
    """Check type and range; return a tensor (memory of the user's is only read).

    ``first``: the number that the first of several images has; None: the array is one image.
    """
    if isinstance(array, torch.Tensor):
        array = (array.float() if array.is_floating_point() else array).numpy()
    kind = array.dtype.kind
    if kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif kind in "iu" and array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 65535:
            raise ValueError(
                f"{name} holds whole numbers from {low} to {high}; in images they lie in 0..65535."
            )
        array = array.astype(np.int32)
    elif kind == "f":
        array = _checked_floats(array, name, first)
    elif array.dtype != np.uint8:
        raise ValueError(
            f"{name} must hold whole numbers or float values 0..1; got {array.dtype}."
        )
    if not array.flags.writeable or any(s < 0 for s in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def _checked_floats(array, name, first):
    low, high = array.min(), array.max()
    if not np.isfinite(low + high):
        if first is not None:
            bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
            name = f"{name}[{first + bad.argmax()}]"
        raise ValueError(f"{name} contains NaN or infinity.")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        normalised = -5 < low < 0 and high < 5
        remedy = (
            "Leave out what normalises them, such as torchvision's Normalize."
            if normalised
            else "Divide by their greatest possible value, or pass uint8."
        )
        raise ValueError(
            f"{name} holds float values from {low:.4g} to {high:.4g}; float images must lie "
            f"in 0..1. {remedy}"
        )
    if low < 0 or high > 1:  # rounding errors
        array = array.clip(0, 1)
    return array.astype(np.float32, copy=False)
