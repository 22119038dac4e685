"""Finds the images that a user names: files, folders, globs, zip archives, lists.

A folder or an archive gives every image in it and below it, in order of name. Hidden files, and
what is no image by suffix or content, are passed over. An archive's members name outputs; no file
is written under their own path.
"""

import contextlib
import errno
import functools
import glob
import hashlib
import itertools
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxlung.errors import InputError
from jaxlung.io.dicom.signature import START, holds_image, starts_image
from jaxlung.io.images import is_image, is_image_start, stem_of
from jaxlung.io.volumes import SUFFIXES as VOLUMES
from jaxlung.io.volumes import is_volume, volume_stem

_LARGEST = 2**31  # bytes unpacked at once: a bomb must not fill the disk


class Source(NamedTuple):
    """One image, or with a model of CT one volume."""

    path: Path  # the file; the folder of a DICOM series; or the archive
    member: str  # the file's name in the archive; a series has its folder's name and a final /
    name: PurePosixPath  # of its outputs without their suffix, relative to the folder named

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def place(self) -> str:
        """The absolute path, whatever the working directory was."""
        return os.path.abspath(str(self))

    @property
    def stamp(self) -> str:
        """A digest that changes when the file does: of its size and time, or its size and CRC.

        Raises:
            InputError: the file is no longer there.
        """
        try:
            if self.member:
                archive = _opened(self.path)
                infos = [archive.getinfo(member) for member in _members(archive, self.member)]
                parts = [f"{info.filename}-{info.file_size}-{info.CRC}" for info in infos]
            else:
                files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
                statuses = [(file.name, file.stat()) for file in files]
                parts = [f"{name}-{s.st_size}-{s.st_mtime_ns}" for name, s in statuses]
        except Exception as error:  # a damaged archive breaks zipfile in many ways
            raise InputError(f"{self}: cannot be read ({error})") from error
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def read_list(lines: Iterable[str]) -> list[Path]:
    """Reads a path from each line that is not empty."""
    return [Path(line.rstrip("\r\n")) for line in lines if line.strip()]


def find_sources(
    paths: Sequence[Path], *, volumes: bool, but_not: Path | None = None
) -> list[Source]:
    """Finds every image that the paths lead to, once, in the order given.

    Args:
        volumes: find CT volumes (NIfTI files, folders that hold a DICOM series) instead.
        but_not: a folder to pass over: that of the outputs, which may lie in one of the inputs.

    Raises:
        InputError: a path leads to nothing (a glob without match, a folder or an archive without an
            image), it is the folder to pass over, or an archive is damaged.
    """
    sources: list[Source] = []
    for path in paths:
        is_glob = glob.has_magic(str(path)) and not path.exists()
        # A missing file is reported when its turn comes.
        found = _matching(path, volumes, but_not) if is_glob else _at(path, volumes, but_not)
        if not found:
            verb, kind = "matches" if is_glob else "holds", "CT volume" if volumes else "image"
            raise InputError(f"{path}: {verb} no {kind}")
        sources += found
    # A glob may name a folder and the files in it.
    return list({(source.path, source.member): source for source in sources}.values())


def _matching(pattern: Path, volumes: bool, but_not: Path | None) -> list[Source]:
    """Finds what a glob matches; outputs are named by the path below its first wildcard."""
    plain_parts = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    root = Path(*plain_parts)
    found = []
    for match in map(Path, sorted(glob.glob(str(pattern), recursive=True))):
        if not _is_within(match, but_not):
            folder = match if match.is_dir() else match.parent
            below = PurePosixPath(folder.relative_to(root).as_posix())
            for source in _at(match, volumes, but_not):
                found.append(source._replace(name=below / source.name))
    return found


def _is_within(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder.resolve())


def _at(path: Path, volumes: bool, but_not: Path | None) -> list[Source]:
    if path.suffix.lower() == ".zip" and path.is_file():
        return _in_archive(path, volumes)
    if path.is_dir() and not (volumes and _is_series(path)):
        if but_not is not None and path.resolve() == but_not.resolve():
            raise InputError(f"{path}: is the folder of the images; name another --out folder")
        stem_in = volume_stem if volumes else stem_of
        return [
            Source(file, "", PurePosixPath(file.relative_to(path).with_name(stem_in(file))))
            for file in _below(path, volumes)
            if not _is_within(file, but_not)
        ]
    stem = volume_stem(path) if is_volume(path) else stem_of(path)
    return [Source(path, "", PurePosixPath(stem))]


def _below(folder: Path, volumes: bool) -> Iterator[Path]:
    """Yields the images in a folder and below; with volumes, NIfTI files and folders of series."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error

    seen = set()  # links may lead in a circle
    for where, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        if volumes and Path(where) != folder and _is_series(Path(where)):
            yield Path(where)
        for name in sorted(files):
            file = Path(where, name)
            if _is_hidden(name):
                continue
            if name.lower().endswith(VOLUMES) if volumes else is_image(file):
                yield file


def _is_series(folder: Path) -> bool:
    """Tells whether DICOM images lie in the folder itself."""
    return any(holds_image(file) for file in sorted(folder.iterdir()) if not _is_hidden(file.name))


def _is_hidden(name: str) -> bool:
    return (name.startswith(".") and name != "..") or name == "__MACOSX"


def _opened(path: Path) -> zipfile.ZipFile:
    """Opens an archive, and keeps it open: reading its list of members for each takes long.

    Raises:
        InputError: the archive cannot be read.
    """
    try:
        return _open_archive(path, path.stat().st_mtime_ns)
    except Exception as error:  # as above
        raise InputError(f"{path}: is no zip archive that can be read ({error})") from error


@functools.lru_cache(maxsize=8)  # an archive that falls out is closed by its finaliser
def _open_archive(path: Path, _: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _in_archive(path: Path, volumes: bool) -> list[Source]:
    archive = _opened(path)
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: holds two members of one name; repack it")
    found: dict[str, PurePosixPath] = {}
    for member in sorted(names):
        place = PurePosixPath(member)
        if any(map(_is_hidden, place.parts)):
            continue
        if place.is_absolute() or ".." in place.parts or "\\" in member:
            raise InputError(f"{path}: its member {member!r} leads out of it; repack it")
        if volumes and member.lower().endswith(VOLUMES):
            found[member] = place.with_name(volume_stem(Path(place)))
        elif volumes and starts_image(_start(archive, member), place.name):
            folder = place.parent
            found[f"{folder}/"] = folder if folder.name else PurePosixPath(path.stem)
        elif not volumes and is_image_start(_start(archive, member), place.name):
            found[member] = place.with_name(stem_of(Path(place)))
    return [Source(path, member, name) for member, name in found.items()]


def _start(archive: zipfile.ZipFile, member: str) -> bytes:
    try:
        with archive.open(member) as file:
            return file.read(START)
    except Exception:  # as above; its error is reported when its turn comes
        return b""


def _members(archive: zipfile.ZipFile, member: str) -> list[str]:
    """Returns a file's own name, or the names of the files in a folder of the archive."""
    if not member.endswith("/"):
        return [member]
    folder = PurePosixPath(member)
    names = [name for name in archive.namelist() if not name.endswith("/")]
    return [name for name in names if PurePosixPath(name).parent == folder]


@contextlib.contextmanager
def on_disk(source: Source) -> Iterator[Path]:
    """Gives the source as a path to read; a member of an archive is unpacked meanwhile.

    Raises:
        InputError: the member is damaged, encrypted, or larger than 2 GiB. An error raised inside
            that names the unpacked file names the source instead.
    """
    if not source.member:
        yield source.path
        return
    archive = _opened(source.path)
    with tempfile.TemporaryDirectory(prefix="jaxlung-") as name:
        path = Path(name, PurePosixPath(source.member).name or source.path.stem)
        try:
            members = _members(archive, source.member)
            if sum(archive.getinfo(member).file_size for member in members) > _LARGEST:
                raise InputError(f"{source}: is larger than 2 GiB; unpack it yourself")
            if source.member.endswith("/"):
                path.mkdir()
                for member in members:
                    _unpack(archive, member, path / PurePosixPath(member).name)
            else:
                _unpack(archive, source.member, path)
        except InputError:
            raise
        except Exception as error:  # as above
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise  # the disk's fault, which ends the batch
            raise InputError(f"{source}: cannot be unpacked ({error})") from error
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), str(source))) from error


def _unpack(archive: zipfile.ZipFile, member: str, path: Path) -> None:
    left = archive.getinfo(member).file_size
    with archive.open(member) as packed, open(path, "wb") as file:
        while block := packed.read(2**20):
            left -= len(block)
            if left < 0:  # whatever the archive says of its size
                raise InputError(f"{archive.filename}/{member}: is larger than it says")
            file.write(block)
