"""One process at a time in a folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from jaxlung.errors import InputError


@contextlib.contextmanager
def alone_in(
    folder: Path,
    otherwise: str,
    *,
    name: str = ".jaxlung.lock",
    wait: float = 0,
    keep: bool = False,
) -> Iterator[None]:
    """Raises InputError, saying `otherwise`, where another process is in the folder.

    The lock is the operating system's: it goes with the process, however that ends.

    Args:
        name: of the lock's file.
        wait: seconds for the other to leave.
        keep: leave the file, for others that wait for it.
    """
    lock = filelock.FileLock(folder / name)
    try:
        lock.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise InputError(f"{folder}: {otherwise}") from error
    try:
        yield
    finally:
        if not keep:
            with contextlib.suppress(OSError):  # Windows keeps open files
                (folder / name).unlink()
        lock.release()
