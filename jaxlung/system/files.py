"""Writes files that appear whole or not at all, and locks folders."""

import contextlib
import json
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from jaxlung.errors import InputError

_PARTIAL = re.compile(
    r"\.partial_[0-9a-f]{8}_(?P<a>.+)|\.(?P<b>.+)\.[0-9a-f]{8}\.partial", re.DOTALL
)


def check_out(out: Path) -> None:
    """Checks that a folder for results is writable, or that it can be made. Makes nothing.

    Raises:
        InputError: it cannot be written to, or a file stands in its place.
    """
    there = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise InputError(f"--out {out}: {there} is no folder; name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: {there} cannot be written to; name another folder")


def check_file(out: Path, beside: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Checks that a file for results can be written, before long work. Makes nothing.

    Args:
        beside: what is added to its name for files beside it.
        overwrite: files that are there may be replaced.

    Raises:
        InputError: the folder is missing or cannot be written to, or a file exists.
    """
    folder = out.parent
    if not folder.is_dir():
        raise InputError(f"--out {out}: there is no folder {folder}; make it first")
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; name a file in it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: {folder} cannot be written to; name another folder")
    for path in (out, *(out.with_name(out.name + end) for end in beside)):
        if os.path.lexists(path) and not overwrite:
            raise InputError(f"{path} exists; name another file, or pass --overwrite")


@contextlib.contextmanager
def write_whole(path: Path, *, by_suffix: bool = False) -> Iterator[Path]:
    """Yields a hidden file beside `path` to write to; it replaces `path` if nothing is raised.

    No other process or thread has a hidden file of that name: two that write one path both write a
    whole file, and the last one stays.

    Args:
        path: the file that appears.
        by_suffix: give the hidden file the suffix of `path`, for writers that choose their format
            by it. Otherwise its suffix is no image's, so what a killed process leaves behind is
            not taken for an image.
    """
    partial = path.with_name(name_partial(path.name, by_suffix=by_suffix))
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def name_partial(name: str, *, by_suffix: bool = False) -> str:
    """Names what is written before it becomes `name`, unlike any other such file."""
    mark = secrets.token_hex(4)
    return f".partial_{mark}_{name}" if by_suffix else f".{name}.{mark}.partial"


def is_partial(name: str) -> bool:
    """Says whether a file's name is one of `name_partial`.

    Example:
        >>> is_partial(name_partial("1.png")), is_partial("1.png"), is_partial(".music.partial")
        (True, False, False)
    """
    return bool(final_name(name))


def final_name(name: str) -> str:
    """Returns the name that a file of `name_partial` was to have; "" of any other file.

    Example:
        >>> final_name(name_partial("1.png")), final_name("1.png")
        ('1.png', '')
    """
    found = _PARTIAL.fullmatch(name)
    return (found["a"] or found["b"]) if found else ""


def remove_partials(paths: Iterable[Path]) -> None:
    """Removes what processes that were killed had begun to write of these files, where it can."""
    wanted: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        wanted[path.parent].add(path.name)
    for folder, names in wanted.items():
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if final_name(name) in names:
                    (folder / name).unlink()


def write_durable(path: Path, data: bytes) -> None:
    """Writes bytes; the file appears whole or not at all, and a loss of power does not undo it."""
    with write_whole(path) as partial:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    if os.name == "posix":  # the new name is the folder's content; Windows opens no folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def lock_folder(folder: Path, otherwise: str, *, wait_s: float = 0) -> Iterator[None]:
    """Holds a folder for this process alone.

    The operating system holds the lock and releases it when the process ends, however it ends.

    Args:
        folder: the folder to hold.
        otherwise: the message's end where another process holds it.
        wait_s: seconds to wait for a process that holds it.

    Raises:
        InputError: another process holds the folder.
    """
    lock = filelock.FileLock(folder / ".jaxlung.lock")
    try:
        lock.acquire(timeout=wait_s)
    except filelock.Timeout as error:
        raise InputError(f"{folder}: {otherwise}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps open files
            os.unlink(lock.lock_file)
        lock.release()


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8; the file appears whole or not at all."""
    with write_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
