"""XLA's compiled programs, kept on disk from one process to the next.

Who can write to the folder can make later processes run what they like, so it has to be the
user's own.
"""

import hashlib
import os
import platform
import stat
import sys
from pathlib import Path

import jax

SETTINGS = {
    "jax_compilation_cache_max_size": 2**30,  # bytes a folder; the least recently used go first
    "jax_persistent_cache_min_compile_time_secs": 0.1,
}


def enable() -> None:
    """Turns on JAX's persistent compilation cache, in `default_folder`.

    Settings of the user's own (JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE=false,
    JAX_COMPILATION_CACHE_MAX_SIZE and so on) are left as they are. A folder that is not safe, or
    cannot be made, is told on stderr and not used.
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
    """A folder of jaxlung's in XDG_CACHE_HOME, by default ~/.cache.

    Its name tells machines of different processors apart, which may share a home folder: a
    program compiled for one can end in an illegal instruction on another.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    return base / "jaxlung" / f"xla-{hashlib.sha256(_processor().encode()).hexdigest()[:12]}"


def _processor() -> str:
    """What the compiler may have made use of."""
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
