"""Readers of others kept quiet: what they warn of or log may quote a file's header."""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

_lock = threading.Lock()
_inside = 0
_restore = contextlib.ExitStack()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No warnings, and nothing from pydicom's log, until the last thread inside has left.

    Counted, since `warnings.catch_warnings` is the whole process's: of two threads that overlap,
    the first to leave would give the other its warnings back, and the last the first's silence.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _restore.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            log = logging.getLogger("pydicom")
            _restore.callback(setattr, log, "disabled", log.disabled)
            log.disabled = True
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore.close()
