"""What one item of a collection may be: an image, a sample of several images, a labelled image."""

from collections.abc import Mapping
from io import TextIOBase
from os import PathLike
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse

from .errors import UnreadableImageError


def is_path(item: Any) -> TypeGuard[str | PathLike[str]]:
    """Whether an item is the path of a file."""
    return isinstance(item, (str, PathLike))


def is_bytes(item: Any) -> bool:
    """Whether an item is the content of a file."""
    return isinstance(item, (bytes, bytearray, memoryview))


def is_open_file(item: Any) -> bool:
    """Whether an item is an open file."""
    return callable(getattr(item, "read", None)) and callable(getattr(item, "seek", None))


def is_image(item: Any) -> bool:
    """Whether an item is an image or a file that may hold one."""
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return item.ndim >= 2
    return isinstance(item, Image.Image) or is_path(item) or is_bytes(item) or is_open_file(item)


def is_file(item: Any) -> bool:
    """Whether an item is a file or a gap in a column of paths: None or NaN."""
    is_gap = item is None or isinstance(item, float)
    return is_gap or is_path(item) or is_bytes(item) or is_open_file(item)


def is_sample(item: Any) -> bool:
    """Whether an item maps two or more names to images."""
    return isinstance(item, Mapping) and len(item) > 1 and all(map(is_image, item.values()))


def is_labelled(item: Any) -> bool:
    """Whether an item is an image or sample with its label, as torch's data sets return them."""
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and (is_image(item[0]) or is_sample(item[0]))
        and (isinstance(item[1], str) or not is_image(item[1]))
    )


def is_mapping(X: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether X is a mapping; a sparse matrix with a dict of keys is not."""
    return isinstance(X, Mapping) and not issparse(X)


def read_content(item: Any, name: str) -> bytes:
    """Return the content of an open file from its position on, and restore the position."""
    if is_bytes(item):
        return bytes(item)
    content = None
    if not isinstance(item, TextIOBase):
        try:
            start = item.tell()
            content = item.read()
            item.seek(start)
        except (OSError, ValueError) as error:  # closed, opened for writing, not seekable
            raise UnreadableImageError(f"{name} is a file that cannot be read: {error}") from error
    if not isinstance(content, bytes):
        raise UnreadableImageError(
            f"{name} is a file opened in text mode. Open it with open(path, 'rb')."
        )
    if not content:
        raise UnreadableImageError(
            f"{name} is a file without content after its current position. Call seek(0) first."
        )
    return content
