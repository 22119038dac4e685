"""Errors that a user can mend, and how the command line shows them."""

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class InputError(ValueError):
    """Bad input; the message is one line that names the file or field and says what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line with the step and with what was saved."""


class Stopped(Exception):
    """SIGTERM ended training with everything saved; the message is one line on how to go on."""


def one_line(text: object) -> str:
    """Turns white space into single blanks, and what cannot be printed into its escape.

    Example:
        >>> one_line("two\\nlines")
        'two lines'
    """
    shown = " ".join(str(text).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def format_shape(shape: tuple[int, ...]) -> str:
    """Returns an array's sides for a message.

    Example:
        >>> format_shape((512, 400))
        '512x400'
    """
    return "x".join(str(side) for side in shape)


def print_error(error: object) -> None:
    """Prints one line on stderr."""
    with stderr_lock:
        print("error: " + one_line(error), file=sys.stderr, flush=True)


def print_warning(warning: object) -> None:
    """Prints one line on stderr."""
    with stderr_lock:
        print("warning: " + one_line(warning), file=sys.stderr, flush=True)


def fail(error: object) -> NoReturn:
    """Prints one line on stderr and exits with status 2, without a traceback."""
    print_error(error)
    raise SystemExit(2)


def explain_os_error(error: OSError) -> str:
    """Says which file the system refuses, and why, without the number of the error.

    Example:
        >>> explain_os_error(OSError(28, "No space left on device", "masks/1.png"))
        'masks/1.png: No space left on device'
    """
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def one_line_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Wraps a `main` so that errors meant for the user end in one line and a non-zero exit."""

    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (InputError, TrainingError) as error:
            fail(error)
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None  # a shell's status for SIGPIPE
        except OSError as error:  # a full disk, a folder that may not be written
            fail(f"{error.filename}: {error.strerror}" if error.filename else error)
        except Stopped as stop:
            print(one_line(stop), file=sys.stderr, flush=True)
            raise SystemExit(143) from None  # a shell's status for SIGTERM
        except KeyboardInterrupt as stop:
            print(str(stop) or "interrupted", file=sys.stderr, flush=True)
            raise SystemExit(130) from None

    return wrapped


stderr_lock = threading.RLock()  # held while standard error leads nowhere
