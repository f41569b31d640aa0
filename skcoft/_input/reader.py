"""What X may be: the one place that turns any collection into ``Images`` or ``Table``."""

from os import fspath

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from .chunks import is_stream
from .decode import check_file
from .errors import (
    content_of,
    is_bytes,
    is_image,
    is_mapping,
    is_open,
    is_path,
    no_image,
    refuse_array,
    refuse_collection,
    refuse_first,
)
from .images import Images, item_name
from .modalities import Modalities, check_counts, columns_of, is_frame, is_sample
from .pixels import checked_batch
from .table import Table

WANTED = (
    "images as a uint8 array (n, H, W[, C]) with values 0..255, a float array with values 0..1, "
    "a torch tensor (n, C, H, W), or a collection of paths, files, PIL images or arrays"
)


def read_input(estimator, X, *, reset, first=0):
    """Validate X and return ``Images``, or ``Table`` of features.

    Uses the estimator's ``image_shape``, ``bit_depth`` and ``n_jobs``; with ``reset``, records
    ``n_features_in_`` (and names) where X is two-dimensional. ``first`` is the number of images
    before these, of which X is a piece. Of samples of several images, returns ``Modalities``.
    """
    refuse_collection(X)
    columns, items = columns_of(X), None
    if columns is None:
        items = _items_of(X)
        columns = columns_of(items) if items and is_sample(items[0]) else None
    if columns is None:
        return _read_one(estimator, X, items, reset, first)
    return Modalities(
        {name: _read_modality(estimator, part, first, name) for name, part in columns.items()}
    )


def _read_modality(estimator, X, first, modality):
    """Return the images of one modality."""
    items = as_items(X)
    name = item_name(modality)
    if items and is_sample(items[0]):
        raise ValueError(f"{name} must hold one image for each sample; it holds several.")
    if items is None and np.ndim(X) < 3 and estimator.image_shape is None:
        raise ValueError(f"{name} must hold images; its shape is {np.shape(X)}.")
    return _read_one(estimator, X, items, False, first, modality)


def _read_one(estimator, X, items, reset, first, modality=None):
    """Return the images or rows of X, whose items are these, or None."""
    image_shape = estimator.image_shape
    bit_depth = getattr(estimator, "bit_depth", None)
    name = item_name(modality)
    options = {"n_jobs": estimator.n_jobs, "stated_bit_depth": bit_depth}
    options |= {"first": first, "modality": modality}
    if items is not None:
        return Images(_check_items(items, first, modality), **options)
    if isinstance(X, torch.Tensor):
        X = X.detach()
        if X.ndim != 2:
            batch = checked_batch(X.cpu(), channels_first=True, name=name, first=first)
            return Images(batch, **options)
        X = X.cpu().numpy()
    two_d = issparse(X) or hasattr(X, "columns")
    array = X if two_d else _as_array(X)
    if not two_d and array.ndim in (3, 4):
        return Images(checked_batch(array, name=name, first=first), **options)
    if not two_d and array.ndim > 4:
        raise ValueError(f"X must be {WANTED}; got an array of shape {array.shape}.")
    if image_shape is None:
        return Table(_rows(estimator, X if two_d else array, reset))
    flat = validate_data(estimator, X if two_d else array, dtype=None, reset=reset)
    if flat.shape[1] != np.prod(image_shape):
        raise ValueError(
            f"image_shape={tuple(image_shape)} needs {np.prod(image_shape)} columns; "
            f"X has {flat.shape[1]}."
        )
    shaped = flat.reshape(len(flat), *image_shape)
    return Images(checked_batch(shaped, stated=True), **options)


def _rows(estimator, X, reset):
    """Validate rows of features."""
    try:
        return validate_data(estimator, X, dtype=np.float64, reset=reset)
    except ValueError as error:
        if hasattr(X, "columns") and "could not convert string" in str(error):
            raise ValueError(
                f"X has the columns {list(X.columns)}, of which some hold text. Pass the one that "
                "names images, X[name], or the columns of numbers."
            ) from error
        raise


def as_items(X):
    """Return the items of a collection of images, as a list; None where X is something else.

    What can be iterated over but once is read here, so nobody may need it again.
    """
    refuse_collection(X)
    columns = columns_of(X) if is_mapping(X) or is_frame(X) else None
    return _items_of(X) if columns is None else _samples_of(columns)


def _items_of(X):
    """Return the items of a collection of single images; of samples, where X is a sequence."""
    if issparse(X) or isinstance(X, torch.Tensor):
        return None
    if isinstance(X, np.ndarray):
        return _items_of_array(X)
    if is_frame(X):
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


def _samples_of(columns):
    """Return the samples of collections by modality, as a list of mappings."""
    items = {name: as_items(column) for name, column in columns.items()}
    read = {name: columns[name] if found is None else found for name, found in items.items()}
    check_counts(read)
    rows = zip(*read.values(), strict=True)
    return [dict(zip(read, row, strict=True)) for row in rows]


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
    if not is_image(first) and not is_sample(first) and not _is_pair(first):
        refuse_first(first)
        missing = first is None or isinstance(first, float)  # a gap in a column of paths
        return list(X) if missing and (first is None or any(map(is_image, X))) else None
    items = [X[i] for i in range(len(X))]
    return [item[0] if _is_pair(item) else item for item in items]


def is_file(item):
    """Whether an item names or holds a file, or is where one is missing."""
    missing = item is None or isinstance(item, float)
    return missing or is_path(item) or is_bytes(item) or is_open(item)


def _is_pair(item):
    """Whether an item is an image with its label, as torch's data sets have them."""
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and (is_image(item[0]) or is_sample(item[0]))
        and (isinstance(item[1], str) or not is_image(item[1]))
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
        hint = " Pass list(X)." if hasattr(X, "__iter__") else ""
        raise ValueError(f"X must be {WANTED}; got {type(X).__name__}.{hint}")
    if array.size == 0 and array.ndim not in (2, 3, 4):
        raise ValueError(
            f"X is empty (shape {array.shape}): found 0 images, at least 1 is needed."
        )
    return array


def _check_items(items, first, modality):
    if not items:
        raise ValueError("X is empty: found 0 images, at least 1 is needed.")
    checked, channels = [], {}
    for i, item in enumerate(items, first):
        name = item_name(modality, i)
        if is_path(item):
            of = "" if modality is None else f" of {name}"
            checked.append(check_file(fspath(item), repr(fspath(item)) + of))
        elif is_bytes(item) or is_open(item):
            checked.append(check_file(content_of(item, name), name))
        elif isinstance(item, Image.Image):
            checked.append(item)
        elif is_image(item):
            image = _checked_image(item, name)
            channels.setdefault(len(image), i)
            checked.append(image)
        else:
            raise ValueError(no_image(item, name))
    if len(channels) > 1:
        seen = " and ".join(f"{c} ({item_name(modality, i)})" for c, i in channels.items())
        raise ValueError(
            f"Arrays in X must have the same number of channels (sizes may differ); got {seen}."
        )
    return checked


def _checked_image(item, name):
    """Return one array or tensor of a list as a tensor with channels first."""
    refuse_array(item, name)
    if isinstance(item, torch.Tensor):
        batch = item.detach().cpu()[(None,) * (2 if item.ndim == 2 else 1)]
        return checked_batch(batch, channels_first=True, name=name, alone=True)[0]
    return checked_batch(item[None], name=name, alone=True)[0]
