"""Readers of others kept quiet: what they warn of or log may quote a file's header."""

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from jaxlung.errors import stderr_lock

_LOGS = ("pydicom", "nibabel.global", "highdicom", "PIL")
_lock = threading.Lock()
_inside = 0
_restore = contextlib.ExitStack()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No warnings, and nothing from these readers' logs, until the last thread inside has left.

    Counted, since `warnings.catch_warnings` is the whole process's: of two threads that overlap,
    the first to leave would give the other its warnings back, and the last the first's silence.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _restore.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            for log in map(logging.getLogger, _LOGS):
                # Not `disabled`, which pydicom's other loggers below this one do not heed.
                _restore.callback(log.setLevel, log.level)
                log.setLevel(logging.CRITICAL + 1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore.close()


def quiet_tensorflow() -> None:
    """Before TensorFlow is imported: no start-up chatter on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN's is about arithmetic that jaxlung leaves to JAX.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Not its warnings and tracebacks: what it raises is told in one line."""
    # asyncio tells of each array that could not be written.
    logs = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [log.level for log in logs], sys.unraisablehook

    def told(unraisable: Any) -> None:
        # TensorStore goes on with the other arrays, and finds that Orbax has given up.
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    for log in logs:
        log.setLevel(logging.CRITICAL)
    sys.unraisablehook = told
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Nothing on the process's standard error, where C libraries write past Python.

    One thread at a time, and for short calls alone: what other threads write meanwhile is lost,
    unless they hold `stderr_lock`, as `errors.print_error` does.
    """
    with stderr_lock, contextlib.ExitStack() as restore:
        with contextlib.suppress(OSError, AttributeError, ValueError):  # closed, or none
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            kept = os.dup(2)
            restore.callback(os.close, kept)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            restore.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
            restore.callback(os.dup2, kept, 2)
        yield
