"""Samples of several aligned images, such as colour and depth: one collection for each."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
import torch

from .defaults import IMAGE_DEFAULTS
from .errors import is_image, is_mapping


class Modalities:
    """Validated samples of several images: ``parts`` has the ``Images`` of each modality.

    An encoder looks at those of one modality, see ``Encoder.select_modality``; what holds for
    samples as
    a whole is here.
    """

    input_type = "images"
    defaults = IMAGE_DEFAULTS

    def __init__(self, parts):
        self.by_modality = parts
        check_counts(parts)

    def __len__(self):
        return len(next(iter(self.by_modality.values())))

    def cache_key(self):
        """Return what results that are kept on disk depend on."""
        return list(self.by_modality.values())

    def take(self, mask):
        """Return the samples where the boolean ``mask`` is true."""
        return self._each(lambda part: part.take(mask))

    def masked(self, mask):
        """Return samples of which only what a mask says is loaded, as ``Images.masked``."""
        return self._each(lambda part: part.masked(mask))

    def iter_chunks(self, encoders):
        """Yield the samples in pieces, as ``Images.pieces`` does."""
        most = min(part.chunk_size(encoders) for part in self.by_modality.values())
        for start in range(0, len(self), most):
            yield self._each(lambda part, first=start: part.chunk(first, most, encoders))

    def _each(self, function):
        return Modalities({name: function(part) for name, part in self.by_modality.items()})


def columns_of(X):
    """Return the collections of images that X has by modality; None where a sample has but one.

    X may be a mapping of names to collections, a sequence of samples, which are mappings of names
    to images, a frame with several columns of images, or an array (n, m, H, W, C).
    """
    if is_mapping(X):
        return _checked(dict(X))
    if isinstance(X, (np.ndarray, torch.Tensor)) and X.ndim == 5 and X.shape[1] > 1:
        return {i: X[:, i] for i in range(X.shape[1])}
    if isinstance(X, (list, tuple)) and len(X) and is_sample(X[0]):
        return _transposed(X)
    return _columns_of_frame(X) if is_frame(X) else None


def is_frame(X):
    """Whether X is a data frame: pandas', polars', Arrow's or Dask's."""
    return hasattr(X, "columns") and getattr(X, "ndim", 2) == 2


def check_counts(columns):
    """Raise ValueError unless there are as many images of one modality as of the others."""
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"X must have an image of every modality of a sample; got {counts}.")


def is_sample(item):
    """Whether an item is a mapping of two names or more to images."""
    return isinstance(item, Mapping) and len(item) > 1 and all(map(is_image, item.values()))


def _checked(columns):
    """Return a mapping of names to collections; ValueError where it is another one."""
    unnamed = [name for name in columns if not isinstance(name, (str, Integral))]
    if unnamed or len(columns) < 2:
        raise ValueError(
            "X is a mapping, which must have the images of two modalities or more by name, such "
            f"as {{'colour': ..., 'depth': ...}}; got the keys {list(columns)}. Of others pass a "
            "list of the values."
        )
    single = [name for name, value in columns.items() if _is_single(value)]
    if single:
        raise ValueError(
            f"X is a mapping whose value of {single[0]!r} is a single image, not a collection. Of "
            "one sample of several modalities pass [X], of images that are a sample each a list "
            "of the values."
        )
    return columns


def _is_single(value):
    array = isinstance(value, (np.ndarray, torch.Tensor)) and value.dtype != object
    flat = array and value.ndim == 2
    return flat or (not array and is_image(value))


def _transposed(samples):
    """Return the collections of a sequence of samples; ValueError where one lacks a modality."""
    names = list(samples[0])
    for i, sample in enumerate(samples):
        if not isinstance(sample, Mapping) or set(sample) != set(names):
            got = list(sample) if isinstance(sample, Mapping) else type(sample).__name__
            raise ValueError(f"X[{i}] must have an image of each of {names}, as X[0]; got {got}.")
    return _checked({name: [sample[name] for sample in samples] for name in names})


def _columns_of_frame(X):
    """Return the columns of a frame that holds images alone."""
    names = [str(name) for name in getattr(X, "column_names", X.columns)]
    if len(names) < 2 or not _first_row_has_images(X):
        return None
    columns = X.columns if hasattr(X, "column_names") else [X[name] for name in X.columns]
    return dict(zip(names, columns, strict=True))


def _first_row_has_images(X):
    if any(getattr(dtype, "kind", "O") in "biufc" for dtype in getattr(X, "dtypes", [])):
        return False  # before a lazy one is computed
    if hasattr(X, "head"):  # all but Arrow's
        X = X.head(1)
    if hasattr(X, "column_names"):
        row = [column[0].as_py() for column in X.columns] if len(X) else []
    elif hasattr(X, "iloc"):
        row = X.iloc[0].tolist() if len(X) else []
    else:
        row = X.row(0) if len(X) else []
    return bool(row) and all(map(is_image, row))
