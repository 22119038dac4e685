"""From what a user names to images one by one: files, folders, globs, zip archives, lists.

Of a folder or an archive every image in it and below it is taken, in order of name; hidden files,
and what is no image by suffix or content, are passed over. Names of an archive's members are used
to name outputs, never to write.
"""

import contextlib
import errno
import glob
import itertools
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxlung.ct import SUFFIXES as VOLUMES
from jaxlung.ct import is_volume, volume_stem
from jaxlung.dicom import is_dicom
from jaxlung.errors import InputError
from jaxlung.folder import is_image, stem_of

_LARGEST_MEMBER = 2**31  # bytes of an archive's member: a bomb must not fill the disk


class Source(NamedTuple):
    """One image, or with a model of CT one volume."""

    path: Path  # the file; the folder of a DICOM series; or the archive
    member: str  # in an archive: the file's name there, of a series the folder's with / at its end
    name: PurePosixPath  # of its outputs, less their suffix: relative, below the folder named

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def stamp(self) -> str:
        """Changes when the file does: its size and time, in an archive its size and CRC.

        Raises:
            InputError: it is no longer there.
        """
        try:
            if self.member and not self.member.endswith("/"):
                with zipfile.ZipFile(self.path) as archive:
                    info = archive.getinfo(self.member)
                    return f"{info.file_size}-{info.CRC}"
            status = self.path.stat()
        except Exception as error:  # a damaged archive breaks zipfile in many ways
            raise InputError(f"{self}: cannot be read ({error})") from error
        return f"{status.st_size}-{status.st_mtime_ns}"


def read_list(lines: Iterable[str]) -> list[Path]:
    """Paths, one on each line; empty lines are passed over."""
    return [Path(line.rstrip("\r\n")) for line in lines if line.strip()]


def find_sources(
    paths: Sequence[Path], *, volumes: bool, but_not: Path | None = None
) -> list[Source]:
    """Every image that the paths lead to, in the order given.

    Args:
        volumes: look for CT volumes (NIfTI files, folders that hold a DICOM series) instead.
        but_not: a folder to pass over: that of the outputs, where it lies in one of the inputs.

    Raises:
        InputError: a path that leads to nothing: no such file, a glob without match, a folder or
            an archive without an image, or an archive that is damaged.
    """
    sources: list[Source] = []
    for path in paths:
        if path.exists() or not glob.has_magic(str(path)):
            sources += _at(path, volumes, but_not)  # a missing file is reported in its turn
            continue
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        if not matches:
            raise InputError(f"{path}: matches no file")
        plain_parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        for match in matches:
            folder = match if match.is_dir() else match.parent
            below = PurePosixPath(folder.relative_to(Path(*plain_parts)).as_posix())
            sources += [
                source._replace(name=below / source.name) for source in _at(match, volumes, but_not)
            ]
    return sources


def _at(path: Path, volumes: bool, but_not: Path | None) -> list[Source]:
    kind = "CT volume" if volumes else "image"
    if path.suffix.lower() == ".zip" and path.is_file():
        found = _in_archive(path, volumes)
    elif path.is_dir() and not (volumes and _is_series(path)):
        hidden = None if but_not is None else but_not.resolve()
        found = [
            Source(file, "", _name(file, path, volumes))
            for file in _below(path, volumes)
            if hidden is None or hidden not in file.resolve().parents
        ]
    else:
        stem = volume_stem(path) if is_volume(path) else stem_of(path)
        return [Source(path, "", PurePosixPath(stem))]
    if not found:
        raise InputError(f"{path}: holds no {kind}")
    return found


def _below(folder: Path, volumes: bool) -> Iterator[Path]:
    """Images in a folder and below, or with volumes NIfTI files and folders of a series."""
    for where, folders, files in os.walk(folder):
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
    """Whether DICOM files lie in the folder itself."""
    return any(
        file.is_file() and is_dicom(file) and file.name != "DICOMDIR"
        for file in sorted(folder.iterdir())
        if not _is_hidden(file.name)
    )


def _name(file: Path, folder: Path, volumes: bool) -> PurePosixPath:
    stem = volume_stem(file) if volumes else stem_of(file)
    return PurePosixPath(file.relative_to(folder).with_name(stem).as_posix())


def _in_archive(path: Path, volumes: bool) -> list[Source]:
    with _open_archive(path) as archive:
        members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        found: dict[str, PurePosixPath] = {}
        for member in members:
            place = PurePosixPath(member)
            if place.is_absolute() or ".." in place.parts or "\\" in member:
                raise InputError(f"{path}: its member {member!r} leads out of it; repack it")
            if any(map(_is_hidden, place.parts)):
                continue
            if volumes and member.lower().endswith(VOLUMES):
                found[member] = place.with_name(volume_stem(Path(place)))
            elif volumes and _is_dicom_member(archive, member):
                folder = place.parent
                name = folder if folder.name else PurePosixPath(path.stem)
                found[f"{folder}/"] = name
            elif not volumes and _is_image_member(archive, member):
                found[member] = place.with_name(stem_of(Path(place)))
    return [Source(path, member, name) for member, name in found.items()]


def _is_image_member(archive: zipfile.ZipFile, member: str) -> bool:
    path = Path(member)
    return is_image(path) if path.suffix else _is_dicom_member(archive, member)


def _is_dicom_member(archive: zipfile.ZipFile, member: str) -> bool:
    path = PurePosixPath(member)
    if path.name == "DICOMDIR":
        return False
    try:
        with archive.open(member) as file:
            return file.read(132)[128:] == b"DICM"
    except Exception:
        return path.suffix.lower() in (".dcm", ".dicom")  # its error is told in its turn


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # damage breaks zipfile in many ways
        raise InputError(f"{path}: is no zip archive that can be read ({error})") from error
    with archive:
        yield archive


@contextlib.contextmanager
def on_disk(source: Source) -> Iterator[Path]:
    """The source as a path to read; a member of an archive is unpacked while inside.

    Raises:
        InputError: the member is damaged, encrypted, or larger than 2 GiB. Errors raised inside
            that name the unpacked file name the source instead.
    """
    if not source.member:
        yield source.path
        return
    with tempfile.TemporaryDirectory(prefix="jaxlung-") as name:
        folder = Path(name)
        place = PurePosixPath(source.member)
        try:
            with _open_archive(source.path) as archive:
                if not source.member.endswith("/"):
                    path = _unpack(archive, source.member, folder / place.name)
                else:
                    path = folder / (place.name or source.path.stem)
                    path.mkdir()
                    for member in archive.namelist():
                        inside = PurePosixPath(member)
                        if inside.parent == place and not member.endswith("/"):
                            _unpack(archive, member, path / inside.name)
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


def _unpack(archive: zipfile.ZipFile, member: str, path: Path) -> Path:
    if archive.getinfo(member).file_size > _LARGEST_MEMBER:
        raise InputError(f"{archive.filename}/{member}: is larger than 2 GiB; unpack it yourself")
    with archive.open(member) as packed, open(path, "wb") as file:
        left = _LARGEST_MEMBER  # whatever the archive says of its size
        while block := packed.read(min(left, 2**20)):
            left -= len(block)
            file.write(block)
            if left <= 0:
                raise InputError(f"{archive.filename}/{member}: is larger than 2 GiB")
    return path
