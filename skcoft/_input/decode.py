"""Decode image files and PIL images: upright, with all of their bits, their colours and alpha."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import SEEK_CUR, BytesIO
from pathlib import Path
from struct import unpack
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .errors import UnreadableImageError
from .full_depth import full_depth_reader
from .pixels import check_alpha, check_values, colors_of
from .sizing import ImageSize

ImageItem: TypeAlias = str | bytes | Image.Image | torch.Tensor
"""A validated image: a path, the content of a file, a PIL image or a tensor (C, H, W)."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_HEADERS = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
# other headers, such as that of ICO files, may differ from the size of the pixels
FORMATS_OF_CERTAIN_SIZE = "JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF"
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by orientation, to upright
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: np.rot90(values),
}


def check_file(source: str | bytes, name: str) -> str | bytes:
    """Return a path or the content of a file; raise an error if it cannot be read in full."""
    with _opened(source, name) as image:
        full_depth_reader(image, name)
    return source


def check_pil_image(image: Image.Image, name: str) -> Image.Image:
    """Return a PIL image; raise an error if it is an opened file that Pillow would reduce."""
    with _opened(image, name):
        if full_depth_reader(image, name) is not None:
            raise UnreadableImageError(
                f"{name} is a PIL image of a {image.format} file that Pillow would not read in "
                "full, because it has more than 8 bits per channel or further bands. Pass the "
                "path of the file, or an array."
            )
    return image


def _open(source: str | bytes, name: str) -> Image.Image:
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError as error:
        is_link = isinstance(source, str) and ("://" in source or source.startswith("data:"))
        hint = " It is a link. Download it and pass the file or its bytes." if is_link else ""
        raise FileNotFoundError(f"Image file {name} does not exist.{hint}") from error
    except UnidentifiedImageError as error:
        what = "its format"
        if _content_of(source).startswith(TIFF_HEADERS):
            what = "this kind of TIFF. Read it with another library and pass the array"
        raise UnreadableImageError(
            f"Cannot read {name} as an image: Pillow does not know {what}."
        ) from error
    except Exception as error:  # any, depending on the file: too many pixels, NUL in the path
        raise UnreadableImageError(f"Cannot read {name} as an image: {error}") from error


def _content_of(source: str | bytes) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


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
        if image.format not in FORMATS_OF_CERTAIN_SIZE:
            image.load()
        width, height = image.size
        if isinstance(image, TiffImageFile):
            if not image.tile:  # loaded, and turned by Pillow
                return height, width
            # The size of an opened file is that of the stored or of the upright image,
            # depending on the version of Pillow.
            tags = image.tag_v2
            width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        is_upright = isinstance(image, PngImageFile) and image.tile and not _has_metadata(image)
        return (height, width) if is_upright or _orientation(image) < 5 else (width, height)


def _has_metadata(image: PngImageFile) -> bool:
    """Whether a PNG file holds EXIF data or text; Pillow would decode the pixels to know."""
    file: Any = image.fp
    position, kinds = file.tell(), set()
    file.seek(len(PNG_SIGNATURE))
    while len(header := file.read(8)) == 8:
        length, kind = unpack(">I4s", header)
        kinds.add(kind)
        file.seek(length + 4, SEEK_CUR)  # the checksum has 4 bytes
    file.seek(position)
    return not kinds.isdisjoint({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})


def max_value(item: ImageItem, name: str) -> int | None:
    """Return the greatest whole number of an image of more than 8 bits; None for others."""
    if isinstance(item, torch.Tensor):
        values = item
    else:
        with _opened(item, name) as image:
            if not image.mode.startswith("I") and full_depth_reader(image, name) is None:
                return None
            values = _decode(image, item, name)
    return int(colors_of(values).max()) if values.dtype == torch.int32 else None


def values_of(item: ImageItem, name: str) -> torch.Tensor:
    """Return the values (1, C, H, W) of an upright image; with 2 or 4 channels, the last is alpha.

    An alpha channel that is opaque everywhere is left out.
    """
    if isinstance(item, torch.Tensor):
        return item[None]
    with _opened(item, name) as image:
        return _decode(image, item, name)


def _decode(image: Image.Image, item: str | bytes | Image.Image, name: str) -> torch.Tensor:
    read = full_depth_reader(image, name)
    if read is None or isinstance(item, Image.Image):
        array = _pil_values(image)
    else:
        turn = TURNS.get(_orientation(image), np.asarray)
        array = turn(read(_content_of(item)))
    values = check_values(np.ascontiguousarray(array), name)
    values = values[None, None] if values.ndim == 2 else values.permute(2, 0, 1)[None]
    if values.shape[1] > 4:
        raise UnreadableImageError(
            f"{name} has {values.shape[1]} bands. Read it with another library and pass the "
            "bands as modalities."
        )
    if image.format == "TIFF" and values.shape[1] in (2, 4):
        # writers call any fourth band alpha
        check_alpha(values, name, UnreadableImageError)
    return values


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _pil_values(image: Image.Image) -> np.ndarray:
    """Return the upright values (H, W[, C]) that Pillow decodes."""
    # Each step is skipped if not needed, because each would copy the image.
    if isinstance(image, TiffImageFile):
        image.load()  # turns it, and some versions keep the orientation of the file nevertheless
    elif _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return np.array(image)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info
    )
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if has_alpha:
        mode += "A"
    if image.mode != mode:
        image = image.convert(mode)
    values = np.array(image)
    if has_alpha and values[..., -1].min() == 255:
        values = values[..., :-1]
    return values
