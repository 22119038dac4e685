"""Several processes as one: joining them, what they tell each other, and how all end when one does.

JAX's own distributed runtime connects them, watches over them, and stops all when one is gone.
Nothing here runs in a process that works alone. docs/scaling.md has recipes.
"""

import atexit
import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlung.errors import InputError, Stopped, one_line, one_line_errors
from jaxlung.system.digests import digest_file
from jaxlung.system.processes import Processes

GONE = 3  # exit status of a process whose fellows are gone: start all of them again
_HEARTBEAT = 20  # seconds without a sign of life after which a process counts as gone
_SEEN = 90  # seconds after which another host's file is taken to be elsewhere
_LAST_WORDS = 3  # seconds that process 0 leaves later than it could
_PATIENCE = 3600  # seconds that the others wait at the end, while process 0 writes a report


@contextlib.contextmanager
def join_processes(
    processes: Processes | None, last_words: Callable[[], str] | None = None
) -> Iterator[None]:
    """Runs its body as one of several processes, before which JAX must not have started.

    When one process fails the others cannot go on, and do not wait for each other: each ends with
    one line and status `GONE`, the failing one with its own.

    Args:
        processes: from `find_processes`; None: does nothing.
        last_words: says what a training has saved, when another process is gone; None: the work
            saves nothing, and SIGTERM ends it at once.

    Raises:
        InputError: the cluster cannot be joined.
    """
    if processes is None:
        yield
        return
    coordinator = processes.coordinator or "found by JAX"
    words = AbortWords(
        f"could not join the other processes (coordinator {coordinator}); are all of them started, "
        f"with the same --coordinator and --processes, and may they reach its port?"
    )
    if processes.coordinator:  # JAX is silent for five minutes if it is not there
        print(f"waiting for all processes at {processes.coordinator}", file=sys.stderr)
    if last_words is None:  # the service would keep SIGTERM for a training to save
        jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            processes.coordinator,
            processes.number,
            processes.this,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_PATIENCE,
        )
    except Exception as error:  # JAX and its gRPC raise many types
        raise InputError(
            f"cannot join the other processes ({one_line(error)[:300]}); name them by "
            f"--coordinator, --processes and --process, or pass --processes=1 to run alone"
        ) from error
    words.say = lambda: _describe_loss(last_words)
    try:
        yield
    except Stopped:  # all of them, at the same step
        raise
    except BaseException as error:
        _leave(error, last_words)


def _describe_loss(last_words: Callable[[], str] | None) -> str:
    again = "start all processes again"
    if last_words is None:
        return f"another process of this evaluation is gone; {again}"
    return f"another process of this training is gone; {last_words()}; {again} to go on"


class AbortWords:
    """Says one line after the pages of log with which JAX's runtime aborts a process.

    It owns a handler of SIGABRT in C: Python's own would wait for the main thread, which is stuck.
    The thread that aborts is one of the runtime's, which does not hold the interpreter's lock.
    """

    def __init__(self, words: str):
        self.say: Callable[[], str] = lambda: words
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._speak)
        self._signal = ctypes.CDLL(None).signal
        self._signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
        self._signal.restype = ctypes.c_void_p
        self._signal(signal.SIGABRT, ctypes.cast(self._handler, ctypes.c_void_p))
        atexit.register(self._release)  # keeps the handler, of which C knows the address alone

    def _release(self) -> None:
        self._signal(signal.SIGABRT, None)

    def _speak(self, _: int) -> None:
        try:
            os.write(2, f"\nerror: {self.say()}\n".encode())
        finally:
            os._exit(GONE)


def _leave(error: BaseException, last_words: Callable[[], str] | None) -> None:
    """Ends the process at once: Python's own way out would wait for the others at JAX's barrier."""
    code: Any = GONE

    def again() -> None:
        raise error

    try:
        if _connection_lost(error):
            print(f"\nerror: {_describe_loss(last_words)}", file=sys.stderr)
        else:
            try:
                one_line_errors(again)()
            except SystemExit as stop:
                code = stop.code
            except BaseException:
                sys.excepthook(*sys.exc_info())
                code = 1
            if is_main():  # the others live by it: those that fail for the same reason say so first
                time.sleep(_LAST_WORDS)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 1)


def _connection_lost(error: BaseException | None) -> bool:
    """Returns whether the error, or one behind it, is of JAX's runtime or gloo."""
    own = ("resource_exhausted", "out of memory", "invalid_argument", "unimplemented")
    while error is not None:
        is_jax = isinstance(error, jax.errors.JaxRuntimeError)
        # In many words, of many layers: collectives, barriers, the service's clients.
        if is_jax and not any(word in str(error).lower() for word in own):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_main() -> bool:
    """Returns whether this process writes what is written once: it is alone, or process 0."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """Returns each process's value, which JSON can hold, in their order, on all of them."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental import multihost_utils

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length_P = multihost_utils.process_allgather(np.array(len(data))).ravel()
    padded = np.pad(data, (0, int(length_P.max()) - len(data)))
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:n].tobytes()) for row, n in zip(rows, length_P, strict=True)]


def check_shared(path: Path) -> None:
    """Refuses a folder in which other processes do not find the file of process 0.

    Raises:
        InputError: on every process, with the numbers of those that do not.
    """
    if jax.process_count() == 1:
        return
    digest, *_ = gather(_digest(path) if is_main() else "")
    # Network file systems show a new file to other hosts after some time.
    end = time.monotonic() + _SEEN
    while _digest(path) != digest and time.monotonic() < end:
        time.sleep(0.5)
    blind = [i for i, seen in enumerate(gather(_digest(path))) if seen != digest]
    if blind:
        raise InputError(
            f"{path}: process {', '.join(map(str, blind))} does not see what process 0 has written "
            f"there; put the workdir on a file system that all hosts share"
        )


def _digest(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError:  # or stale, while the other host replaces it
        return "missing"


def check_same(what: str, value: str) -> None:
    """Refuses to go on where processes differ.

    Raises:
        InputError: on every process, with the numbers of those that differ from process 0.
    """
    values = gather(value)
    others = [i for i, other in enumerate(values) if other != values[0]]
    if others:
        listed = ", ".join(map(str, others))
        raise InputError(
            f"{what}: process {listed} has other than process 0; start all processes again, with "
            f"the same settings on the same files"
        )
