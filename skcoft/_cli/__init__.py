"""The command line: parse arguments, run a command, and turn errors into exit codes."""

import signal
import warnings
from collections.abc import Sequence

from .console import Terminated, complain, forgiving_streams, signals_as_errors
from .parser import make_parser

FAILURE = 2
# shown without a traceback; any other error is a bug
USER_ERRORS = OSError, ValueError, TypeError, ImportError, FloatingPointError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    written: list[str] = []
    with forgiving_streams():
        try:
            with signals_as_errors(), warnings.catch_warnings():
                warnings.showwarning = _show_warning
                options = make_parser().parse_args(arguments)
                # takes seconds, which help and a typing error need not wait for
                from .commands import COMMANDS

                return COMMANDS[options.command](options, written)
        except USER_ERRORS as error:
            complain(f"error: {error}{_list_written(written)}")
            return FAILURE
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, Terminated) else signal.SIGINT
            word = "interrupted" if number == signal.SIGINT else "terminated"
            complain(f"{word}{_list_written(written)}")
            return 128 + number


def _show_warning(message: object, *_args: object, **_options: object) -> None:
    """Show a warning as a message, without a line of code."""
    complain(f"warning: {message}")


def _list_written(written: Sequence[str]) -> str:
    return f" Written before: {', '.join(written)}." if written else ""
