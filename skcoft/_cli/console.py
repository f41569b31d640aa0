"""Messages, streams and signals: what a command has done does not depend on its messages."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

from .._utils.text import printable


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end. As Ctrl-C does, it passes all ``except Exception``."""

    def __init__(self, number: int) -> None:
        self.number = number


def say(text: object) -> None:
    """Print a line of output."""
    _print_line(text, sys.stdout)


def complain(text: object) -> None:
    """Print a line about an error or a warning."""
    _print_line(f"skcoft: {text}", sys.stderr)


def is_watched() -> bool:
    """Return whether a terminal shows the progress of a command."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False


def _print_line(text: object, stream: TextIO | None) -> None:
    if stream is None:  # without a console, as in a service
        return
    try:
        print(printable(text), file=stream, flush=True)
    except (OSError, ValueError):
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, nowhere.

    Its pipe or file is closed or its disk is full. Python would try again when it exits, and
    change the exit code.
    """
    with suppress(OSError, ValueError):  # it has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Show characters that the console cannot encode as escapes, and flush without an error."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
    errors = [getattr(stream, "errors", None) for stream in streams]
    for stream in streams:
        _set_errors(stream, "backslashreplace")
    try:
        yield
    finally:
        for stream, value in zip(streams, errors, strict=True):
            try:
                stream.flush()
            except (OSError, ValueError):
                _discard(stream)
            _set_errors(stream, value)


def _set_errors(stream: Any, errors: str | None) -> None:
    with suppress(AttributeError, OSError, ValueError):  # another kind of stream, or a closed one
        stream.reconfigure(errors=errors)


@contextmanager
def signals_as_errors() -> Iterator[None]:
    """Raise ``Terminated`` for signals that end the process, so that temporary files are removed.

    Signals that somebody else handles or ignores, as under nohup, are left alone.
    """
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [int(getattr(signal, name)) for name in names]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread may set handlers
    numbers = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, _frame: object) -> NoReturn:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # a second one must not disturb the removal
        raise Terminated(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
