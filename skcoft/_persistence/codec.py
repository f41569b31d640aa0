"""From the values of a fitted detector to JSON and named arrays, and back.

None, booleans, numbers, text and lists stand for themselves in the JSON. Everything else is a dict
with one key, which says how to make the value. Objects are written by the state that their pickles
hold.
"""

import json
from collections.abc import Callable
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from .._network.backbone import Backbone
from .._network.encoder import Encoder
from .._utils.estimator_state import without_version
from .fields import Sizes
from .legacy import upgrade
from .schema import check_state, storable_classes

FORMAT = 5  # of the files that this version writes; it also reads earlier formats

# NumPy scalars are written as such, because sums round differently with Python numbers.
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
NUMBERS = {name: np.dtype(name).type for name in DTYPES}
# What a file can hold instead, by the parameter or attribute that it cannot hold.
HINTS = {
    "density": "; density='kde' or 'gaussian' and the classes of skcoft.density can be held",
    "backbone": "; the name of an architecture of timm's can be held",
    "augmentation": "; a dict of options can be held",
    "negatives": "; names can be held",
    "random_state": "; an integer can be held",
    "_model": "; groups= of numbers or text can be held",
}


class Writer:
    """Encode values as JSON nodes, with arrays and objects aside.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Arrays, named by the place of their first use.
    objects : list of dict
        Class and state of every object, each once, after the objects that it refers to.
    file_sizes : dict of str to int
        Array sizes that are equal in the whole file.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.objects: list[dict[str, Any]] = []
        self.file_sizes: Sizes = {}
        self._index_of: dict[int, int] = {}
        self._classes = storable_classes()

    def encode(self, value: Any, where: str) -> Any:
        """Return the JSON node of a value; raise TypeError if a model file cannot hold it."""
        if value is None or type(value) in (bool, int, float, str):
            check_finite(value, where)
            return value
        if isinstance(value, list):
            return [self.encode(item, f"{where}.{i}") for i, item in enumerate(value)]
        if isinstance(value, tuple):
            return {"tuple": self.encode(list(value), where)}
        if isinstance(value, dict):
            return {
                "dict": [
                    [self.encode(key, where), self.encode(item, f"{where}.{key}")]
                    for key, item in value.items()
                ]
            }
        if type(value) in self._classes:
            return {"object": self._encode_object(value, where)}
        if isinstance(value, np.ndarray):
            return self._encode_array(value, where)
        return self._encode_other(value, where)

    def _encode_object(self, value: Any, where: str) -> int:
        if id(value) not in self._index_of:
            if isinstance(value, Backbone) and value.recipe is None:
                raise refusal(where, value.body)
            state = without_version(value.__getstate__())
            nodes = {name: self.encode(v, f"{where}.{name}") for name, v in state.items()}
            check_state(type(value), state, self.file_sizes)
            self.objects.append({"class": type(value).__name__, "state": nodes})
            self._index_of[id(value)] = len(self.objects) - 1
        return self._index_of[id(value)]

    def _encode_array(self, value: np.ndarray, where: str) -> dict[str, Any]:
        if value.dtype.name in DTYPES:
            check_finite(value, where)
            # the memory layout counts: with another one, matrix products add up in another order
            is_transposed = value.flags.f_contiguous and not value.flags.c_contiguous
            while where in self.arrays:
                where += "_"
            array = value.T if is_transposed else value
            self.arrays[where] = np.ascontiguousarray(array, value.dtype.newbyteorder("="))
            return {"transposed" if is_transposed else "array": where}
        if all(isinstance(text, str) for text in value.flat):
            return {"names": [str(text) for text in value.flat]}
        raise refusal(where, value)

    def _encode_other(self, value: Any, where: str) -> Any:
        """Encode parameters that are objects of NumPy, torch or Python."""
        if isinstance(value, np.generic) and value.dtype.name in NUMBERS:
            check_finite(value, where)
            return {"number": [value.dtype.name, value.item()]}
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            return float(value)
        if isinstance(value, (str, PathLike)):
            return str.__str__(fspath(value))
        if isinstance(value, torch.device):
            return {"device": str(value)}
        if isinstance(value, np.random.RandomState):
            state = value.get_state(legacy=False)
            if state["bit_generator"] == "MT19937":
                return {"random_state": self.encode(state, where)}
        raise refusal(where, value)


def check_finite(value: Any, where: str) -> None:
    """Raise ValueError if a number or an array is NaN or infinite, in part or in all."""
    is_float = isinstance(value, float) or getattr(value, "dtype", np.dtype(int)).kind == "f"
    if is_float and not np.isfinite(value).all():
        raise ValueError(f"{where} holds NaN or infinity, but a model file holds finite numbers")


def refusal(where: str, value: Any) -> TypeError:
    """Return the error for a value that a model file cannot hold."""
    is_named = hasattr(value, "__qualname__")  # a function or class
    source = value if is_named else type(value)
    what = f"{'' if is_named else 'an object of '}{source.__module__}.{source.__qualname__}"
    # skops stores modules of torch but cannot load them
    tools = "joblib.dump" if isinstance(value, torch.nn.Module) else "joblib.dump or skops.io.dump"
    return TypeError(
        f"A model file holds plain values, arrays and skcoft's own objects, no code of others: "
        f"{where} is {what}. Store such a detector with {tools}"
        f"{HINTS.get(where.partition('.')[0], '')}."
    )


class Reader:
    """Decode JSON nodes to the values that were written.

    Parameters
    ----------
    objects : list of dict
        As in :class:`Writer`.
    arrays : dict of str to ndarray
        As in :class:`Writer`.
    device : str or None
        Device of the networks; None means the device in the file.
    format_version : int
        Format of the file.

    Attributes
    ----------
    objects : list
        The objects, in the order of their nodes.
    file_sizes : dict of str to int
        As in :class:`Writer`.
    """

    def __init__(
        self,
        objects: list[dict[str, Any]],
        arrays: dict[str, np.ndarray],
        device: str | None = None,
        format_version: int = FORMAT,
    ) -> None:
        for name, array in arrays.items():
            check_finite(array, name)
        self.arrays = arrays
        self.device = device
        self.format_version = format_version
        self._classes = {cls.__name__: cls for cls in storable_classes()}
        self.file_sizes: Sizes = {}
        self.objects: list[Any] = []
        for node in objects:
            self.objects.append(self._make(node["class"], node["state"]))

    def decode(self, node: Any) -> Any:
        """Return the value of a node; raise an error of any type if the node is malformed."""
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            check_finite(node, "a number")
            return node
        ((node_type, content),) = node.items()
        if node_type not in DECODERS:
            raise ValueError(f"it holds a {json.dumps(node_type)}, which is unknown")
        return DECODERS[node_type](self, content)

    def _make(self, name: str, nodes: dict[str, Any]) -> Any:
        """Return an object of a class and the nodes of its state."""
        state = {field: self.decode(node) for field, node in nodes.items()}
        if self.format_version < FORMAT:
            name, state = upgrade(name, state)
        if name not in self._classes:
            raise ValueError(f"it names the class {name!r}, which a model file does not hold")
        cls = self._classes[name]
        check_state(cls, state, self.file_sizes)
        if cls is Encoder and self.device is not None:
            state["device"] = self.device
        if issubclass(cls, BaseEstimator):
            # one of an earlier version may lack parameters, which get their defaults
            instance: Any = cls()
            vars(instance).update(state)
        else:
            instance = object.__new__(cls)
            getattr(instance, "__setstate__", vars(instance).update)(state)
        return instance


def number_from(dtype: str, value: Any) -> Any:
    """Return a number of NumPy."""
    number = NUMBERS[dtype](value)
    check_finite(number, "a number")
    return number


def random_state_from(state: dict[str, Any]) -> np.random.RandomState:
    """Return a random state with the state that ``get_state`` returned."""
    random_state = np.random.RandomState(0)
    random_state.set_state(state)
    return random_state


# From the key of a node to a function of the reader and the node's content.
DECODERS: dict[str, Callable[[Reader, Any], Any]] = {
    "tuple": lambda reader, items: tuple(reader.decode(items)),
    "dict": lambda reader, items: {reader.decode(k): reader.decode(v) for k, v in items},
    "object": lambda reader, index: reader.objects[index],
    "array": lambda reader, name: reader.arrays[name],
    "transposed": lambda reader, name: reader.arrays[name].T,
    "names": lambda reader, texts: np.array([str(text) for text in texts], dtype=object),
    "number": lambda reader, number: number_from(*number),
    "device": lambda reader, name: torch.device(str(name)),
    "random_state": lambda reader, state: random_state_from(reader.decode(state)),
}
