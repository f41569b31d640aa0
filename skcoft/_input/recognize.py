"""Recognise what X is. Every way into the package starts here, once for each chunk of X."""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from numbers import Integral
from os import fsdecode
from os.path import isdir
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse

from .containers import (
    column_names,
    column_values,
    first_row,
    has,
    has_numbers,
    is_column,
    is_frame,
    readable_frame,
    text_values,
)
from .errors import UnreadableImageError, require_all_values
from .ground_truth import is_ground_truth, refuse_ground_truth, select_items
from .items import (
    STORED_IMAGE_KEYS,
    UnreadItem,
    is_archive_member,
    is_bytes,
    is_gap,
    is_image,
    is_mapping,
    is_open_file,
    is_path,
    is_sample,
    is_stored_image,
    plain_item,
)
from .types import ImagesLike

Form = Literal["array", "tensor", "table", "items", "samples", "modalities", "stream", "lazy"]


@dataclass(frozen=True)
class Source:
    """X and what it was recognised as.

    Attributes
    ----------
    form : str
        ``"array"``: anything that NumPy makes an array of, nested lists included.
        ``"tensor"``: a torch tensor.
        ``"table"``: a sparse matrix or a data frame of numbers.
        ``"items"``: a list of images without their labels.
        ``"samples"``: a list of mappings from the names of modalities to images.
        ``"modalities"``: a dict from the names of modalities to collections.
        ``"stream"``: an iterable that can be read only once or only in order.
        ``"lazy"``: a sequence that creates its items on access.
    values : object
        The values in that form.
    names : tuple
        The modalities of ``"samples"``.
    """

    form: Form
    values: Any
    names: tuple[Any, ...] = ()

    def __len__(self) -> int:
        if self.form == "modalities":
            return len(next(iter(self.values.values())))
        return self.values.shape[0] if hasattr(self.values, "shape") else len(self.values)

    def take(self, rows: slice | list[int]) -> "Source":
        """Return some of the items, samples or rows of an array."""
        if isinstance(rows, list) and isinstance(self.values, list):
            return Source(self.form, [self.values[i] for i in rows], self.names)
        return Source(self.form, self.values[rows], self.names)


def recognize(X: ImagesLike | Source) -> Source:
    """Return what X is; ValueError if it is no collection of images and no table.

    Streams and lazy sequences are not read; see :func:`in_memory`.
    """
    if isinstance(X, Source):
        return X
    _refuse_collection(X)
    if is_mapping(X):
        return _recognize_columns(check_modalities(dict(X)), {})
    if isinstance(X, torch.Tensor):
        return Source("tensor", X)
    if issparse(X):
        return Source("table", X)
    if isinstance(X, np.ndarray):
        return _recognize_array(X)
    if is_frame(X):
        return _recognize_frame(X)
    if is_column(X):
        return _recognize_column(X, X)
    text = text_values(X)
    if text is not None:
        return _recognize_array(text)
    if has(X, "compute") and not has(X, "__array__"):  # a bag of Dask
        return recognize(cast(Any, X).compute())
    if is_stream(X):
        return Source("stream", X)
    if isinstance(X, (list, tuple)):
        return _recognize_list(list(X), X)
    is_sequence = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    if is_sequence and not hasattr(X, "__array__"):
        return Source("lazy", X)
    return Source("array", X)


def recognize_chunk(items: list[Any], earlier: Source | None) -> Source:
    """Return a chunk of a stream or lazy sequence, in the form of the first chunk."""
    if earlier is None or earlier.form not in ("items", "samples"):
        return recognize(items)
    return Source(earlier.form, list(map(plain_item, items)), earlier.names)


def in_memory(source: Source) -> Source:
    """Return a source whose items are in memory. A stream or lazy sequence is read here."""
    return recognize(list(iter_items(source))) if source.form in ("stream", "lazy") else source


def iter_items(source: Source) -> Iterator[Any]:
    """Yield the items of a stream or of a lazy sequence, each read once."""
    if source.form == "stream":
        return iter(source.values)
    return (_item_of(source.values, i) for i in range(len(source.values)))


def _item_of(values: Any, i: int) -> Any:
    """Return an item of a lazy sequence; an :class:`UnreadItem` if the sequence fails."""
    try:
        return values[i]
    except MemoryError:
        raise
    except Exception as error:  # any, for example of an image file that is damaged
        return UnreadItem(f"cannot be read: {type(error).__name__}: {error}", False, error)


def to_items(source: Source) -> Source:
    """Return modalities as samples, and any other source as it is in memory."""
    source = in_memory(source)
    if source.form != "modalities":
        return source
    columns = {name: to_items(recognize(column)) for name, column in source.values.items()}
    check_counts(columns)
    rows = zip(*(column.values for column in columns.values()), strict=True)
    samples = [dict(zip(columns, row, strict=True)) for row in rows]
    return Source("samples", samples, tuple(columns))


def as_items(X: ImagesLike) -> list[Any] | None:
    """Return the items of a collection of images as a list; None if X is an array or a table.

    A stream is read here. Use the returned list instead of X afterwards.
    """
    source = to_items(recognize(X))
    return source.values if source.form in ("items", "samples") else None


def as_rereadable(X: ImagesLike) -> ImagesLike:
    """Return X so that it can be read more than once.

    Lists take the place of streams, and contents that of open files.
    """
    if is_mapping(X):
        return {name: as_rereadable(column) for name, column in X.items()}
    is_objects = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
    if is_stream(X) or is_objects or isinstance(X, (list, tuple)):
        return list(map(plain_item, X))
    return X


def without_stream(X: ImagesLike) -> ImagesLike:
    """Return X with lists of the items in place of streams; the items stay as they are."""
    if is_mapping(X):
        return {name: without_stream(column) for name, column in X.items()}
    return list(X) if is_stream(X) else X


def is_stream(X: Any) -> bool:
    """Whether X can only be iterated over, as iterators and torch's IterableDataset."""
    other = "__len__", "__array__", "shape", "compute"
    is_other = any(hasattr(X, name) for name in other) or is_frame(X)
    return isinstance(X, Iterable) and not is_other


def _recognize_array(X: np.ndarray) -> Source:
    if X.dtype.kind in "OSUT":
        column = X[:, 0] if X.ndim == 2 and X.shape[1] == 1 else X  # of a frame's values
        if column.ndim == 1:
            return _recognize_list(list(column), X)
    return Source("array", X)


def _recognize_frame(X: Any) -> Source:
    """Return what a data frame is."""
    X = readable_frame(X)
    names = column_names(X)
    if len(names) == 1:
        return _recognize_column(X[names[0]], X, "table")
    if len(names) > 1 and not has_numbers(X):
        row = first_row(X, names)
        is_full = all(is_image(value) or value is None for value in row.values())
        if is_full and any(map(is_image, row.values())):
            return _recognize_columns({str(name): X[name] for name in names}, row)
    return Source("table", X)


def _recognize_column(column: Any, X: Any, other: Form = "array") -> Source:
    """Return the images in a column of a data frame X; other values are X in the other form."""
    values = column_values(column)
    if values and isinstance(values[0], (list, np.ndarray)) and not is_image(values[0]):
        line = "to_list" if has(column, "to_list") else "to_pylist"
        place = "X" if column is X else f"X[{column_names(X)[0]!r}]"
        raise ValueError(
            f"X is a column of lists or arrays, X[0] has the shape {np.shape(values[0])}. Pass "
            f"rows of features as np.array({place}.{line}()). If they are images, add "
            ".reshape(-1, H, W, C) with their height, width and channels."
        )
    return _recognize_list(values, X, other)


def _recognize_columns(columns: dict[Any, Any], row: dict[Any, Any]) -> Source:
    """Return collections by name as modalities, or as one column if they store one image."""
    if set(columns) == STORED_IMAGE_KEYS:
        parts = [to_items(recognize(columns[name])).values for name in columns]
        samples = [dict(zip(columns, pair, strict=True)) for pair in zip(*parts, strict=True)]
        return _recognize_list(samples, samples)
    refuse_ground_truth(columns, row, in_columns=True)
    return Source("modalities", columns)


def _recognize_list(values: list[Any], X: Any, other: Form = "array") -> Source:
    """Return the items or samples in a list; without any image, X in the ``other`` form.

    Single items of the wrong kind do not decide.
    """
    items = list(map(plain_item, values))
    samples, n_images = list(filter(is_sample, items)), sum(map(is_image, items))
    if samples and len(samples) >= n_images:
        return Source("samples", items, tuple(samples[0]))
    if n_images or all(map(is_gap, items)):
        return Source("items", items)
    _refuse_first(items[0])
    return Source(other, X)


def check_modalities(columns: dict[Any, Any]) -> dict[Any, Any]:
    """Return collections by modality; ValueError if the names or values cannot be modalities."""
    unnamed = [name for name in columns if not isinstance(name, (str, Integral))]
    if unnamed or len(columns) < 2:
        raise ValueError(
            f"X is a mapping with the keys {list(columns)}. A mapping must hold the images of two "
            "modalities or more by name, such as {'colour': ..., 'depth': ...}. If it holds one "
            "image per key, pass a list of its values."
        )
    single = [name for name, value in columns.items() if _is_single_image(value)]
    if single:
        raise ValueError(
            f"X is a mapping whose value for {single[0]!r} is a single image. It must hold a "
            "collection of images for each modality. If X is one sample of several modalities, "
            "pass [X]. If each value is a sample, pass a list of the values."
        )
    return columns


def _is_single_image(value: Any) -> bool:
    if isinstance(value, (np.ndarray, torch.Tensor)) and value.dtype != object:
        return value.ndim == 2
    return not isinstance(value, (np.ndarray, torch.Tensor)) and is_image(value)


def check_counts(columns: Mapping[Any, Any]) -> None:
    """Raise ValueError unless every modality has equally many images."""
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"X must have one image per sample and modality; the numbers of images are {counts}."
        )


def by_modality(source: Source, first: int = 0) -> dict[Any, Any] | None:
    """Return the collections of each modality; None if X has one image per sample.

    ``first`` is the position of the first sample in X.
    """
    if source.form == "modalities":
        return source.values
    if (
        source.form in ("array", "tensor")
        and source.values.ndim == 5
        and source.values.shape[1] > 1
    ):
        return {i: Source(source.form, source.values[:, i]) for i in range(source.values.shape[1])}
    if source.form != "samples":
        return None
    names = source.names
    refuse_ground_truth(names, _first_sample(source))
    for i, sample in enumerate(source.values, first):
        if not isinstance(sample, Mapping) or set(sample) != set(names):
            got = list(sample) if isinstance(sample, Mapping) else type(sample).__name__
            raise UnreadableImageError(
                f"X[{i}] must have an image of each of {list(names)}, as other samples have; "
                f"got {got}."
            )
    columns = {name: [sample[name] for sample in source.values] for name in names}
    return {name: Source("items", column) for name, column in check_modalities(columns).items()}


def _first_sample(source: Source) -> dict[Any, Any]:
    """Return the first complete sample."""
    return next(filter(is_sample, source.values), {})


def _refuse_collection(X: Any) -> None:
    """Raise ValueError if X is one image, has no order, or does not hold its values."""
    name = type(X).__name__
    if is_path(X) and isdir(X):
        raise ValueError(
            f"X={fsdecode(X)!r} is a folder. Pass its image files, "
            f"skcoft.datasets.load_folder({fsdecode(X)!r}).paths."
        )
    if is_archive_member(X) and X.is_dir():
        raise ValueError(
            "X is a folder in an archive. Pass its files, [path for path in X.iterdir() if "
            "path.is_file()]."
        )
    is_stream_of_bytes = is_open_file(X) and (has(X, "seek") or not has(X, "__getitem__"))
    is_file = is_path(X) or is_bytes(X) or is_archive_member(X) or is_stream_of_bytes
    if is_file or isinstance(X, Image.Image) or is_stored_image(X):
        raise ValueError(f"X must be a collection of images; got a single {name}. Pass [X].")
    if isinstance(X, Set):
        raise ValueError(
            f"X must be an ordered collection of images; got a {name}. Pass a list of its values."
        )
    if has(X, "columns") and has(X, "collect"):
        line = "X.toPandas()" if has(X, "toPandas") else "X.collect()"
        raise ValueError(f"X is a {name}, which does not hold values yet. Pass {line}.")
    if hasattr(X, "dataset") and not hasattr(X, "__getitem__"):
        raise ValueError(
            f"X is a {name}, which returns batches and may shuffle them, so the order of the "
            "scores would be unknown. Pass its data set, X.dataset."
        )
    require_all_values(X, "X")


def _refuse_first(item: Any) -> None:
    """Raise ValueError if the first item of a collection holds an image in another form."""
    name = type(item).__name__
    if issparse(item):
        raise ValueError(f"X[0] is a {name}. Pass arrays, [item.toarray() for item in X].")
    if isinstance(item, Mapping):
        images = [key for key, value in item.items() if is_image(value)]
        images = [key for key in images if not is_ground_truth(key)] or images
        raise ValueError(
            f"X holds mappings with the keys {list(item)}. Pass only the images, for example "
            f"{select_items(images or [*item, 'image'][:1])}."
        )
    if isinstance(item, (tuple, list)) and any(map(is_image, item)):
        types = ", ".join(type(part).__name__ for part in item)
        place = [is_image(part) for part in item].index(True)
        raise ValueError(
            f"X[0] is a {name} of {types}. Pass only the images, [item[{place}] for item in X], "
            "and labels as y."
        )
