"""Read files in full of which Pillow would drop bits or bands, or which it would rescale."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image

from .errors import UnreadableImageError

FileReader: TypeAlias = Callable[[bytes], np.ndarray]
"""A function from the content of a file to its stored values, (H, W) or (H, W, C)."""

GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
NETPBM_HEADER = re.compile(rb"P([2356])" + 3 * (GAP + rb"(\d+)") + rb"\s")
START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000; the precision follows 42 bytes later


def full_depth_reader(image: Image.Image, name: str) -> FileReader | None:
    """Return the function that reads an opened file in full; None if Pillow does.

    Only the header is read. The answer for an image that is loaded already is None.

    Raises
    ------
    UnreadableImageError
        If no library reads the file in full, or the library is not installed.
    """
    tiles = getattr(image, "tile", None)  # of images that are opened and not loaded
    if not tiles:
        return None
    is_reduced = IS_REDUCED.get(image.format or "", _has_reduced_mode)
    if not is_reduced(image, *tiles[0][::3]):
        return None
    what = f"{name} is a {image.format} file that Pillow would not read in full"
    what += ", because it has more than 8 bits per channel or further bands."
    package, read = READERS.get(image.format or "", ("", None))
    if read is None:
        raise UnreadableImageError(f"{what} Read it with another library and pass the array.")
    if package and not find_spec(package):
        raise UnreadableImageError(f"{what} Install what reads it: pip install skcoft[camera].")
    return read


def _has_reduced_mode(image: Image.Image, codec: str, arguments: Any) -> bool:
    """Whether values of 16 bits are decoded to a mode of 8 bits."""
    pattern = r"\b(L|LA|RGBX?|RGB[Aa]|CMYK);16|SGI16"  # not BGR;16, a pixel of 16 bits
    return not _keeps_bits(image) and bool(re.search(pattern, f"{codec} {arguments}"))


def _keeps_bits(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _is_reduced_netpbm(image: Image.Image, codec: str, arguments: Any) -> bool:
    """Whether Pillow would scale the values, to 8 bits in colour and to 16 bits in gray."""
    return codec.startswith("ppm") and image.mode != "1" and arguments[-1] > 255


def _is_reduced_tiff(image: Image.Image, codec: str, arguments: Any) -> bool:
    """Whether colours have more than 8 bits, or bands other than alpha would be dropped."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = np.max(tags.get(ExifTags.Base.BitsPerSample, 1))
    extra_bands = tags.get(338, ())  # ExtraSamples: 0 if their meaning is unspecified
    return not _keeps_bits(image) and bool(bits > 8 or 0 in extra_bands or len(extra_bands) > 1)


def _is_reduced_jpeg2000(image: Image.Image, codec: str, arguments: Any) -> bool:
    """Whether the precision is neither one of 8 bits or less, nor one of 16 bits in gray."""
    file: Any = image.fp  # type: ignore[attr-defined]
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    precision = (content[content.index(START_OF_CODESTREAM) + 42] & 0x7F) + 1
    return precision > 8 and not (precision == 16 and _keeps_bits(image))


def _read_png(content: bytes) -> np.ndarray:
    from imagecodecs import png_decode

    return png_decode(content)


def _read_jpeg2000(content: bytes) -> np.ndarray:
    from imagecodecs import jpeg2k_decode

    return jpeg2k_decode(content)


def _read_netpbm(content: bytes) -> np.ndarray:
    header = NETPBM_HEADER.match(content)
    if header is None:
        raise ValueError("its header is damaged")
    kind, width, height, _ = map(int, header.groups())
    shape = (height, width) if kind in (2, 5) else (height, width, 3)
    if kind < 4:  # the values are written as text
        return np.array(content[header.end() :].split(), dtype=np.uint16).reshape(shape)
    values = np.frombuffer(content, ">u2", count=int(np.prod(shape)), offset=header.end())
    return values.reshape(shape)


def _read_tiff(content: bytes) -> np.ndarray:
    from tifffile import TiffFile

    with TiffFile(BytesIO(content)) as file:
        page: Any = file.pages[0]
        if page.photometric not in (1, 2):  # black is zero, RGB
            raise ValueError(f"its colours are {page.photometric.name}, neither gray nor RGB")
        values = page.asarray()
        return np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values


IS_REDUCED: dict[str, Callable[[Image.Image, str, Any], bool]] = {
    "PPM": _is_reduced_netpbm,
    "TIFF": _is_reduced_tiff,
    "JPEG2000": _is_reduced_jpeg2000,
}
READERS: dict[str, tuple[str, FileReader | None]] = {  # the package that each needs
    "PNG": ("imagecodecs", _read_png),
    "PPM": ("", _read_netpbm),
    "TIFF": ("tifffile", _read_tiff),
    "JPEG2000": ("imagecodecs", _read_jpeg2000),
}
