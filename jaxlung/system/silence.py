"""Silences other packages: their warnings and logs may quote a file's header."""

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from jaxlung.errors import InputError, stderr_lock

_LOGS = ("pydicom", "nibabel.global", "highdicom", "PIL")
_lock = threading.Lock()
_inside = 0
_restore = contextlib.ExitStack()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Silences warnings and the readers' logs until the last thread has left.

    `warnings.catch_warnings` concerns the whole process, so threads are counted. Otherwise, of two
    threads that overlap, the first to leave would bring back warnings for the second, and the
    second would then restore the first one's silence for good.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _restore.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            # Not `disabled`, which pydicom's loggers below this one ignore.
            logs = [logging.getLogger(name) for name in _LOGS]
            _restore.callback(_set_levels, logs, [log.level for log in logs])
            _set_levels(logs, [logging.CRITICAL + 1] * len(logs))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore.close()


def _set_levels(logs: Sequence[logging.Logger], levels: Sequence[int]) -> None:
    """Sets levels; `setLevel` looks through all loggers of the process, so it is called once."""
    for log, level in zip(logs, levels, strict=True):
        log.level = level
    logs[-1].setLevel(levels[-1])


def quiet_tensorflow() -> None:
    """Silences TensorFlow's messages at start; call it before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN prints about arithmetic that jaxlung leaves to JAX.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Silences Orbax's warnings and tracebacks: its errors are printed in one line elsewhere."""
    # asyncio logs each array that could not be written.
    hook = sys.unraisablehook

    def print_unraisable(unraisable: Any) -> None:
        # TensorStore goes on with the other arrays after Orbax has given up.
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    with contextlib.ExitStack() as restore:
        for log in map(logging.getLogger, ("absl", "asyncio")):
            restore.callback(log.setLevel, log.level)
            log.setLevel(logging.CRITICAL)
        restore.callback(setattr, sys, "unraisablehook", hook)
        sys.unraisablehook = print_unraisable
        yield


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Silences the process's standard error, to which C libraries write past Python.

    For one thread at a time and for short calls: what other threads write meanwhile is lost,
    unless they hold `stderr_lock`, as `errors.print_error` does.
    """
    with stderr_lock, contextlib.ExitStack() as restore:
        with contextlib.suppress(OSError, AttributeError, ValueError):  # closed, or none
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            stderr = os.dup(2)
            restore.callback(os.close, stderr)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            restore.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
            restore.callback(os.dup2, stderr, 2)
        yield


def import_tensorflow() -> Any:
    """Imports TensorFlow, and keeps it off the accelerators.

    Raises:
        InputError: it is not installed.
    """
    quiet_tensorflow()
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            "reading by tf.data (data.loader='tfdata', or a split larger than the cache) needs "
            "TensorFlow, which is not installed: pip install tensorflow, or set "
            "data.loader='memory'"
        ) from error
    # TensorFlow only reads files here; on a GPU it would take the memory that JAX needs.
    tf.config.set_visible_devices([], "GPU")
    return tf
