"""How many threads read and score images."""

import os


def worker_count() -> int:
    """The cores that this process may use, and not more than memory for full-size X-rays allows."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, available or 1)
