"""Results kept on disk, so that candidates of a search share what they have in common."""

import pickle
from hashlib import file_digest
from os import PathLike, fspath
from os.path import isfile
from types import FunctionType

import numpy as np
import torch
from joblib.func_inspect import get_func_code
from joblib.hashing import NumpyHasher
from sklearn.utils.validation import check_memory

from . import __version__
from ._images import Images


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


def check_storable(estimator):
    """Raise ValueError for the first parameter that ``memory`` could not keep."""
    for name, value in estimator.get_params(deep=False).items():
        try:
            pickle.dumps(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"memory keeps what can be pickled; {name}={value!r} cannot be: {error}. Define "
                "it in a module, or pass memory=None."
            ) from error


def fingerprint(*values):
    """Hash of values: of image files and tensors their contents, of functions their code."""
    return _Hasher("md5").hash((__version__, [_contents(value) for value in values]))


def _compute(key, function, args):
    return function(*args)


def _contents(value):
    if isinstance(value, (str, PathLike)) and isfile(value):
        with open(value, "rb") as file:
            return file_digest(file, "sha256").hexdigest()
    if isinstance(value, Images):
        return (
            value.items
            if isinstance(value.items, torch.Tensor)
            else [*map(_contents, value.items)]
        )
    return value


class _Hasher(NumpyHasher):
    """joblib's hasher, for which layout, address and name count where only contents should.

    Of arrays it takes the strides, of tensors the address, of functions the name.
    """

    def save(self, obj):
        if isinstance(obj, torch.Tensor):
            obj = ("tensor", obj.detach().cpu().numpy())
        elif isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            self._hash.update(np.ascontiguousarray(obj).reshape(-1).view(np.uint8))
            obj = ("array", str(obj.dtype), obj.shape)
        elif isinstance(obj, FunctionType):
            cells = [cell.cell_contents for cell in obj.__closure__ or ()]
            obj = ("function", obj.__qualname__, get_func_code(obj)[0], obj.__defaults__, cells)
        super().save(obj)
