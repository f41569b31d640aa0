"""Check the shape, type and range of pixel arrays and bring them to channels first."""

import numpy as np
import torch

from .errors import UnreadableImageError

BIT_DEPTHS = 8, 10, 12, 14, 16  # of cameras
FLOAT_RANGE_TOL = 1e-6  # float images may exceed 0..1 by this much, as rounding errors do


def is_one_image(shape: tuple[int, ...]) -> bool:
    """Whether an array has the shape of one image (H, W, C) instead of many (n, H, W)."""
    return len(shape) == 3 and shape[2] in (1, 2, 3, 4)


def check_batch(
    array: np.ndarray | torch.Tensor,
    *,
    channels_first: bool = False,
    name: str = "X",
    is_reshaped: bool = False,
    is_item: bool = False,
    first: int = 0,
) -> torch.Tensor:
    """Return images as a channels-first tensor; ValueError if they are no images.

    Parameters
    ----------
    array : ndarray or Tensor
        The images; on the CPU.
    channels_first : bool, default=False
        Whether the shape is (n, C, H, W).
    name : str, default="X"
        How messages call the array.
    is_reshaped : bool, default=False
        Whether the array was reshaped to ``image_shape``, so that its shape is beyond doubt.
    is_item : bool, default=False
        Whether the array is one image of a list, with a first axis of length 1.
    first : int, default=0
        Position of the first image in X.
    """
    shape = tuple(array.shape)
    user_shape = shape[1:] if is_item else shape
    error = UnreadableImageError if len(array) == 1 else ValueError
    n = "" if is_item else "n, "
    if 0 in user_shape:
        what = "images" if shape[0] == 0 else "pixels"
        raise error(f"{name} is empty (shape {user_shape}): found 0 {what}, at least 1 is needed.")
    if len(shape) not in ((4,) if channels_first else (3, 4)):
        layout = f"({n}C, H, W)" if channels_first else f"({n}H, W) or ({n}H, W, C)"
        hint = " For gray images pass X[:, None]." if len(shape) == 3 else ""
        hint = " For batches pass the images of all batches." if is_item else hint
        raise error(f"{name} must have shape {layout}; got {user_shape}.{hint}")
    if not (channels_first or is_reshaped) and is_one_image(shape):
        raise error(_one_image_message(name, user_shape, is_item))
    channels = 1 if len(shape) == 3 else shape[1 if channels_first else -1]
    if channels not in (1, 3, 4):
        layout = f"({n}C, H, W)" if channels_first else f"({n}H, W, C)"
        raise error(
            f"{name} must have 1, 3 or 4 channels in {layout}; got {channels} (shape "
            f"{user_shape}). Put channels last in arrays and first in tensors."
        )
    values = check_values(array, name, None if is_item else first)
    if values.ndim == 3:
        return values[:, None]
    values = values if channels_first else values.permute(0, 3, 1, 2)
    if channels == 4:
        check_alpha(values, name, error)
    return values


def colors_of(images: torch.Tensor) -> torch.Tensor:
    """Return the colour channels of images (..., C, H, W), without alpha: one or three."""
    channels = images.shape[-3]
    return images.narrow(-3, 0, 3 if channels >= 3 else 1)


def check_alpha(images: torch.Tensor, name: str, error: type[ValueError]) -> None:
    """Raise an error unless the last of 2 or 4 channels is 0 (transparent) or white (opaque)."""
    alpha = images[:, -1]
    white = alpha.max()
    whites = {torch.uint8: (255,), torch.int32: [2**bits - 1 for bits in BIT_DEPTHS]}
    if white in (0, *whites.get(images.dtype, (1,))) and ((alpha == 0) | (alpha == white)).all():
        return
    raise error(
        f"The last of the {images.shape[1]} channels of {name} is no alpha channel: it holds "
        "values other than 0 (transparent) and white (opaque). Pass another band as a modality "
        "of its own, such as {'colour': X[..., :3], 'infrared': X[..., 3]}. If it is an alpha "
        "channel, leave it out, as in X[..., :3]."
    )


def _one_image_message(name: str, shape: tuple[int, ...], is_item: bool) -> str:
    """Return the message for the shape of one colour image, or of one row of its pixels."""
    if is_item:
        return (
            f"{name} has shape {shape}, as a row of pixels of a colour image has. If X is one "
            f"image, pass [X]. If {name} is a gray image that is {shape[-1]} pixels wide, pass it "
            "as (H, W, 1)."
        )
    return (
        f"{name} has shape {shape}, which is one image; pass {name}[None]. If these are gray "
        f"images that are {shape[-1]} pixels wide, pass {name}[..., None]."
    )


def check_values(
    array: np.ndarray | torch.Tensor, name: str, first: int | None = None
) -> torch.Tensor:
    """Return pixel values as a tensor; ValueError for another type or range.

    ``first`` is the position of the first of several images; None means that the array is one
    image. Memory of the user is read only.
    """
    error = UnreadableImageError if first is None or len(array) == 1 else ValueError
    if isinstance(array, torch.Tensor):
        array = (array.float() if array.is_floating_point() else array).numpy()
    kind = array.dtype.kind
    if kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif kind in "iu" and array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 65535:
            raise error(
                f"{name} holds whole numbers from {low} to {high}. Values of images must lie in "
                "0..65535."
            )
        array = array.astype(np.int32)
    elif kind == "f":
        array = _check_floats(array, name, first, error)
    elif array.dtype != np.uint8:
        raise error(f"{name} must hold whole numbers or float values 0..1; got {array.dtype}.")
    if not array.flags.writeable or any(s < 0 for s in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def _check_floats(
    array: np.ndarray, name: str, first: int | None, error: type[ValueError]
) -> np.ndarray:
    low, high = array.min(), array.max()
    if not np.isfinite(low + high):
        if first is not None:
            is_bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
            name = f"{name}[{first + is_bad.argmax()}]"
        raise UnreadableImageError(f"{name} contains NaN or infinity.")
    if low < -FLOAT_RANGE_TOL or high > 1 + FLOAT_RANGE_TOL:
        is_normalized = -5 < low < 0 and high < 5
        remedy = (
            "Remove the step that normalises them, such as torchvision's Normalize."
            if is_normalized
            else "Divide by the greatest possible value, or pass uint8."
        )
        raise error(
            f"{name} holds float values from {low:.4g} to {high:.4g}; float images must lie "
            f"in 0..1. {remedy}"
        )
    if low < 0 or high > 1:  # rounding errors
        array = array.clip(0, 1)
    return array.astype(np.float32, copy=False)
