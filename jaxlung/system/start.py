"""What a command sets up before JAX starts: devices, memory, garbage, compiled programs."""

import ctypes
import gc
import hashlib
import os
import platform
import stat
import sys
from pathlib import Path

import jax

from jaxlung.system.threads import count_workers, largest_divisor

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def start_process(batch_size: int = 0, processes: int | None = 1, others: int = 1) -> None:
    """Sets up this process for one command: call it before JAX starts. Arguments: `use_cores`."""
    collect_garbage_rarely()
    keep_freed_memory()
    use_cores(batch_size, processes, others)
    enable_compile_cache()


def use_cores(batch_size: int = 0, processes: int | None = 1, others: int = 1) -> None:
    """Makes each core a device, so that a batch is split over cores as over accelerators.

    XLA runs many of a U-Net's convolutions on one core however many there are. Two devices of one
    core each predict up to 1.6 times as fast as one device of two cores. Does nothing once JAX has
    started, or where the user has set the number (JAX_NUM_CPU_DEVICES, or XLA_FLAGS).

    Args:
        batch_size: the number of devices along the mesh's axis "data" divides it; 0: any number.
        processes: how many share the batch; None: not known yet, so this process has one device.
        others: devices along the mesh's other axes, by which the number is multiplied.
    """
    if is_count_given():
        return
    if processes is None and batch_size:
        batch_size = processes = 1
    cores = max(1, count_workers() // others)
    count = largest_divisor(batch_size // (processes or 1), cores) * others
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # JAX has started: its devices stay as they are
        pass


def is_count_given() -> bool:
    """Says whether the number of CPU devices was set, by the user or by `use_cores`."""
    by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    return by_flag or jax.config.values["jax_num_cpu_devices"] != -1


def keep_freed_memory() -> None:
    """Lets malloc keep what XLA frees after each step, on Linux with glibc.

    Otherwise every step returns hundreds of MiB to the system and takes them again, page by page,
    which costs training a tenth of its speed. All threads share one arena, because an arena of a
    single thread cannot keep such sizes. For processes with one task: the memory stays taken.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1)):
            mallopt(parameter, value)


def collect_garbage_rarely() -> None:
    """Makes Python look for cyclic garbage seldom.

    Tracing and lowering make hundreds of thousands of small objects that live on. To search them
    again and again takes a tenth of a warm start. Objects without cycles are still freed at once.
    """
    gc.set_threshold(50_000, 20, 20)


SETTINGS = {
    "jax_compilation_cache_max_size": 2**30,  # bytes a folder; the least recently used go first
    "jax_persistent_cache_min_compile_time_secs": 0.1,
}


def enable_compile_cache() -> None:
    """Turns on JAX's persistent compilation cache, in `default_folder`.

    The user's own settings (JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE=false,
    JAX_COMPILATION_CACHE_MAX_SIZE and so on) stay. Prints a line on stderr and uses no cache where
    the folder is not safe or cannot be made.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
        return
    try:
        folder = default_folder()
    except RuntimeError as error:  # no HOME, and no such user
        print(f"{error} Compiling without a cache.", file=sys.stderr)
        return
    reason = _make_private(folder)
    if reason:
        print(f"{folder}: {reason}; compiling without a cache", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    for name, value in SETTINGS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def default_folder() -> Path:
    """Returns jaxlung's folder in XDG_CACHE_HOME, by default ~/.cache.

    Its name depends on the processor, because machines may share a home folder: a program compiled
    for one processor can end in an illegal instruction on another.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    return base / "jaxlung" / f"xla-{hashlib.sha256(_processor().encode()).hexdigest()[:12]}"


def _processor() -> str:
    """Describes the processor by all that the compiler may make use of."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kept = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(kept)}))


def _make_private(folder: Path) -> str:
    """Makes the folder, for its owner alone; returns why it cannot be used, or ""."""
    try:
        for path in (folder.parent.parent, folder.parent, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        base = folder.parent.parent.stat()
        if os.name == "posix" and _shared(base.st_mode) and not base.st_mode & stat.S_ISVTX:
            return f"{folder.parent.parent} can be written to by others (chmod go-w mends it)"
        for path in (folder.parent, folder):
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                return f"{path} is a link"
            if hasattr(os, "getuid") and status.st_uid != os.getuid():
                return f"{path} belongs to another user"
            if os.name == "posix" and _shared(status.st_mode):
                return f"{path} can be written to by others (chmod go-w mends it)"
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(folder, os.W_OK) else "it cannot be written to"


def _shared(mode: int) -> bool:
    return bool(mode & (stat.S_IWGRP | stat.S_IWOTH))
