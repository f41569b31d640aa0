"""Decode image files and PIL images, turned upright as their EXIF data say."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TypeAlias

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import UnreadableImageError
from .pixels import check_values
from .sizing import ImageSize

ImageItem: TypeAlias = str | bytes | Image.Image | torch.Tensor
"""A validated image: a path, the content of a file, a PIL image or a tensor (C, H, W)."""


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


@contextmanager
def _opened(item: str | bytes | Image.Image, name: str) -> Iterator[Image.Image]:
    """Open a file, or take a PIL image; errors in the block are those of an unreadable image."""
    try:
        if isinstance(item, Image.Image):
            yield item
        else:
            with _open(item, name) as image:
                yield image
    except (FileNotFoundError, UnreadableImageError):
        raise
    except Exception as error:  # truncated, damaged or closed
        raise UnreadableImageError(f"Cannot decode {name}: {error}") from error


def size_of(item: ImageItem, name: str) -> ImageSize:
    """Return (H, W) of an upright image."""
    if isinstance(item, torch.Tensor):
        return item.shape[-2], item.shape[-1]
    with _opened(item, name) as image:
        is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return image.size if is_turned else image.size[::-1]


def max_value(item: ImageItem, name: str) -> int | None:
    """Return the greatest whole number of an image of more than 8 bits; None for others."""
    if isinstance(item, torch.Tensor):
        return int(item.max()) if item.dtype == torch.int32 else None
    with _opened(item, name) as image:
        return int(_pil_to_tensor(image, name).max()) if image.mode.startswith("I") else None


def values_of(item: ImageItem, name: str) -> torch.Tensor:
    """Return the values (1, C, H, W) of an upright image."""
    if isinstance(item, torch.Tensor):
        return item[None]
    with _opened(item, name) as image:
        return _pil_to_tensor(image, name)


def _pil_to_tensor(image: Image.Image, name: str) -> torch.Tensor:
    # Each step is skipped if not needed, because each would copy the image.
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "La":  # Pillow converts it to nothing else
        image = image.convert("LA")
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if not image.mode.startswith("I") and image.mode not in ("F", mode):
        image = image.convert(mode)
    values = check_values(np.array(image), name)
    return values[None, None] if values.ndim == 2 else values.permute(2, 0, 1)[None]
