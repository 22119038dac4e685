"""How JAX uses a machine's own cores. Called by the commands, before JAX starts."""

import ctypes
import gc
import os
import sys

import jax

from jaxlung.threads import most_that_divide, worker_count

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def use_cores(batch_size: int = 0, processes: int | None = 1, others: int = 1) -> None:
    """Makes each core a device, so that a batch is split over them as over accelerators.

    XLA runs many of a U-Net's convolutions on one core however many there are; two devices of one
    core each predict up to 1.6 times as fast as one of two. Does nothing once JAX has
    started, or where the user has set the number (JAX_NUM_CPU_DEVICES, or XLA_FLAGS).

    Args:
        batch_size: of what is split over the mesh's axis "data", which divides it; 0: any will do.
        processes: how many share the batch; None: not known yet, so that one device has to do.
        others: devices along the mesh's other axes: there are as many times more.
    """
    by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if by_flag or jax.config.values["jax_num_cpu_devices"] != -1:
        return
    if processes is None and batch_size:
        batch_size = processes = 1
    cores = max(1, worker_count() // others)
    count = most_that_divide(batch_size // (processes or 1), cores) * others
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has started: its devices stay as they are
        pass


def keep_freed_memory() -> None:
    """Lets malloc keep what XLA frees after each step, on Linux with glibc.

    Otherwise every step's hundreds of MiB go back to the system and are taken from it anew, page
    by page, which costs a training a tenth of its speed. One arena, since threads' own ones
    cannot keep such sizes. For processes that do one thing: what is kept is not given back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1)):
            mallopt(parameter, value)


def collect_garbage_seldom() -> None:
    """Lets Python look for cyclic garbage seldom.

    Tracing and lowering make hundreds of thousands of small objects that live on; to go through
    them again and again takes a tenth of a warm start. What has no cycle is freed at once all the
    same.
    """
    gc.set_threshold(50_000, 20, 20)
