"""Image files and PIL images: what they hold, as the image is shown."""

from io import BytesIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .pixels import checked_values


def check_file(source, name):
    """Return a path or the content of a file; raise where it is not an image."""
    _open(source, name).close()
    return source


def _open(source, name):
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError as error:
        link = isinstance(source, str) and ("://" in source or source.startswith("data:"))
        hint = (
            " It is a link: fetch what it names, and pass that file or its bytes." if link else ""
        )
        raise FileNotFoundError(f"Image file {name} does not exist.{hint}") from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"Cannot read {name} as an image: Pillow knows no such format."
        ) from error
    except Exception as error:  # whatever a file may hold: too many pixels, a NUL in its path
        raise ValueError(f"Cannot read {name} as an image: {error}") from error


def size_of(item):
    """(H, W), as the image is shown."""
    if isinstance(item, torch.Tensor):
        return tuple(item.shape[-2:])
    if not isinstance(item, Image.Image):
        with _open(item, _name_of(item)) as image:
            return _size_as_shown(image, _name_of(item))
    return _size_as_shown(item, "an image in X")


def _size_as_shown(image, name):
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    except Exception as error:  # of a PNG that is cut off
        raise ValueError(f"Cannot decode {name}: {error}") from error
    return image.size if turned else image.size[::-1]


def _name_of(item, name="a file in X"):
    return repr(item) if isinstance(item, str) else name


def max_value(name, item):
    """Greatest value of an image of whole numbers of more than 8 bits; None for others."""
    if isinstance(item, torch.Tensor):
        return int(item.max()) if item.dtype == torch.int32 else None
    values = values_of(item, name, only_deep=True)
    return None if values is None else int(values.max())


def values_of(item, name, only_deep=False):
    """Values (1, C, H, W) of an item as they are; None of 8 bits with ``only_deep``."""
    if isinstance(item, torch.Tensor):
        return item[None]
    name = _name_of(item, name)
    if isinstance(item, Image.Image):
        return _pil_to_tensor(item, name, only_deep)
    with _open(item, name) as image:
        return _pil_to_tensor(image, name, only_deep)


def _pil_to_tensor(image, name, only_deep):
    deep = image.mode.startswith("I")
    if only_deep and not deep:
        return None
    try:
        # each of these copies, also where there is nothing to do
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode == "La":  # Pillow converts it to nothing else
            image = image.convert("LA")
        mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
        if not deep and image.mode not in ("F", mode):
            image = image.convert(mode)
        array = np.array(image)
    except Exception as error:  # cut off, damaged, closed
        raise ValueError(f"Cannot decode {name}: {error}") from error
    values = checked_values(array, name)
    return values[None, None] if values.ndim == 2 else values.permute(2, 0, 1)[None]
