"""Files that appear whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from jaxlung.errors import InputError


@contextlib.contextmanager
def write_whole(path: Path, *, by_suffix: bool = False) -> Iterator[Path]:
    """Where to write: a hidden file beside `path`, which takes its place when all went well.

    With by_suffix its suffix is that of `path`, for writers that choose their format by it; without
    it is none of an image, which what a killed process leaves behind might pass for.
    """
    name = f".partial_{path.name}" if by_suffix else f".{path.name}.partial"
    partial = path.with_name(name)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def lock_folder(
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


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; the file appears whole or not at all."""
    with write_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
