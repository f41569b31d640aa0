"""Read X: the one function that returns validated images or a table."""

from dataclasses import dataclass, fields
from os import fsdecode
from os.path import splitext
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from sklearn.utils import check_array

from .._utils.params import as_python_numbers
from .containers import column_names, first_row, is_frame
from .decode import ImageItem, check_file, check_pil_image
from .errors import UnreadableImageError, require_all_values
from .ground_truth import is_ground_truth, select_columns
from .images import Images, item_name
from .items import UnreadItem, is_bytes, is_image, is_path
from .modalities import Modalities
from .pixels import check_batch
from .recognize import Source, by_modality, in_memory, recognize
from .table import Table
from .types import ImagesLike

ACCEPTED_X = (
    "images as a uint8 array (n, H, W[, C]) with values 0..255, a float array with values 0..1, "
    "a torch tensor (n, C, H, W), or a collection of paths, files, PIL images or arrays"
)
MAX_PATH_LENGTH = 4096  # bytes


@dataclass(frozen=True)
class ReadOptions:
    """Parameters of the estimators that say how X is read; they are documented there."""

    image_shape: tuple[int, ...] | None = None
    bit_depth: int | None = None
    n_jobs: int | None = None

    @classmethod
    def of(cls, settings: Any) -> Self:
        """Return the options among an estimator's parameters; None for those it lacks."""
        values = {field.name: getattr(settings, field.name, None) for field in fields(cls)}
        return cls(**{name: as_python_numbers(value) for name, value in values.items()})


def read_input(
    X: ImagesLike | Source, options: ReadOptions, *, first: int = 0
) -> Images | Table | Modalities:
    """Return validated images, a table, or modalities if a sample has several images.

    ``first`` is the position of the first image if X is a chunk of a larger collection.
    """
    source = _with_array(in_memory(recognize(X)))
    columns = by_modality(source, first)
    if columns is not None:
        return Modalities(
            {k: _read_modality(column, options, first, k) for k, column in columns.items()}
        )
    if options.image_shape is None and _is_table(source):
        return Table(_check_table(source.values), table=source.values)
    return _read_images(source, options, first)


def _read_modality(X: Any, options: ReadOptions, first: int, modality: Any) -> Images:
    source = in_memory(recognize(X))
    name = item_name(modality)
    if source.form in ("samples", "modalities"):
        raise ValueError(f"{name} must hold one image for each sample; it holds several.")
    if options.image_shape is None and _is_table(source):
        raise ValueError(f"{name} must hold images; its shape is {np.shape(source.values)}.")
    return _read_images(_with_array(source), options, first, modality)


def _is_table(source: Source) -> bool:
    return source.form != "items" and np.ndim(source.values) < 3


def _with_array(source: Source) -> Source:
    """Return an array-like or a tensor of rows as an array, and other tensors on the CPU."""
    if source.form == "tensor":
        X = source.values.detach().cpu()
        return Source("array", np.asarray(X)) if X.ndim == 2 else Source("tensor", X)
    return Source("array", _to_array(source.values)) if source.form == "array" else source


def _read_images(source: Source, options: ReadOptions, first: int, modality: Any = None) -> Images:
    """Return the images of a source without modalities."""
    X, name, table = source.values, item_name(modality), None
    images: torch.Tensor | list[ImageItem]
    if source.form == "items":
        images = _check_items(X, first, modality)
    elif source.form == "array" and X.ndim > 4:
        raise ValueError(f"X must be {ACCEPTED_X}; got an array of shape {X.shape}.")
    elif _is_table(source) and options.image_shape is not None:
        pixels, table = _unflatten(X, options.image_shape), X
        images = check_batch(pixels, is_reshaped=True, first=first)
    else:
        images = check_batch(X, channels_first=source.form == "tensor", name=name, first=first)
    return Images(images, options.n_jobs, options.bit_depth, first, None, modality, table)


def _unflatten(X: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return rows of pixels as images of a shape."""
    rows = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    if rows.shape[1] != np.prod(shape):
        raise ValueError(
            f"image_shape={tuple(shape)} needs {np.prod(shape)} columns; X has {rows.shape[1]}."
        )
    return rows.reshape(len(rows), *shape)


def _check_table(X: Any) -> np.ndarray:
    """Return a table as a float64 array; an error of ours if it holds no finite numbers."""
    try:
        return check_array(X, dtype=np.float64, input_name="X")
    except (ValueError, TypeError) as error:
        if not is_frame(X):
            if isinstance(error, TypeError) and not issparse(X):  # objects without a number
                raise TypeError(
                    f"X must be {ACCEPTED_X}, or a table of numbers: {error}"
                ) from error
            raise
        names = column_names(X)
        values = first_row(X, names)
        images = [name for name, value in values.items() if is_image(value)]
        if not images:
            raise
        photographs = [name for name in images if not is_ground_truth(name)] or images
        raise ValueError(
            f"X has the columns {names}, and some of them hold text or images. Pass the column of "
            f"images, {select_columns(photographs[:1])}, or only columns of numbers."
        ) from error


def _to_array(X: Any) -> np.ndarray:
    try:
        array = np.asarray(X)
    except Exception as error:  # any, depending on the library
        what = f"a {type(X).__name__} that is no array: {error}"
        if isinstance(X, (list, tuple)):
            what = "nested sequences of unequal lengths"
        raise ValueError(
            f"X must be {ACCEPTED_X}; got {what}. Pass images of different sizes as a list of "
            "arrays, [np.asarray(item) for item in X]."
        ) from error
    if array.ndim == 0:
        hint = " Pass list(X)." if hasattr(X, "__iter__") else ""
        raise ValueError(f"X must be {ACCEPTED_X}; got {type(X).__name__}.{hint}")
    if array.size == 0 and array.ndim not in (2, 3, 4):
        raise ValueError(
            f"X is empty (shape {array.shape}): found 0 images, at least 1 is needed."
        )
    return array


def _check_items(items: list[Any], first: int, modality: Any) -> list[ImageItem]:
    """Return checked images; their files are opened but not decoded."""
    if not items:
        raise ValueError("X is empty: found 0 images, at least 1 is needed.")
    checked = [_check_item(item, i, modality) for i, item in enumerate(items, first)]
    positions: dict[int, int] = {}  # first image with each number of channels
    for i, image in enumerate(checked, first):
        if isinstance(image, torch.Tensor):
            positions.setdefault(len(image), i)
    if len(positions) > 1:
        channels = " and ".join(f"{c} ({item_name(modality, i)})" for c, i in positions.items())
        raise ValueError(
            f"Arrays in X must have the same number of channels (sizes may differ); got "
            f"{channels}."
        )
    return checked


def _check_item(item: Any, i: int, modality: Any) -> ImageItem:
    name = item_name(modality, i)
    if is_path(item):
        of_modality = "" if modality is None else f" of {name}"
        return check_file(fsdecode(item), repr(fsdecode(item)) + of_modality)
    if is_bytes(item):
        return _check_content(bytes(item), name)
    if isinstance(item, UnreadItem):
        raise UnreadableImageError(f"{name} {item.reason}") from item.error
    if isinstance(item, Image.Image):
        return check_pil_image(item, name)
    if is_image(item):
        return _check_array_item(item, name)
    got, hint = type(item).__name__, ""
    if isinstance(item, (np.ndarray, torch.Tensor)):
        got = f"{got} of shape {tuple(item.shape)}"
        if item.ndim == 1 and item.dtype == np.uint8:
            hint = f" If it is the content of a file, pass bytes({name})."
    raise UnreadableImageError(
        f"{name} must be a path, a file, a PIL image or an array (H, W[, C]); got {got}." + hint
    )


def _check_content(content: bytes, name: str) -> bytes:
    """Return the content of a file; UnreadableImageError if it is no image, or a path."""
    is_printed = len(content) < MAX_PATH_LENGTH and all(byte >= ord(" ") for byte in content)
    if is_printed and (b"/" in content or splitext(content)[1]):
        raise UnreadableImageError(
            f"{name} is {content!r}. Bytes are read as the content of a file, but these look like "
            "a path. Pass paths as text, [os.fsdecode(path) for path in X]."
        )
    check_file(content, name)
    return content


def _check_array_item(item: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """Return one array or tensor of a list as a tensor with channels first."""
    require_all_values(item, name, UnreadableImageError)
    if isinstance(item, torch.Tensor):
        batch = item.detach().cpu()[(None,) * (2 if item.ndim == 2 else 1)]
        return check_batch(batch, channels_first=True, name=name, is_item=True)[0]
    return check_batch(item[None], name=name, is_item=True)[0]
