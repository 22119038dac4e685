"""Counts the cores and threads to use, and makes threads take turns on large images."""

import contextlib
import ctypes
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # a container's share (cgroup v2): quota and period

_LARGE = 2**24  # pixels
_large = threading.RLock()


@contextlib.contextmanager
def take_turn(pixels: int) -> Iterator[None]:
    """Lets one thread at a time work on a large image, to bound memory."""
    if pixels <= _LARGE:
        yield
        return
    with _large:
        try:
            yield
        finally:
            _give_memory_back()


def _give_memory_back() -> None:
    """Returns freed memory to the system.

    `start.keep_freed_memory` keeps it in pieces, into which the next large image may not fit.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def count_cores() -> int:
    """Counts the cores that this process may use, by its affinity and its container's share."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(available or 1, _container_share()))


def count_workers() -> int:
    """Counts the threads to read with: one a core, and at most 8, for memory's sake."""
    return min(8, count_cores())


def largest_divisor(batch_size: int, available: int) -> int:
    """Returns the largest number of devices that a batch divides over; all available for 0.

    Example:
        >>> largest_divisor(batch_size=6, available=4)
        3
    """
    return max(n for n in range(1, available + 1) if batch_size % n == 0)


def _container_share() -> int:
    """Counts the whole cores of a container's quota, rounded up; a large number without quota."""
    try:
        quota, period = _CPU_MAX.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return 2**31
