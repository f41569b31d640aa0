"""Results kept on disk, so that candidates of a search share what they have in common."""

import pickle
import sys
from functools import cache
from hashlib import file_digest, sha256
from importlib.metadata import version
from os import PathLike, fspath
from os.path import isfile
from pathlib import Path
from types import FunctionType

import numpy as np
import scipy
import torch
from joblib.hashing import NumpyHasher
from sklearn.utils.validation import check_memory

from .params import any_of, having, one_of
from .user_code import class_parts, function_parts, is_users

MEMORY = any_of(
    one_of(None), (lambda v: isinstance(v, (str, PathLike)), "a folder"), having("cache")
)


def cached(memory, function, *args, files=()):
    """Return ``function(*args)``, kept in ``memory``: a folder, a joblib.Memory or None.

    The arguments and ``files`` (what is not the path of a file is taken as it is) count by their
    contents.
    """
    if memory is None:
        return function(*args)
    if isinstance(memory, PathLike):
        memory = fspath(memory)
    # a copy: joblib notes a function's code once a process, in the first folder that it meets, and
    # what lies in another one without that note is computed again by other processes
    compute = FunctionType(_compute.__code__, globals())
    compute = check_memory(memory).cache(compute, ignore=["function", "args"])
    key = fingerprint(function.__name__, *args, *map(_contents, files))
    return compute(key, function, args)


def check_storable(parameters):
    """Raise ValueError for the first parameter that ``memory`` could not keep."""
    for name, value in parameters.items():
        try:
            pickle.dumps(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"memory keeps what can be pickled; {name}={value!r} cannot be: {error}. Define "
                "it in a module, or pass memory=None."
            ) from error


def fingerprint(*values):
    """Hash of values: of image files and tensors their contents, of functions their code.

    This package's own code counts too, and the versions of what it computes with.
    """
    contents = [_contents(value) for value in values]
    return _Hasher("md5").hash((own_code(), versions(), contents))


@cache
def versions():
    """Versions of Python and of what this package computes with."""
    return sys.version, torch.__version__, np.__version__, scipy.__version__, version("timm")


@cache
def own_code():
    """Hash of this package's source."""
    digest = sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _compute(key, function, args):
    return function(*args)


def _contents(value):
    if isinstance(value, (str, PathLike)) and isfile(value):
        with open(value, "rb") as file:
            return file_digest(file, "sha256").hexdigest()
    if hasattr(value, "cache_key"):
        return [_contents(item) for item in value.cache_key()]
    return value


class _Hasher(NumpyHasher):
    """joblib's hasher, for which contents and code count, not layout, address and name.

    Of arrays joblib takes the strides, of tensors the address, of functions and classes the name.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._met = set()  # functions and classes whose code has been taken

    def save(self, obj):
        if isinstance(obj, torch.Tensor):
            obj = ("tensor", obj.detach().cpu().numpy())
        elif isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            self._hash.update(np.ascontiguousarray(obj).reshape(-1).view(np.uint8))
            obj = ("array", str(obj.dtype), obj.shape)
        elif isinstance(obj, FunctionType):
            obj = ("function", obj.__qualname__, *self._once(obj, function_parts))
        elif isinstance(obj, type) and is_users(obj):
            for part in self._once(obj, class_parts):
                self.save(part)
        super().save(obj)

    def _once(self, obj, parts):
        """Return the parts of a function or class; none where they have been taken before."""
        if id(obj) in self._met:
            return ()
        self._met.add(id(obj))
        return parts(obj)
