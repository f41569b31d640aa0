"""What identifies functions and classes in the cache: their code and the code that they use."""

import inspect
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

INSTALL_FOLDERS = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
PLAIN_TYPES = (int, float, complex, str, bytes, bool, type(None))


def is_user_code(obj: Any) -> bool:
    """Return whether a function or class is the user's, not built in or from a package.

    The code of packages is identified by their versions.
    """
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    if module is None:
        return False
    is_prompt = module.__name__ == "__main__" and getattr(module, "__file__", None) is None
    return is_prompt or _is_user_module(module)


def _is_user_module(module: ModuleType) -> bool:
    """Return whether a module is a source file of the user."""
    file = getattr(module, "__file__", None) or ""
    is_ours = module.__name__.partition(".")[0] == "skcoft"
    return file.endswith(".py") and not is_ours and not file.startswith(INSTALL_FOLDERS)


def function_identity(function: FunctionType) -> tuple[Any, ...]:
    """Return the code of a function, its defaults, its closure, and user code that it names."""
    named = [function.__globals__.get(name) for name in sorted(_code_names(function.__code__))]
    return (
        code_identity(function.__code__),
        function.__defaults__,
        function.__kwdefaults__,
        [_cell_content(cell) for cell in function.__closure__ or ()],
        [_global_identity(value) for value in named if _is_user_global(value)],
    )


def class_identity(cls: type) -> list[Any]:
    """Return the user's bases of a class, its methods and its plain attributes."""
    identity: list[Any] = [base for base in cls.__mro__[1:] if is_user_code(base)]
    for name, member in sorted(vars(cls).items()):
        member = getattr(member, "__func__", getattr(member, "fget", member))
        if name not in ("__module__", "__doc__") and (
            isinstance(member, FunctionType) or _is_plain_value(member)
        ):
            identity += [name, member]
    return identity


def code_identity(code: CodeType) -> tuple[Any, ...]:
    """Return what a code object does, without its file and line numbers."""
    constants = [
        code_identity(constant) if isinstance(constant, CodeType) else repr(constant)
        for constant in code.co_consts
    ]
    return code.co_code, code.co_names, code.co_varnames, constants


def _cell_content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty, because the enclosing function has not assigned it yet
        return None


def _code_names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _code_names(constant)
    return names


def _is_user_global(value: Any) -> bool:
    """Return whether a global is the user's code or a plain value."""
    value = inspect.unwrap(value) if callable(value) else value  # such as by functools.cache
    if isinstance(value, (FunctionType, type)):
        return is_user_code(value)
    if isinstance(value, ModuleType):
        return _is_user_module(value)
    return _is_plain_value(value) and value is not None


def _is_plain_value(value: Any) -> bool:
    """Return whether a value is a number, text, an array, or a collection of these."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_plain_value, value))
    if isinstance(value, dict):
        return all(map(_is_plain_value, [*value, *value.values()]))
    is_array = isinstance(value, np.ndarray) and not value.dtype.hasobject
    return is_array or isinstance(value, (torch.Tensor, np.generic, *PLAIN_TYPES))


def _global_identity(value: Any) -> Any:
    """Return what identifies a global: the text of a module, a function without its wrappers."""
    if isinstance(value, ModuleType):
        return value.__name__, Path(str(value.__file__)).read_text(encoding="utf-8")
    return inspect.unwrap(value) if callable(value) else value
