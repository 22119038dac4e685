"""Finds the images that a user names: files, folders, globs, zip archives, lists.

A folder or an archive gives every image in it and below it, in order of name. What is no image by
suffix or content is passed over and counted, but for hidden files. An archive's members name
outputs; no file is written under their own path.
"""

import contextlib
import errno
import functools
import glob
import hashlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from jaxlung.errors import InputError
from jaxlung.io.dicom.series import holds_slices, name_aside, name_file
from jaxlung.io.dicom.signature import read_start, starts_image
from jaxlung.io.images import is_image, is_image_start, may_be_dicom, stem_of
from jaxlung.io.passed_over import count_in_words, is_hidden, name_kind
from jaxlung.io.text import decode_text, is_utf8
from jaxlung.io.volumes import SUFFIXES as VOLUMES
from jaxlung.io.volumes import is_volume, volume_stem
from jaxlung.predict.batch.archives import (
    list_files,
    list_members,
    open_archive,
    place_of,
    read_member_start,
    unpack,
)
from jaxlung.predict.buckets.stores import fetch
from jaxlung.system.urls import Url

_LARGEST = 2**31  # bytes unpacked at once: a bomb must not fill the disk


class Source(NamedTuple):
    """One image or scan."""

    path: Path  # the file; the folder of a DICOM series; or the archive
    member: str  # the file's name in the archive; a series has its folder's name and a final /
    name: PurePosixPath  # of its outputs without their suffix, relative to the folder named
    is_volume: bool = False  # a scan; False: one image
    url: str = ""  # of an object in a bucket, which `path` only names then
    mark: str = ""  # the stamp of an object, from the list of the bucket
    others: tuple[str, ...] = ()  # URLs of a few other objects of the bucket

    def __str__(self) -> str:
        if self.url:
            return self.url
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def place(self) -> str:
        """The absolute path, whatever the working directory was."""
        return self.url or os.path.abspath(str(self))

    @property
    def stamp(self) -> str:
        """A digest that changes when the file does: of its size and time, or its size and CRC.

        Raises:
            InputError: the file is no longer there.
        """
        if self.url:
            return self.mark
        try:
            if self.member:
                archive = open_archive(self.path)
                infos = [archive.getinfo(member) for member in list_members(archive, self.member)]
                parts = [f"{info.filename}-{info.file_size}-{info.CRC}" for info in infos]
            else:
                files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
                statuses = [(file.name, file.stat()) for file in files]
                parts = [f"{name}-{s.st_size}-{s.st_mtime_ns}" for name, s in statuses]
        except Exception as error:  # a damaged archive breaks zipfile in many ways
            raise InputError(f"{self}: cannot be read ({error})") from error
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def read_list(data: bytes, name: str) -> list[str]:
    """Reads the lines that are not empty; or what NUL parts, as of find -print0.

    Args:
        name: of the list, for an error.

    Raises:
        InputError: the list is in another encoding than UTF-8 or UTF-16. Names of any bytes, as
            Linux has them, count where a file of such a name exists.
    """
    text = decode_text(data, name, errors="surrogateescape")
    lines = text.split("\0") if "\0" in text else [line.rstrip("\r") for line in text.split("\n")]
    undecodable = [line for line in lines if not is_utf8(line)]
    if undecodable and not any(map(os.path.exists, undecodable)):
        raise InputError(
            f"{name}: is not UTF-8, and none of its {len(undecodable)} names in other bytes is a "
            f"file here; save it as UTF-8"
        )
    return [line for line in lines if line.strip()]


def find_sources(
    paths: Sequence[Path],
    *,
    volumes: bool,
    but_not: Path | None = None,
    passed_over: Counter[str] | None = None,
) -> list[Source]:
    """Finds every image that the paths lead to, once, in the order given.

    Args:
        volumes: find CT volumes (NIfTI files, folders that hold a DICOM series) instead.
        but_not: a folder to pass over: that of the outputs, which may lie in one of the inputs.
        passed_over: counts, by `name_kind`, the files of folders and archives that are no image.

    Raises:
        InputError: a path leads to nothing (a glob without match, a folder or an archive without an
            image), it is the folder to pass over, or an archive is damaged.
    """
    aside: dict[str, str] = {}
    sources: list[Source] = []
    for path in paths:
        search = _Search(volumes, but_not, {})
        is_glob = glob.has_magic(str(path)) and not path.exists()
        # A missing file is reported when its turn comes.
        found = _matching(path, search) if is_glob else _at(path, search)
        if not found:
            verb, kind = "matches" if is_glob else "holds", "CT volume" if volumes else "image"
            counts = count_in_words(Counter(search.passed_over.values()))
            raise InputError(f"{path}: {verb} no {kind}{'; ' if counts else ''}{counts}")
        sources += found
        aside |= search.passed_over
    if passed_over is not None:
        passed_over.update(aside.values())
    # A glob may name a folder and the files in it.
    once = {(source.path, source.member): source for source in sources}
    return [source._replace(is_volume=volumes) for source in once.values()]


class _Search(NamedTuple):
    """What `find_sources` looks for; and what it has passed over."""

    volumes: bool
    but_not: Path | None
    passed_over: dict[str, str]  # the kind by place, as `Source.place`

    def passes_over(self, path: Path) -> bool:
        return self.but_not is not None and path.resolve().is_relative_to(self.but_not.resolve())

    def put_aside(self, path: Path, kind: str) -> None:
        self.passed_over[os.path.abspath(path)] = kind


def _matching(pattern: Path, search: _Search) -> list[Source]:
    """Finds what a glob matches; outputs are named by the path below its first wildcard."""
    plain_parts = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    root = Path(*plain_parts)
    found = []
    for match in map(Path, sorted(glob.glob(str(pattern), recursive=True))):
        if not search.passes_over(match):
            folder = match if match.is_dir() else match.parent
            below = PurePosixPath(folder.relative_to(root).as_posix())
            for source in _at(match, search):
                found.append(source._replace(name=below / source.name))
    return found


def _at(path: Path, search: _Search) -> list[Source]:
    if path.suffix.lower() == ".zip" and path.is_file():
        return _in_archive(path, search)
    if path.is_dir() and not (search.volumes and holds_slices(path)):
        if search.but_not is not None and path.resolve() == search.but_not.resolve():
            raise InputError(f"{path}: is the folder of the images; name another --out folder")
        stem_in = volume_stem if search.volumes else stem_of
        return [
            Source(file, "", PurePosixPath(file.relative_to(path).with_name(stem_in(file))))
            for file in _below(path, search)
        ]
    if path.is_dir():
        _count_beside_series(path, search)
    stem = volume_stem(path) if is_volume(path) else stem_of(path)
    return [Source(path, "", PurePosixPath(stem))]


def _below(folder: Path, search: _Search) -> Iterator[Path]:
    """Yields the images in a folder and below; with volumes, NIfTI files and folders of series."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error

    seen = set()  # links may lead in a circle
    for where, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(where)
        if real in seen or search.passes_over(Path(where)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        if search.volumes and Path(where) != folder and holds_slices(Path(where)):
            yield Path(where)
            _count_beside_series(Path(where), search)
            files = [name for name in files if name.lower().endswith(VOLUMES)]
        for name in sorted(files):
            file = Path(where, name)
            if is_hidden(name) or search.passes_over(file):
                continue
            if name.lower().endswith(VOLUMES) if search.volumes else is_image(file):
                yield file
            elif kind := name_file(file) if search.volumes else name_kind(read_start(file), name):
                search.put_aside(file, kind)


def _count_beside_series(folder: Path, search: _Search) -> None:
    """Counts the files of a DICOM series' folder that are no slice."""
    for file in folder.iterdir():
        if file.is_file() and not is_hidden(file.name):
            if not file.name.lower().endswith(VOLUMES) and (kind := name_file(file)):
                search.put_aside(file, kind)


def _in_archive(path: Path, search: _Search) -> list[Source]:
    archive = open_archive(path)
    names = list_files(archive)
    if len({*map(place_of, names)}) < len(names):
        raise InputError(f"{path}: holds two members of one name; repack it")
    found: dict[str, PurePosixPath] = {}
    voxels = {other for name in names for other in list_members(archive, name) if other != name}
    for member in sorted(names):
        place = place_of(member)
        if any(map(is_hidden, place.parts)):
            continue
        if place.is_absolute() or ".." in place.parts or PureWindowsPath(place).drive:
            raise InputError(f"{path}: its member {member!r} leads out of it; repack it")
        if search.volumes and member in voxels:  # of a header, which is found itself
            continue
        is_open = search.volumes or may_be_dicom(place.name)
        start = read_member_start(archive, member) if is_open else b""
        if search.volumes and member.lower().endswith(VOLUMES):
            found[member] = place.with_name(volume_stem(Path(place)))
        elif search.volumes and starts_image(start, place.name):
            if kind := name_aside(start, functools.partial(archive.open, member)):
                search.put_aside(path / member, kind)
                continue
            folder = place.parent
            found[f"{folder}/"] = folder if folder.name else PurePosixPath(path.stem)
        elif not search.volumes and is_image_start(start, place.name):
            found[member] = place.with_name(stem_of(Path(place)))
        else:
            search.put_aside(path / member, name_kind(start, place.name))
    return [Source(path, member, name) for member, name in found.items()]


@contextlib.contextmanager
def on_disk(source: Source) -> Iterator[Path]:
    """Gives the source as a path to read; what an archive or a bucket holds is here meanwhile.

    Raises:
        InputError: a member is damaged, encrypted, or larger than 2 GiB, or an object alone cannot
            be read. An error raised inside that names the temporary file names the source instead.
        OSError: the disk is full or the bucket refuses all, which ends the batch.
    """
    if not source.member and not source.url:
        yield source.path
        return
    with tempfile.TemporaryDirectory(prefix="jaxlung-") as name:
        path = Path(name, place_of(source.member or source.path.name).name or source.path.stem)
        try:
            if source.url:
                fetch(Url(source.url), path, source.others)
            else:
                _unpack(source, path)
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), str(source))) from error


def _unpack(source: Source, path: Path) -> None:
    archive = open_archive(source.path)
    try:
        members = list_members(archive, source.member)
        if sum(archive.getinfo(member).file_size for member in members) > _LARGEST:
            raise InputError(f"{source}: is larger than 2 GiB; unpack it yourself")
        folder = path if source.member.endswith("/") else path.parent
        folder.mkdir(exist_ok=True)
        for member in members:
            unpack(archive, member, folder / place_of(member).name)
    except InputError:
        raise
    except Exception as error:  # as above
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # the disk's fault, which ends the batch
        raise InputError(f"{source}: cannot be unpacked ({error})") from error
