"""What X may be: the one place that turns any collection into ``Images`` or ``Rows``."""

from collections.abc import Mapping, Set
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data
from torch.utils.data import DataLoader

from ._images import Images, check_file, checked_batch
from ._pieces import is_stream
from ._rows import Rows

WANTED = (
    "images as a uint8 array (n, H, W[, C]) with values 0..255, a float array with values 0..1, "
    "a torch tensor (n, C, H, W), or a collection of paths, files, PIL images or arrays"
)


def read_input(estimator, X, *, reset, first=0):
    """Validate X and return ``Images``, or ``Rows`` of features.

    Uses the estimator's ``image_shape``, ``bit_depth`` and ``n_jobs``; with ``reset``, records
    ``n_features_in_`` (and names) where X is two-dimensional. ``first`` is the number of images
    before these, of which X is a piece.
    """
    image_shape = estimator.image_shape
    bit_depth = getattr(estimator, "bit_depth", None)
    options = {"n_jobs": estimator.n_jobs, "bit_depth": bit_depth, "first": first}
    items = as_items(X)
    if items is not None:
        return Images(_check_items(items, first), **options)
    if isinstance(X, torch.Tensor):
        X = X.detach()
        if X.ndim != 2:
            return Images(checked_batch(X.cpu(), channels_first=True), **options)
        X = X.cpu().numpy()
    two_d = issparse(X) or hasattr(X, "columns")
    array = X if two_d else _as_array(X)
    if not two_d and array.ndim in (3, 4):
        return Images(checked_batch(array), **options)
    if not two_d and array.ndim > 4:
        raise ValueError(f"X must be {WANTED}; got an array of shape {array.shape}.")
    if image_shape is None:
        rows = validate_data(estimator, X if two_d else array, dtype=np.float64, reset=reset)
        return Rows(rows)
    flat = validate_data(estimator, X if two_d else array, dtype=None, reset=reset)
    if flat.shape[1] != np.prod(image_shape):
        raise ValueError(
            f"image_shape={tuple(image_shape)} needs {np.prod(image_shape)} columns; "
            f"X has {flat.shape[1]}."
        )
    shaped = flat.reshape(len(flat), *image_shape)
    return Images(checked_batch(shaped, stated=True), **options)


def as_items(X):
    """Return the items of a collection of images, as a list; None where X is something else.

    What can be iterated over but once is read here, so nobody may need it again.
    """
    if isinstance(X, torch.Tensor) or issparse(X):
        return None
    _refuse_single(X)
    if isinstance(X, np.ndarray):
        return _items_of_array(X)
    if hasattr(X, "columns") and getattr(X, "ndim", 2) == 2:
        return _column_of_frame(X)
    if hasattr(X, "compute") and getattr(X, "ndim", 1) == 1:
        X = X.compute()  # a lazy column of Dask's
    for method in ("to_list", "to_pylist"):  # a column of pandas or polars, of Arrow
        if hasattr(X, method) and getattr(X, "ndim", 1) == 1:
            return _judged(getattr(X, method)())
    if is_stream(X):
        return _judged(list(X))
    if hasattr(X, "__len__") and hasattr(X, "__getitem__") and not hasattr(X, "__array__"):
        return _judged(X)
    return None


def _refuse_single(X):
    """Raise ValueError where X is one image instead of a collection, or has no order."""
    if _is_path(X) and Path(fspath(X)).is_dir():
        raise ValueError(
            f"X={fspath(X)!r} is a folder; pass its files, for example "
            f"sorted(Path({fspath(X)!r}).glob('*.png'))."
        )
    if _is_path(X) or isinstance(X, Image.Image) or _is_bytes(X) or _is_file(X):
        raise ValueError(
            f"X must be a collection of images; got a single {type(X).__name__}. Pass [X]."
        )
    if isinstance(X, DataLoader):
        raise ValueError(
            "X is a DataLoader, which gives batches and may shuffle them: scores would be in no "
            "known order. Pass its data set, X.dataset."
        )
    if isinstance(X, (Set, Mapping)):
        raise ValueError(
            f"X must be a collection of images in an order; got a {type(X).__name__}. Pass a list "
            "of its values."
        )


def _items_of_array(X):
    if X.dtype.kind not in "OUT":
        return None
    if X.ndim == 2 and X.shape[1] == 1:  # a column of paths, as of a frame's values
        X = X[:, 0]
    return _judged(list(X)) if X.ndim == 1 else None


def _column_of_frame(X):
    """Return the images that a frame's only column holds."""
    if len(X.columns) != 1:
        return None
    if hasattr(X, "compute"):
        X = X.compute()
    if hasattr(X, "iloc"):
        column = X.iloc[:, 0].to_list()
    elif hasattr(X, "to_series"):
        column = X.to_series(0).to_list()
    else:
        column = X.column(0).to_pylist()
    return _judged(column)


def _judged(X):
    """Return the items of a sequence whose first one is an image; an empty one is a mistake."""
    if len(X) == 0:
        return [] if isinstance(X, list) else None
    first = X[0]
    if isinstance(first, Mapping):
        images = [name for name, value in first.items() if _is_image(value)]
        raise ValueError(
            f"X holds {type(first).__name__}s with the keys {list(first)}; pass the images alone, "
            f"for example X[{[*images, *first, 'image'][0]!r}]."
        )
    if not _is_image(first) and not _is_pair(first):
        missing = first is None or isinstance(first, float)  # a gap in a column of paths
        return list(X) if missing and any(map(_is_image, X)) else None
    items = [X[i] for i in range(len(X))]
    return [item[0] if _is_pair(item) else item for item in items]


def _is_path(item):
    return isinstance(item, (str, PathLike))


def _is_bytes(item):
    return isinstance(item, (bytes, bytearray, memoryview))


def _is_file(item):
    return callable(getattr(item, "read", None)) and callable(getattr(item, "seek", None))


def is_file(item):
    """Whether an item names or holds a file, or is where one is missing."""
    missing = item is None or isinstance(item, float)
    return missing or _is_path(item) or _is_bytes(item) or _is_file(item)


def _is_image(item):
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return item.ndim >= 2
    opened = isinstance(item, Image.Image)
    return opened or _is_path(item) or _is_bytes(item) or _is_file(item)


def _is_pair(item):
    """Whether an item is an image with its label, as torch's data sets have them."""
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and _is_image(item[0])
        and (isinstance(item[1], str) or not _is_image(item[1]))
    )


def _as_array(X):
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise ValueError(
            f"X must be {WANTED}; got nested sequences of unequal lengths. Images of different "
            "sizes go in a list of arrays."
        ) from error
    if array.ndim == 0:
        raise ValueError(f"X must be {WANTED}; got {type(X).__name__}.")
    if array.size == 0 and array.ndim != 2:
        raise ValueError(
            f"X is empty (shape {array.shape}): found 0 images, at least 1 is needed."
        )
    return array


def _check_items(items, first):
    if not items:
        raise ValueError("X is empty: found 0 images, at least 1 is needed.")
    checked, channels = [], {}
    for i, item in enumerate(items, first):
        name = f"X[{i}]"
        if _is_path(item):
            checked.append(check_file(fspath(item), repr(fspath(item))))
        elif _is_bytes(item) or _is_file(item):
            checked.append(check_file(_content(item), name))
        elif isinstance(item, Image.Image):
            checked.append(item)
        elif _is_image(item):
            image = _checked_image(item, name)
            channels.setdefault(len(image), i)
            checked.append(image)
        else:
            raise ValueError(
                f"{name} must be a path, a file, a PIL image or an array (H, W[, C]); "
                f"got {type(item).__name__}."
            )
    if len(channels) > 1:
        seen = " and ".join(f"{c} (X[{i}])" for c, i in channels.items())
        raise ValueError(
            f"Arrays in X must have the same number of channels (sizes may differ); got {seen}."
        )
    return checked


def _content(item):
    """Bytes of an open file, from where it stands; it stands there afterwards."""
    if _is_bytes(item):
        return bytes(item)
    start = item.tell()
    content = item.read()
    item.seek(start)
    if not isinstance(content, bytes):
        raise ValueError("Files in X must be opened in binary mode, open(path, 'rb').")
    return content


def _checked_image(item, name):
    """Return one array or tensor of a list as a tensor with channels first."""
    if isinstance(item, torch.Tensor):
        batch = item.detach().cpu()[(None,) * (2 if item.ndim == 2 else 1)]
        return checked_batch(batch, channels_first=True, name=name, alone=True)[0]
    return checked_batch(item[None], name=name, alone=True)[0]
