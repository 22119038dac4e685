"""How many cores there are to use, and how many threads read and score images."""

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
    """Of large images one at a time is worked on, so that memory need do for one alone."""
    if pixels <= _LARGE:
        yield
        return
    with _large:
        try:
            yield
        finally:
            _give_memory_back()


def _give_memory_back() -> None:
    """What `start.keep_freed_memory` keeps, in pieces that a large image may not fit into."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def count_cores() -> int:
    """The cores that this process may use: its affinity's, and a container's share of them."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(available or 1, _container_share()))


def count_workers() -> int:
    """Threads to read with: a core each, and not more than memory for full-size X-rays allows."""
    return min(8, count_cores())


def largest_divisor(batch_size: int, available: int) -> int:
    """The largest number of devices, of those available, that a batch divides over; all for 0."""
    return max(n for n in range(1, available + 1) if batch_size % n == 0)


def _container_share() -> int:
    """Whole cores of a container's quota, rounded up; a large number where there is none."""
    try:
        quota, period = _CPU_MAX.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return 2**31
