"""Read X: the one function that returns validated images or a table."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from os import fspath
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from sklearn.utils import check_array

from .decode import check_file
from .errors import UnreadableImageError, require_all_values
from .images import Images, item_name
from .items import is_bytes, is_image, is_open_file, is_path, read_content
from .modalities import Modalities
from .pixels import check_batch
from .recognize import Source, by_modality, in_memory, recognize
from .table import Table
from .types import ImagesLike

ACCEPTED_X = (
    "images as a uint8 array (n, H, W[, C]) with values 0..255, a float array with values 0..1, "
    "a torch tensor (n, C, H, W), or a collection of paths, files, PIL images or arrays"
)


@dataclass(frozen=True)
class ReadOptions:
    """Parameters of the estimators that say how X is read; they are documented there."""

    image_shape: tuple[int, ...] | None = None
    bit_depth: int | None = None
    n_jobs: int | None = None

    @classmethod
    def of(cls, settings: Any) -> Self:
        """Return the options among an estimator's parameters; None for those it lacks."""
        return cls(**{field.name: getattr(settings, field.name, None) for field in fields(cls)})


def read_input(
    X: ImagesLike | Source, options: ReadOptions, *, first: int = 0
) -> Images | Table | Modalities:
    """Return validated images, a table, or modalities if a sample has several images.

    ``first`` is the position of the first image if X is a chunk of a larger collection.
    """
    source = in_memory(recognize(X))
    columns = by_modality(source, first)
    if columns is None:
        return _read(source, options, first)
    return Modalities(
        {name: _read_modality(column, options, first, name) for name, column in columns.items()}
    )


def _read_modality(X: Any, options: ReadOptions, first: int, modality: Any) -> Images | Table:
    source = in_memory(recognize(X))
    name = item_name(modality)
    if source.form in ("samples", "modalities"):
        raise ValueError(f"{name} must hold one image for each sample; it holds several.")
    if source.form != "items" and np.ndim(source.values) < 3 and options.image_shape is None:
        raise ValueError(f"{name} must hold images; its shape is {np.shape(source.values)}.")
    return _read(source, options, first, modality)


def _read(
    source: Source, options: ReadOptions, first: int, modality: Any = None
) -> Images | Table | Modalities:
    """Return what a source without modalities holds."""
    name = item_name(modality)
    image_options = {
        "n_jobs": options.n_jobs,
        "stated_bit_depth": options.bit_depth,
        "first": first,
        "modality": modality,
    }
    if source.form == "items":
        return Images(_check_items(source.values, first, modality), **image_options)
    X = source.values
    if source.form != "table":
        X = X.detach().cpu() if source.form == "tensor" else _as_array(X)
        if X.ndim == 5 and X.shape[1] > 1 and modality is None:
            images = {i: Source(source.form, X[:, i]) for i in range(X.shape[1])}
            return Modalities({i: _read(part, options, first, i) for i, part in images.items()})
        if source.form == "tensor" and X.ndim != 2:
            batch = check_batch(X, channels_first=True, name=name, first=first)
            return Images(batch, **image_options)
        if X.ndim > 4:
            raise ValueError(f"X must be {ACCEPTED_X}; got an array of shape {X.shape}.")
        if X.ndim > 2:
            return Images(check_batch(X, name=name, first=first), **image_options)
        X = np.asarray(X)
    if options.image_shape is None:
        return Table(_check_table(X), table=X)
    rows = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    if rows.shape[1] != np.prod(options.image_shape):
        raise ValueError(
            f"image_shape={tuple(options.image_shape)} needs {np.prod(options.image_shape)} "
            f"columns; X has {rows.shape[1]}."
        )
    reshaped = rows.reshape(len(rows), *options.image_shape)
    batch = check_batch(reshaped, is_reshaped=True, first=first)
    return Images(batch, table=X, **image_options)


def _check_table(X: Any) -> np.ndarray:
    """Return a table as a float64 array; ValueError if it holds no finite numbers."""
    try:
        return check_array(X, dtype=np.float64, input_name="X")
    except ValueError as error:
        if not hasattr(X, "columns") or not _holds_text(np.asarray(X, dtype=object).ravel()):
            raise
        raise ValueError(
            f"X has the columns {list(X.columns)}, and some of them hold text. Pass the column "
            "of images, X[name], or only columns of numbers."
        ) from error


def _holds_text(values: Iterable[Any]) -> bool:
    """Whether any value is text that is no number."""
    for value in values:
        if isinstance(value, str):
            try:
                float(value)
            except ValueError:
                return True
    return False


def _as_array(X: Any) -> np.ndarray:
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise ValueError(
            f"X must be {ACCEPTED_X}; got nested sequences of unequal lengths. Pass images of "
            "different sizes as a list of arrays."
        ) from error
    if array.ndim == 0:
        hint = " Pass list(X)." if hasattr(X, "__iter__") else ""
        raise ValueError(f"X must be {ACCEPTED_X}; got {type(X).__name__}.{hint}")
    if array.size == 0 and array.ndim not in (2, 3, 4):
        raise ValueError(
            f"X is empty (shape {array.shape}): found 0 images, at least 1 is needed."
        )
    return array


def _check_items(
    items: list[Any], first: int, modality: Any
) -> list[str | bytes | Image.Image | torch.Tensor]:
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


def _check_item(item: Any, i: int, modality: Any) -> str | bytes | Image.Image | torch.Tensor:
    name = item_name(modality, i)
    if is_path(item):
        of_modality = "" if modality is None else f" of {name}"
        return check_file(fspath(item), repr(fspath(item)) + of_modality)
    if is_bytes(item) or is_open_file(item):
        return check_file(read_content(item, name), name)
    if isinstance(item, Image.Image):
        return item
    if is_image(item):
        return _check_array_item(item, name)
    got = type(item).__name__
    if isinstance(item, (np.ndarray, torch.Tensor)):
        got = f"{got} of shape {tuple(item.shape)}"
    raise UnreadableImageError(
        f"{name} must be a path, a file, a PIL image or an array (H, W[, C]); got {got}."
    )


def _check_array_item(item: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """Return one array or tensor of a list as a tensor with channels first."""
    require_all_values(item, name)
    if isinstance(item, torch.Tensor):
        batch = item.detach().cpu()[(None,) * (2 if item.ndim == 2 else 1)]
        return check_batch(batch, channels_first=True, name=name, is_item=True)[0]
    return check_batch(item[None], name=name, is_item=True)[0]
