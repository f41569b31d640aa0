"""A cache on disk, by which candidates of a search share embeddings and fine-tuned networks."""

import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import file_digest, sha256
from importlib.metadata import version
from os import PathLike, fspath
from os.path import isfile
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import scipy
import torch
from joblib.hashing import NumpyHasher
from sklearn.utils.validation import check_memory

from .params import Constraint, any_of, having, one_of
from .user_code import class_identity, function_identity, is_user_code

MEMORY_CONSTRAINT = any_of(
    one_of(None),
    Constraint(lambda value: isinstance(value, (str, PathLike)), "a folder"),
    having("cache"),
)


def cached(
    memory: Any, function: Callable[..., Any], *args: Any, files: Iterable[Any] = ()
) -> Any:
    """Return ``function(*args)``, from the cache if it has been computed before.

    ``memory`` is a folder, a joblib.Memory or None for no cache. Results are stored under the
    contents of the arguments and of ``files``, whose entries may be paths or other values.
    """
    if memory is None:
        return function(*args)
    if isinstance(memory, PathLike):
        memory = fspath(memory)
    # joblib writes the code of a function once per process, and only to the first folder that is
    # used. Other processes compute results again in folders without that code. A new function
    # object for each call makes joblib write it to every folder.
    compute = FunctionType(_compute.__code__, globals())
    compute = check_memory(memory).cache(compute, ignore=["function", "args"])
    key = fingerprint(function.__name__, *args, *map(_cache_key, files))
    return compute(key, function, args)


def check_storable(parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for the first parameter that cannot be stored in the cache."""
    for name, value in parameters.items():
        try:
            pickle.dumps(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"memory stores parameters that can be pickled, but {name}={value!r} cannot be: "
                f"{error}. Define it in a module, or pass memory=None."
            ) from error


def fingerprint(*values: Any) -> str:
    """Return a hash of values by their contents.

    Image files and tensors are hashed by what they hold, functions and classes by their code. The
    hash also depends on this package's code and on the versions of what it computes with.
    """
    keys = [_cache_key(value) for value in values]
    return _Hasher("md5").hash((package_hash(), dependency_versions(), keys))


def is_same_value(first: Any, second: Any) -> bool:
    """Return whether two values of a parameter are equal, or have the same contents."""
    if first is second:
        return True
    is_equal = first == second
    if isinstance(is_equal, (bool, np.bool_)) and is_equal:
        return True
    return fingerprint(first) == fingerprint(second)


@cache
def dependency_versions() -> tuple[str, ...]:
    """Return the versions of Python and of the packages that results depend on."""
    return sys.version, torch.__version__, np.__version__, scipy.__version__, version("timm")


@cache
def package_hash() -> str:
    """Return a hash of this package's source code."""
    digest = sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _compute(key: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return function(*args)


def _cache_key(value: Any) -> Any:
    """Return what represents a value in a hash: the hash of a file, an input's own key."""
    if isinstance(value, (str, PathLike)) and isfile(value):
        with open(value, "rb") as file:
            return file_digest(file, "sha256").hexdigest()
    if hasattr(value, "cache_key"):
        return [_cache_key(item) for item in value.cache_key()]
    return value


class _Hasher(NumpyHasher):
    """joblib's hasher, changed so that only contents and code count.

    joblib also hashes the strides of arrays, the addresses of tensors, and only the names of
    functions and classes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hashed_ids: set[int] = set()  # of functions and classes whose code has been hashed

    def save(self, obj: Any) -> None:
        if isinstance(obj, torch.Tensor):
            obj = ("tensor", obj.detach().cpu().numpy())
        elif isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            self._hash.update(np.ascontiguousarray(obj).reshape(-1).view(np.uint8))
            obj = ("array", str(obj.dtype), obj.shape)
        elif isinstance(obj, FunctionType):
            obj = ("function", obj.__qualname__, *self._identity(obj, function_identity))
        elif isinstance(obj, type) and is_user_code(obj):
            for value in self._identity(obj, class_identity):
                self.save(value)
        super().save(obj)

    def _identity(self, obj: Any, identity: Callable[[Any], Iterable[Any]]) -> Iterable[Any]:
        """Return the identity of a function or class; nothing if it has been hashed before."""
        if id(obj) in self._hashed_ids:
            return ()
        self._hashed_ids.add(id(obj))
        return identity(obj)
