"""Data frames, columns and arrays of other libraries, as lists and NumPy arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# methods by which frames of other libraries become frames of Arrow or pandas, best first
FRAME_METHODS = ("to_native", "to_arrow_table", "to_arrow", "to_pyarrow", "to_pandas", "to_df")
NESTED_TYPES = ("list", "large_list", "fixed_size_list", "array")  # of Arrow, polars, narwhals


def has(X: Any, name: str) -> bool:
    """Whether the type of X has an attribute.

    Objects of some libraries also have their columns, rows or coordinates as attributes, under
    any name.
    """
    return hasattr(type(X), name)


def is_frame(X: Any) -> bool:
    """Whether X is a data frame."""
    if not has(X, "columns") or getattr(X, "ndim", 2) != 2:
        return False
    return not callable(X.columns)  # a method of other data sets, such as those of Ray


def is_column(X: Any) -> bool:
    """Whether X is a column of a data frame, or an array of Arrow."""
    return getattr(X, "ndim", 1) == 1 and (has(X, "to_list") or has(X, "to_pylist"))


def column_names(frame: Any) -> list[Any]:
    """Return the names of the columns of a data frame."""
    return list(frame.column_names if has(frame, "column_names") else frame.columns)


def readable_frame(X: Any) -> Any:
    """Return a data frame whose columns can be listed: X, or what X converts itself to."""
    names = column_names(X)
    if not names or _is_readable(X[names[0]]):
        return X
    for method in FRAME_METHODS:
        if has(X, method):
            try:
                return getattr(X, method)()
            except ImportError:  # Arrow or pandas is not installed
                continue
    raise ValueError(
        f"X is a {type(X).__name__}, whose columns cannot be read. Pass a data frame of pandas, "
        "polars or Arrow, or a list of images."
    )


def _is_readable(column: Any) -> bool:
    return is_column(column) or has(column, "compute")


def column_values(column: Any) -> list[Any]:
    """Return the values of a column of pandas, polars, Arrow or Dask; lists of lists as arrays."""
    if has(column, "compute"):
        column = column.compute()
    dtype = getattr(column, "type", getattr(column, "dtype", None))
    if hasattr(dtype, "shape") and has(column, "to_pylist"):  # tensors of Arrow
        return list(column)
    if str(dtype).lower().startswith(NESTED_TYPES):
        return list(map(_nested_array, np.asarray(column)))
    values = column.to_list() if has(column, "to_list") else column.to_pylist()
    return list(map(_nested_array, values))


def _nested_array(value: Any) -> Any:
    """Return lists of lists of numbers as an array; any other value as it is."""
    if not _is_nested(value):
        return value
    try:
        array = np.array([_nested_array(part) for part in value])
    except ValueError:  # of unequal lengths
        return value
    return array if array.dtype.kind in "biuf" else value


def _is_nested(value: Any) -> bool:
    is_list = isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object)
    return is_list and len(value) > 0 and isinstance(value[0], (list, np.ndarray))


def first_row(frame: Any, names: list[Any]) -> dict[Any, Any]:
    """Return the values of the first row of a data frame by column; empty if it has no row."""
    frame = frame.head(1) if has(frame, "head") else frame.slice(0, 1)  # Arrow has no head
    row = {name: column_values(frame[name]) for name in names}
    return {name: values[0] for name, values in row.items() if values}


def has_numbers(frame: Any) -> bool:
    """Whether a data frame states that a column is numeric; a lazy one is not computed."""
    return any(getattr(dtype, "kind", "O") in "biufc" for dtype in getattr(frame, "dtypes", []))


def text_values(X: Any) -> np.ndarray | None:
    """Return one-dimensional text, bytes or objects of another library as a NumPy array.

    None if X holds something else.
    """
    if getattr(X, "ndim", None) != 1 or not has(X, "__array__"):
        return None
    metadata: Mapping[str, Any] = getattr(getattr(X, "dtype", None), "metadata", None) or {}
    if has(X, "asstr") and metadata.get("vlen") is str:  # text of HDF5, which is read as bytes
        X = X.asstr()[()]
    array = np.asarray(X)
    return array if array.dtype.kind in "OSUT" else None
