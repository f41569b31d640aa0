"""A small language for what the state of an object in a model file may hold."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._utils.estimator_state import COLUMN_ATTRIBUTES

Sizes = dict[str, int]
FieldType = (
    str | type | tuple[Any, ...] | list[Any] | dict[Any, Any] | Callable[[Any], bool] | None
)


def check_fields(
    owner: str, fields: Mapping[str, FieldType], state: Mapping[str, Any], file_sizes: Sizes
) -> None:
    """Raise ValueError if a state lacks a field, has another one, or one of another type.

    ``file_sizes`` collects the array sizes that are equal in the whole file.
    """
    extra = sorted(set(state) - set(fields))
    if extra:
        raise ValueError(f"{owner} has {extra[0]!r}, which a model file does not hold")
    missing = sorted(set(fields) - set(state) - set(COLUMN_ATTRIBUTES))
    if missing:
        raise ValueError(f"{owner} lacks {', '.join(missing)}")
    object_sizes: Sizes = {}
    for name, value in state.items():
        if not matches(value, fields[name], object_sizes, file_sizes):
            what = f"a {type(value).__name__}"
            if isinstance(value, np.ndarray):
                what = f"an array of {value.dtype}, shape {value.shape},"
            raise ValueError(f"{owner} has {what} as {name!r}, which does not fit")


def matches(value: Any, field: FieldType, object_sizes: Sizes, file_sizes: Sizes) -> bool:
    """Return whether a value has a field type.

    ================  ============================================================================
    field type        values
    ================  ============================================================================
    class             instances of the class
    None              None
    function          values for which the function returns True
    tuple             values of any of these field types
    list of one       lists of values of this field type
    dict              dicts; a key of the field type is a class of keys, or a tuple of keys
    ``"f4 n d"``      float32 arrays of shape (n, d): the dtype as NumPy abbreviates it, then one
                      word per dimension. Equal words are equal sizes, in the object or, if the
                      word is a capital letter, in the file; a number is a size; ``_`` is any size
    ================  ============================================================================
    """
    sizes = object_sizes, file_sizes
    if isinstance(field, str):
        return _matches_array(value, field, *sizes)
    if isinstance(field, tuple):
        return any(matches(value, option, *sizes) for option in field)
    if isinstance(field, list):
        return isinstance(value, list) and all(matches(item, field[0], *sizes) for item in value)
    if isinstance(field, dict):
        return isinstance(value, dict) and all(
            any(_is_key(key, keys) and matches(item, f, *sizes) for keys, f in field.items())
            for key, item in value.items()
        )
    if isinstance(value, int) and abs(value) >= 2**63:
        return False  # no number of NumPy
    if field is None or isinstance(field, type):
        return isinstance(value, field or type(None))
    return field(value)


def _is_key(key: Any, keys: Any) -> bool:
    return key in keys if isinstance(keys, tuple) else isinstance(key, keys)


def _matches_array(value: Any, field: str, object_sizes: Sizes, file_sizes: Sizes) -> bool:
    dtype, *names = field.split()
    is_array = isinstance(value, np.ndarray) and value.dtype.str[1:].startswith(dtype)
    if not is_array or value.ndim != len(names):
        return False
    for name, size in zip(names, value.shape, strict=True):
        sizes = file_sizes if name.isupper() else object_sizes
        expected = int(name) if name.isdigit() else sizes.setdefault(name, size)
        if name != "_" and size != expected:
            return False
    return True
