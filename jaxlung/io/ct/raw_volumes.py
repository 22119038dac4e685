"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr): a text header, then voxels, packed or not.

Both are short formats that ITK, 3D Slicer and many public sets write. What a header claims is
checked before memory is taken, voxels are unpacked no further than they should go, and a data file
beside the header has to have a plain name. Anything rarer than that is refused by name.

Sources: https://itk.org/Wiki/ITK/MetaIO/Documentation and http://teem.sourceforge.net/nrrd/format.html
"""

import gzip
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from jaxlung.errors import InputError

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # the axes of ITK and DICOM to NIfTI's

_LONGEST_HEADER = 2**16  # bytes
_MOST_VOXELS = 2**30
_META_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_NRRD_NAMES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_NRRD_TYPES = {name: code for code, names in _NRRD_NAMES.items() for name in names.split("|")}
# From NRRD's spaces to R-A-S, by sign.
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}


class RawVolume(NamedTuple):
    """A volume whose header was read."""

    shape: tuple[int, int, int]
    affine_4x4: np.ndarray  # voxel indices to millimetres, R-A-S
    read_voxels: Callable[[], np.ndarray]  # in the file's own order, and type


class _Data(NamedTuple):
    """Where voxels lie, and how they are stored."""

    path: Path
    start: int  # byte in the file; -1: as many bytes as there have to be, at its end
    kind: np.dtype
    packing: str  # "raw", "gzip" or "zlib"


def open_raw_volume(path: Path) -> RawVolume:
    """Reads the header of a MetaImage or NRRD file.

    Raises:
        InputError: the file is missing or damaged, or of a kind that is not read; also raised by
            `read_voxels`. No text of the header is quoted.
    """
    try:
        with open(path, "rb") as file:
            return (_open_nrrd if file.read(4) == b"NRRD" else _open_meta)(path, file)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, OverflowError):
        raise _damaged(path) from None


def is_voxel_file(path: Path) -> bool:
    """Says whether a file belongs to a header of its name that lies beside it."""
    name = path.name.lower()
    end = next((end for end in (".raw.gz", ".raw", ".zraw") if name.endswith(end)), None)
    stem = path.name[: -len(end)] if end else ""
    return bool(end) and any((path.parent / (stem + s)).is_file() for s in (".mhd", ".nhdr"))


def name_voxel_file(start: bytes) -> str:
    """Returns the name of the file that a header says its voxels are in; LOCAL or "" of itself.

    Example:
        >>> name_voxel_file(b"NDims = 3\\nElementDataFile = scan.raw\\n")
        'scan.raw'
    """
    line = rb"^(?:ElementDataFile[ \t]*=|data ?file:)[ \t]*([^\r\n]*?)[ \t]*\r?$"
    found = re.search(line, start, re.MULTILINE | re.IGNORECASE)
    return found[1].decode("utf-8", "replace") if found else ""


def _open_meta(path: Path, file: BinaryIO) -> RawVolume:
    file.seek(0)
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        key, equals, value = _read_line(file, path).partition("=")
        if not equals:
            raise InputError(f"{path}: is no MetaImage file, or a damaged one; export it as NIfTI")
        fields[key.strip()] = value.strip()
    is_colour = int(fields.get("ElementNumberOfChannels", "1")) > 1
    _check_kind(path, int(fields["NDims"]), is_colour, fields["DimSize"])
    if fields.get("BinaryData", "True").lower() != "true":
        raise _unread(path, "voxels written as text")
    sizes_3 = _numbers(fields.get("ElementSpacing") or fields["ElementSize"], 3)
    names = ("TransformMatrix", "Rotation", "Orientation")
    matrix = next((fields[name] for name in names if name in fields), "1 0 0 0 1 0 0 0 1")
    names = ("Offset", "Position", "Origin")
    origin = next((fields[name] for name in names if name in fields), "0 0 0")
    affine_4x4 = np.eye(4)
    affine_4x4[:3, :3] = _numbers(matrix, 9).reshape(3, 3).T * sizes_3  # a row is an axis
    affine_4x4[:3, 3] = _numbers(origin, 3)
    order = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    kind = np.dtype((">" if order.lower() == "true" else "<") + _META_TYPES[fields["ElementType"]])
    packing = "zlib" if fields.get("CompressedData", "False").lower() == "true" else "raw"
    name, start = fields["ElementDataFile"], int(fields.get("HeaderSize", "0"))
    data = _Data(path, file.tell(), kind, packing)
    if name.upper() != "LOCAL":
        data = _Data(_beside(path, name), start, kind, packing)
    return _volume(path, fields["DimSize"], LPS_TO_RAS @ affine_4x4, data)


def _open_nrrd(path: Path, file: BinaryIO) -> RawVolume:
    file.readline(_LONGEST_HEADER)
    fields: dict[str, str] = {}
    while line := _read_line(file, path, at_end_ok="data file" in fields or "datafile" in fields):
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    axes = fields.get("kinds", "").lower().split()
    is_colour = any("color" in kind or "vector" in kind for kind in axes)
    _check_kind(path, int(fields["dimension"]), is_colour, fields["sizes"])
    signs = _SPACES.get(fields.get("space", "").lower())
    if signs is None or "space directions" not in fields:
        raise InputError(f"{path}: does not say how its voxels lie (space); export it as NIfTI")
    affine_4x4 = np.eye(4)
    affine_4x4[:3, :3] = _numbers(fields["space directions"], 9).reshape(3, 3).T
    affine_4x4[:3, 3] = _numbers(fields.get("space origin", "0 0 0"), 3)
    kind = _NRRD_TYPES[fields["type"].lower()]
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    encoding = fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise _unread(path, "another encoding than raw or gzip")
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    if int(fields.get("line skip", fields.get("lineskip", "0"))) or (skip and encoding != "raw"):
        raise _unread(path, "bytes to skip")
    packing = "raw" if encoding == "raw" else "gzip"
    name = fields.get("data file") or fields.get("datafile")
    data_path = _beside(path, name) if name else path
    start = skip if skip < 0 or name else file.tell() + skip
    data = _Data(data_path, start, np.dtype(order + kind), packing)
    return _volume(path, fields["sizes"], np.diag([*signs, 1.0]) @ affine_4x4, data)


def _read_line(file: BinaryIO, path: Path, *, at_end_ok: bool = False) -> str:
    line = file.readline(_LONGEST_HEADER)
    if file.tell() > _LONGEST_HEADER or not (line.endswith(b"\n") or at_end_ok):
        raise _damaged(path)
    return line.decode("latin-1").rstrip("\r\n")


def _numbers(text: str, count: int) -> np.ndarray:
    """Reads finite numbers that spaces, commas or brackets part; raises ValueError for others."""
    numbers_N = np.array([float(word) for word in re.split(r"[\s,()]+", text) if word])
    if len(numbers_N) != count or not np.isfinite(numbers_N).all():
        raise ValueError
    return numbers_N


def _check_kind(path: Path, dimensions: int, is_colour: bool, sizes: str) -> None:
    if is_colour:
        raise InputError(f"{path}: is in colour, or of several values; expected CT")
    if dimensions != 3:
        shape = tuple(int(size) for size in sizes.split())
        raise InputError(f"{path}: has shape {shape}; expected one volume of numbers")


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: has a damaged or incomplete header; export it as NIfTI")


def _unread(path: Path, what: str) -> InputError:
    return InputError(f"{path}: has {what}, which is not read; export it as NIfTI")


def _beside(path: Path, name: str) -> Path:
    """Returns the file of the voxels, which has to lie beside the header.

    A header could name any file of the disk, or a list or pattern of them.
    """
    if not re.fullmatch(r"[^\\/:%\s]+(?: [^\\/:%\s]+)*", name) or name.upper().startswith("LIST"):
        raise _unread(path, "its voxels in other places")
    if not (path.parent / name).is_file():
        raise InputError(f"{path}: its voxels are in a file of their own, which is not beside it")
    return path.parent / name


def _volume(path: Path, sizes: str, affine_4x4: np.ndarray, data: _Data) -> RawVolume:
    shape = tuple(int(size) for size in sizes.split())
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > _MOST_VOXELS:
        raise ValueError
    if np.linalg.cond(affine_4x4[:3, :3]) > 1e6:
        raise InputError(f"{path}: does not say how its voxels lie; export it as NIfTI")
    x, y, z = shape

    def read_voxels() -> np.ndarray:
        voxels_N = np.frombuffer(_read_bytes(path, data, math.prod(shape)), data.kind)
        if data.kind.kind == "f" and not np.isfinite(voxels_N).all():
            raise InputError(f"{path}: holds NaN or infinite values; replace them first")
        return voxels_N.astype(data.kind.newbyteorder("="), copy=False).reshape(shape, order="F")

    return RawVolume((x, y, z), affine_4x4, read_voxels)


def _read_bytes(path: Path, data: _Data, count: int) -> bytes:
    size = count * data.kind.itemsize
    try:
        with open(data.path, "rb") as file:
            file.seek(*((-size, 2) if data.start < 0 else (data.start, 0)))
            if data.packing == "gzip":
                with gzip.open(file) as unpacked:
                    voxels = unpacked.read(size)
            elif data.packing == "zlib":
                voxels = zlib.decompressobj().decompress(file.read(), size)
            else:
                voxels = file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is damaged or truncated ({type(error).__name__})") from None
    if len(voxels) < size:
        raise InputError(f"{path}: is damaged or truncated (too few voxels)")
    return voxels
