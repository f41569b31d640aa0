"""Warnings that point to the user's own line."""

import sys
import warnings
from traceback import walk_stack

from .text import printable
from .user_code import INSTALL_FOLDERS

# packages whose frames lie between a user's call and our warning, wherever they are installed
SKIPPED_PACKAGES = {
    *("skcoft", "sklearn", "joblib", "pickle", "torch", "pyod", "functools", "contextlib")
}
INSTALLED = (*INSTALL_FOLDERS, "<frozen ")  # how the names of files of installed code begin


def warn_user(message: str | Warning) -> None:
    """Warn at the innermost line of the user's code, which no installed package contains.

    If there is none, as in a thread, warn at the innermost line outside ``SKIPPED_PACKAGES``. The
    message may hold names and headers of files, so it is made safe for a terminal.
    """
    chosen = 0
    for level, (frame, _) in enumerate(walk_stack(sys._getframe(1)), 2):
        if _package(frame.f_globals) in SKIPPED_PACKAGES:
            continue
        chosen = chosen or level
        if not frame.f_code.co_filename.startswith(INSTALLED):
            chosen = level
            break
    safe = message if isinstance(message, Warning) else printable(message)
    warnings.warn(safe, UserWarning, stacklevel=chosen or 2)


def _package(module_globals: dict[str, object]) -> str:
    return str(module_globals.get("__name__", "")).partition(".")[0]
