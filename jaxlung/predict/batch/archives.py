"""Zip archives as people make them: their members' places, first bytes, and unpacking."""

import functools
import zipfile
from pathlib import Path, PurePosixPath

from jaxlung.errors import InputError
from jaxlung.io.ct.raw_volumes import SUFFIXES, name_voxel_file
from jaxlung.io.dicom.signature import START


def open_archive(path: Path) -> zipfile.ZipFile:
    """Opens an archive, and keeps it open: reading its list of members for each takes long.

    Raises:
        InputError: the archive cannot be read.
    """
    try:
        return _open(path, path.stat().st_mtime_ns)
    except Exception as error:  # a damaged archive breaks zipfile in many ways
        raise InputError(f"{path}: is no zip archive that can be read ({error})") from error


@functools.lru_cache(maxsize=8)  # an archive that falls out is closed by its finaliser
def _open(path: Path, _: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def list_files(archive: zipfile.ZipFile) -> list[str]:
    """Lists the members that are files, by their own names."""
    return [name for name in archive.namelist() if not name.endswith(("/", "\\"))]


def place_of(member: str) -> PurePosixPath:
    """Returns a member's path in its archive; some programs of Windows part it by backslashes."""
    return PurePosixPath(member.replace("\\", "/"))


def read_member_start(archive: zipfile.ZipFile, member: str) -> bytes:
    """Reads a member's first START bytes; none of one that is damaged."""
    try:
        with archive.open(member) as file:
            return file.read(START)
    except Exception:  # its error is reported when its turn comes
        return b""


def list_members(archive: zipfile.ZipFile, member: str) -> list[str]:
    """Returns the names of the files in a folder of the archive; else a file's own name.

    The header of a MetaImage or NRRD volume is followed by the file of its voxels, if it has one.
    """
    if member.endswith("/"):
        folder = PurePosixPath(member)
        return [name for name in list_files(archive) if place_of(name).parent == folder]
    place = place_of(member)
    if place.suffix.lower() not in SUFFIXES:
        return [member]
    voxels = place.parent / name_voxel_file(read_member_start(archive, member))
    return [member, *(name for name in list_files(archive) if place_of(name) == voxels != place)]


def unpack(archive: zipfile.ZipFile, member: str, path: Path) -> None:
    left = archive.getinfo(member).file_size
    with archive.open(member) as packed, open(path, "wb") as file:
        while block := packed.read(2**20):
            left -= len(block)
            if left < 0:  # whatever the archive says of its size
                raise InputError(f"{archive.filename}/{member}: is larger than it says")
            file.write(block)
