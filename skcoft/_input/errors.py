"""What is taken for a collection of images and is none: what to pass instead."""

from collections.abc import Mapping, Set
from io import TextIOBase
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse


def is_path(item):
    """Whether an item names a file."""
    return isinstance(item, (str, PathLike))


def is_bytes(item):
    """Whether an item is the content of a file."""
    return isinstance(item, (bytes, bytearray, memoryview))


def is_open(item):
    """Whether an item is an open file."""
    return callable(getattr(item, "read", None)) and callable(getattr(item, "seek", None))


def is_mapping(X):
    """Whether X has values by name, as a sparse matrix by its keys has not."""
    return isinstance(X, Mapping) and not issparse(X)


def is_image(item):
    """Whether an item is, names or holds an image."""
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return item.ndim >= 2
    return isinstance(item, Image.Image) or is_path(item) or is_bytes(item) or is_open(item)


def refuse_collection(X):
    """Raise ValueError where X is one image, has no order or holds values that are not there."""
    kind = type(X).__name__
    if is_path(X) and Path(fspath(X)).is_dir():
        raise ValueError(
            f"X={fspath(X)!r} is a folder; pass its files, for example "
            f"sorted(Path({fspath(X)!r}).glob('*.png'))."
        )
    if is_path(X) or isinstance(X, Image.Image) or is_bytes(X) or is_open(X):
        raise ValueError(f"X must be a collection of images; got a single {kind}. Pass [X].")
    if isinstance(X, Set):
        raise ValueError(
            f"X must be a collection of images in an order; got a {kind}. Pass a list "
            "of its values."
        )
    if hasattr(type(X), "columns") and hasattr(X, "collect"):
        raise ValueError(f"X is a {kind}, whose values are not there yet; pass X.collect().")
    if hasattr(X, "dataset") and not hasattr(X, "__getitem__"):
        raise ValueError(
            f"X is a {kind}, which gives batches and may shuffle them: scores would be in no "
            "known order. Pass its data set, X.dataset."
        )
    refuse_array(X, "X")


def refuse_array(array, name):
    """Raise ValueError for arrays and tensors of which some values are not there."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise ValueError(
            f"{name} is an array of which {np.count_nonzero(array.mask)} values are masked; fill "
            f"them, {name}.filled(value)."
        )
    if isinstance(array, torch.Tensor):
        if array.is_meta:
            raise ValueError(f"{name} is a tensor on the device 'meta', which has no values.")
        if array.is_quantized or array.layout != torch.strided:
            what, remedy = (
                ("quantized", "dequantize")
                if array.is_quantized
                else (
                    f"of layout {array.layout}",
                    "to_dense",
                )
            )
            raise ValueError(f"{name} is a tensor {what}; pass {name}.{remedy}().")


def refuse_first(item):
    """Raise ValueError where the first item of a collection holds an image in another form."""
    if issparse(item):
        raise ValueError(f"X[0] is a {type(item).__name__}; pass arrays, item.toarray().")
    if isinstance(item, Mapping):
        images = [name for name, value in item.items() if is_image(value)]
        raise ValueError(
            f"X holds {type(item).__name__}s with the keys {list(item)}; pass the images alone, "
            f"for example X[{[*images, *item, 'image'][0]!r}]."
        )
    if isinstance(item, (tuple, list)) and any(map(is_image, item)):
        kinds = ", ".join(type(part).__name__ for part in item)
        place = [is_image(part) for part in item].index(True)
        raise ValueError(
            f"X[0] is a {type(item).__name__} of {kinds}; pass the images alone, "
            f"[item[{place}] for item in X], and labels as y."
        )


def no_image(item, name):
    """Text for an item that is no image."""
    got = type(item).__name__
    if isinstance(item, (np.ndarray, torch.Tensor)):
        got = f"{got} of shape {tuple(item.shape)}"
    return f"{name} must be a path, a file, a PIL image or an array (H, W[, C]); got {got}."


def content_of(item, name):
    """Bytes of an open file, from where it stands; it stands there afterwards."""
    if is_bytes(item):
        return bytes(item)
    content = None
    if not isinstance(item, TextIOBase):
        try:
            start = item.tell()
            content = item.read()
            item.seek(start)
        except (OSError, ValueError) as error:  # closed, open for writing, a stream
            raise ValueError(f"{name} is a file that cannot be read: {error}") from error
    if not isinstance(content, bytes):
        raise ValueError(f"{name} must be opened in binary mode, open(path, 'rb').")
    if not content:
        raise ValueError(f"{name} is a file that holds nothing from where it stands.")
    return content
