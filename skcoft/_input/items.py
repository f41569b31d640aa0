"""What one item of a collection may be: an image, a sample of several images, a labelled image."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOBase
from os import PathLike
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse

STORED_IMAGE_KEYS = {"bytes", "path"}  # of an image in a data set of Hugging Face


@dataclass(frozen=True)
class UnreadItem:
    """An item whose content could not be read.

    Attributes
    ----------
    reason : str
        What messages say after the name of the item.
    is_file : bool
        Whether the item is a file; otherwise it belongs to a collection that failed to return it.
    error : Exception or None
        What was raised.
    """

    reason: str
    is_file: bool = True
    error: Exception | None = None


def is_path(item: Any) -> TypeGuard[str | PathLike[str]]:
    """Whether an item is the path of a file."""
    return isinstance(item, (str, PathLike))


def is_bytes(item: Any) -> bool:
    """Whether an item is the content of a file."""
    return isinstance(item, (bytes, bytearray, memoryview))


def is_open_file(item: Any) -> bool:
    """Whether an item is an open file, or a stream such as a pipe or a response."""
    return callable(getattr(item, "read", None))


def is_archive_member(item: Any) -> bool:
    """Whether an item is a path that only its own methods can open, such as zipfile.Path."""
    return callable(getattr(type(item), "read_bytes", None)) and not is_path(item)


def is_stored_image(item: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether an item is a mapping of the bytes and the path of one file."""
    if not is_mapping(item) or not item or not set(item) <= STORED_IMAGE_KEYS:
        return False
    content, path = item.get("bytes"), item.get("path")
    return (is_gap(content) or is_bytes(content)) and (is_gap(path) or is_path(path))


def is_array_like(item: Any) -> bool:
    """Whether an item is an array of another library, with two dimensions or more."""
    if not hasattr(type(item), "__array__") or isinstance(item, Image.Image):
        return False
    return _n_dimensions(item) >= 2


def _n_dimensions(item: Any) -> int:
    """Return the number of dimensions that an object states; -1 if it states none."""
    ndim = getattr(item, "ndim", None)
    return ndim if isinstance(ndim, int) else len(getattr(item, "shape", "")) or -1


def is_image(item: Any) -> bool:
    """Whether an item is an image or a file that may hold one."""
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return item.ndim >= 2
    is_plain = isinstance(item, (Image.Image, UnreadItem)) or is_path(item) or is_bytes(item)
    is_readable = is_open_file(item) or is_archive_member(item) or is_stored_image(item)
    return is_plain or is_readable or is_array_like(item)


def is_gap(item: Any) -> bool:
    """Whether an item is a missing value of a column: None, NaN, or NA or NaT of pandas."""
    if isinstance(item, (float, np.floating)):
        return bool(np.isnan(item))
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def is_file(item: Any) -> bool:
    """Whether a plain item is a file or a gap in a column of paths."""
    if isinstance(item, UnreadItem):
        return item.is_file
    if is_mapping(item):  # a sample of several files
        return all(map(is_file, item.values()))
    return is_gap(item) or is_path(item) or is_bytes(item)


def is_sample(item: Any) -> bool:
    """Whether an item maps two or more names to images."""
    is_mapped = is_mapping(item) and len(item) > 1 and not is_stored_image(item)
    return is_mapped and all(map(is_image, item.values()))


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


def plain_item(item: Any) -> Any:
    """Return an item as a path, bytes, PIL image, array, tensor or mapping of these.

    Open files are read here and nowhere else, because some can be read only once. An
    :class:`UnreadItem` stands for what cannot be read. Other objects are returned as they are.
    """
    if isinstance(item, (np.ndarray, torch.Tensor, Image.Image)) or is_path(item):
        return item
    if isinstance(item, tuple) and len(item) == 2 and hasattr(type(item[0]), "as_py"):
        item = plain_item(item[0]), item[1]
    if is_labelled(item):
        return plain_item(item[0])
    if hasattr(type(item), "as_py"):  # a scalar of Arrow
        is_tensor = hasattr(type(item), "to_numpy") and item.is_valid
        return _array_of(item) if is_tensor else plain_item(item.as_py())
    if is_stored_image(item):
        return item.get("path") if is_gap(item.get("bytes")) else item["bytes"]
    if is_mapping(item):
        return {name: plain_item(value) for name, value in item.items()}
    if is_open_file(item):
        return _read(item)
    if is_archive_member(item):
        return _bytes_of(item.read_bytes)
    if is_array_like(item):
        return _array_of(item)
    if hasattr(type(item), "__array__") and _n_dimensions(item) == 0:  # one value of a column
        array = _array_of(item)
        return array.item() if isinstance(array, np.ndarray) and array.ndim == 0 else array
    return item


def _array_of(item: Any) -> np.ndarray | UnreadItem:
    """Return an array of another library as a NumPy array."""
    try:
        return item.to_numpy() if hasattr(type(item), "as_py") else np.asarray(item)
    except Exception as error:  # any, depending on the library
        return UnreadItem(f"cannot be converted to a NumPy array: {error}", False, error)


def _read(file: Any) -> bytes | UnreadItem:
    """Return the content of an open file from its position on; restore the position if it can."""
    if isinstance(file, TextIOBase):
        return UnreadItem("is a file opened in text mode. Open it with open(path, 'rb').")
    start = None
    with suppress(Exception):  # closed, a pipe, or an object without these methods
        start = file.tell() if file.seekable() else None
    content = _bytes_of(file.read)
    if start is not None:
        with suppress(Exception):  # the content is read all the same
            file.seek(start)
    return content


def _bytes_of(read: Any) -> bytes | UnreadItem:
    """Return the bytes that a function reads."""
    try:
        content = read()
    except Exception as error:  # any: closed, opened for writing, a lost connection
        return UnreadItem(f"is a file that cannot be read: {error}", error=error)
    if isinstance(content, str):
        return UnreadItem("is a file opened in text mode. Open it with open(path, 'rb').")
    if not is_bytes(content):
        got = type(content).__name__
        return UnreadItem(f"is no file that can be read: its read() returns {got}, not bytes.")
    if not len(content):
        return UnreadItem(
            "is a file without content after its current position. Call seek(0) first, or open "
            "it again."
        )
    return bytes(content)
