"""The command line: parse arguments, run a command, and turn errors into exit codes."""

import sys
import warnings
from collections.abc import Sequence

from .parser import make_parser

FAILURE, INTERRUPTED = 2, 130
# shown without a traceback; any other error is a bug
USER_ERRORS = OSError, ValueError, TypeError, ImportError, FloatingPointError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            from .commands import COMMANDS  # takes seconds, which a typing error need not wait for

            return COMMANDS[options.command](options)
    except USER_ERRORS as error:
        print(f"skcoft: error: {error}", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        print("skcoft: interrupted", file=sys.stderr)
        return INTERRUPTED


def _show_warning(message: object, *_args: object, **_options: object) -> None:
    """Show a warning as a message, without a line of code."""
    print(f"skcoft: warning: {message}", file=sys.stderr)
