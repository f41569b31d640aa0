"""Decode image files and PIL images, turned upright as their EXIF data say."""

from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import UnreadableImageError
from .pixels import check_values


def check_file(source: str | bytes, name: str) -> str | bytes:
    """Return a path or the content of a file; raise an error if it is no image."""
    _open(source, name).close()
    return source


def _open(source: str | bytes, name: str) -> Image.Image:
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError as error:
        is_link = isinstance(source, str) and ("://" in source or source.startswith("data:"))
        hint = " It is a link. Download it and pass the file or its bytes." if is_link else ""
        raise FileNotFoundError(f"Image file {name} does not exist.{hint}") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"Cannot read {name} as an image: Pillow does not know its format."
        ) from error
    except Exception as error:  # any, depending on the file: too many pixels, NUL in the path
        raise UnreadableImageError(f"Cannot read {name} as an image: {error}") from error


def size_of(item: str | bytes | Image.Image | torch.Tensor, name: str) -> tuple[int, int]:
    """Return (H, W) of an upright image."""
    if isinstance(item, torch.Tensor):
        height, width = item.shape[-2:]
        return height, width
    name = _name_of(item, name)
    if isinstance(item, Image.Image):
        return _upright_size(item, name)
    with _open(item, name) as image:
        return _upright_size(image, name)


def _upright_size(image: Image.Image, name: str) -> tuple[int, int]:
    try:
        is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    except Exception as error:  # a truncated PNG file
        raise UnreadableImageError(f"Cannot decode {name}: {error}") from error
    return image.size if is_turned else image.size[::-1]


def _name_of(item: Any, name: str) -> str:
    """Return how messages call an image: its path, or its position in X."""
    return repr(item) if isinstance(item, str) else name


def max_value(name: str, item: str | bytes | Image.Image | torch.Tensor) -> int | None:
    """Return the greatest whole number of an image of more than 8 bits; None for others."""
    if isinstance(item, torch.Tensor):
        return int(item.max()) if item.dtype == torch.int32 else None
    values = values_of(item, name, only_deep=True)
    return None if values is None else int(values.max())


def values_of(
    item: str | bytes | Image.Image | torch.Tensor, name: str, only_deep: bool = False
) -> torch.Tensor | None:
    """Return the values (1, C, H, W) of an upright image.

    With ``only_deep``, return None for images of 8 bits and floats, without decoding them.
    """
    if isinstance(item, torch.Tensor):
        return item[None]
    name = _name_of(item, name)
    if isinstance(item, Image.Image):
        return _pil_to_tensor(item, name, only_deep)
    with _open(item, name) as image:
        return _pil_to_tensor(image, name, only_deep)


def _pil_to_tensor(image: Image.Image, name: str, only_deep: bool) -> torch.Tensor | None:
    is_deep = image.mode.startswith("I")
    if only_deep and not is_deep:
        return None
    try:
        # Each step is skipped if not needed, because each would copy the image.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode == "La":  # Pillow converts it to nothing else
            image = image.convert("LA")
        mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
        if not is_deep and image.mode not in ("F", mode):
            image = image.convert(mode)
        array = np.array(image)
    except Exception as error:  # truncated, damaged or closed
        raise UnreadableImageError(f"Cannot decode {name}: {error}") from error
    values = check_values(array, name)
    return values[None, None] if values.ndim == 2 else values.permute(2, 0, 1)[None]
