"""The errors that a user can mend, and how a command line shows them."""

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class InputError(ValueError):
    """Bad input: one line that names the file or field and says what to do about it."""


class TrainingError(RuntimeError):
    """Training cannot go on; one line that names the step and says what was kept."""


class Stopped(Exception):
    """Asked to leave by SIGTERM, with everything saved; one line that says how to go on."""


def one_line(text: object) -> str:
    """Text that moves no cursor: white space is a blank, what cannot be printed its escape."""
    shown = " ".join(str(text).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def print_error(error: object) -> None:
    """One line on stderr."""
    with stderr_lock:
        print("error: " + one_line(error), file=sys.stderr, flush=True)


def fail(error: object) -> NoReturn:
    """Prints one line on stderr and exits with status 2, without a traceback."""
    print_error(error)
    raise SystemExit(2)


def one_line_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Wraps a `main` so that errors meant for the user end in one line and a non-zero exit."""

    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (InputError, TrainingError) as error:
            fail(error)
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None  # as a shell says of SIGPIPE
        except OSError as error:  # a full disk, a folder that may not be written
            fail(f"{error.filename}: {error.strerror}" if error.filename else error)
        except Stopped as stop:
            print(one_line(stop), file=sys.stderr, flush=True)
            raise SystemExit(143) from None  # as a shell says of SIGTERM
        except KeyboardInterrupt as stop:
            print(str(stop) or "interrupted", file=sys.stderr, flush=True)
            raise SystemExit(130) from None

    return wrapped


stderr_lock = threading.RLock()  # held while standard error leads nowhere
