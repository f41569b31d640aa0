"""What a function or class computes by: its code, and that of the user's helpers that it names."""

import inspect
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import numpy as np
import torch

INSTALLED = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
PLAIN = (int, float, complex, str, bytes, bool, type(None))


def is_users(obj):
    """Whether a function or class is the user's own: of no installed package and not built in.

    Versions stand for the code of packages.
    """
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    if module is None or module.__name__.partition(".")[0] == "skcoft":
        return False
    if getattr(module, "__file__", None) is None:  # built in, or typed at a prompt
        return module.__name__ == "__main__"
    return _is_file_of_users(module)


def _is_file_of_users(module):
    """Whether a module is a source file of the user's own."""
    file = getattr(module, "__file__", None) or ""
    ours = module.__name__.partition(".")[0] == "skcoft"
    return file.endswith(".py") and not ours and not file.startswith(INSTALLED)


def function_parts(function):
    """Return the code of a function, its defaults, what it closes over, and what it names."""
    return (
        code_parts(function.__code__),
        function.__defaults__,
        function.__kwdefaults__,
        [_content(cell) for cell in function.__closure__ or ()],
        [_as_content(function.__globals__[name]) for name in _named(function)],
    )


def class_parts(cls):
    """Return the code of a class's methods, its plain attributes and its bases."""
    parts = [base for base in cls.__mro__[1:] if is_users(base)]
    for name, member in sorted(vars(cls).items()):
        member = getattr(member, "__func__", getattr(member, "fget", member))
        if name not in ("__module__", "__doc__") and (
            isinstance(member, FunctionType) or _is_plain(member)
        ):
            parts += [name, member]
    return parts


def code_parts(code):
    """Return what a code object does, without where it stands."""
    constants = [
        code_parts(constant) if isinstance(constant, CodeType) else repr(constant)
        for constant in code.co_consts
    ]
    return code.co_code, code.co_names, code.co_varnames, constants


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # empty yet, of a function that is still being made
        return None


def _named(function):
    """Return the names of the user's helpers, modules and plain values in a function's module."""
    return [
        name
        for name in sorted(_all_names(function.__code__))
        if _counts(function.__globals__.get(name))
    ]


def _all_names(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _all_names(constant)
    return names


def _counts(value):
    value = inspect.unwrap(value) if callable(value) else value  # of functools.cache and its like
    if isinstance(value, (FunctionType, type)):
        return is_users(value)
    if isinstance(value, ModuleType):
        return _is_file_of_users(value)
    return _is_plain(value) and value is not None


def _is_plain(value):
    """Whether a value counts by its content: numbers, text, arrays, and collections of these."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    array = isinstance(value, np.ndarray) and not value.dtype.hasobject
    return array or isinstance(value, (torch.Tensor, np.generic, *PLAIN))


def _as_content(value):
    """Return what a named value counts by: of a module the text of its file."""
    if isinstance(value, ModuleType):
        return value.__name__, Path(value.__file__).read_text(encoding="utf-8")
    return inspect.unwrap(value) if callable(value) else value
