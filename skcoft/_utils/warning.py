"""Warnings that point to the user's own line."""

import sys
import warnings

from .text import printable

# packages whose frames lie between a user's call and our warning
SKIPPED_PACKAGES = {"skcoft", "sklearn", "joblib", "pickle", "torch", "functools", "contextlib"}


def warn_user(message: str | Warning) -> None:
    """Warn at the innermost line that is in none of ``SKIPPED_PACKAGES``.

    The message may hold names and headers of files, so it is made safe for a terminal.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _package(frame.f_globals) in SKIPPED_PACKAGES:
        frame, level = frame.f_back, level + 1
    safe = message if isinstance(message, Warning) else printable(message)
    warnings.warn(safe, UserWarning, stacklevel=level)


def _package(module_globals: dict[str, object]) -> str:
    return str(module_globals.get("__name__", "")).partition(".")[0]
