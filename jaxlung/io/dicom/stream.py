"""Reads what a compressed stream says of itself, before a decoder sees it.

GDCM ends the whole process on some damaged headers, and makes a scrambled picture of JPEG-LS that
has another size than DICOM's header states.
"""

import os
import struct
import zlib
from typing import NamedTuple

from jaxlung.errors import InputError
from jaxlung.io.film import MOST_BYTES

_SOF = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # frame headers of JPEG and JPEG-LS
_SOS, _DHT, _JPEG_LS = 0xDA, 0xC4, 0xF7
_DEFLATED = b"1.2.840.10008.1.2.1.99"


class StreamHeader(NamedTuple):
    """What a stream of JPEG, JPEG-LS or JPEG 2000 says."""

    height: int
    width: int
    channels: int
    bits: int  # per sample


def read_stream_header(frame: bytes) -> StreamHeader:
    """Reads the headers of a stream of one image.

    Raises:
        ValueError, IndexError, struct.error: the headers are damaged.
    """
    return _jpeg(frame) if frame[:2] == b"\xff\xd8" else _jpeg_2000(frame)


def _jpeg_2000(frame: bytes) -> StreamHeader:
    """Reads the SIZ marker (ISO 15444-1 A.5.1)."""
    start = frame.index(b"\xff\x4f\xff\x51")  # SOC and SIZ, which boxes of JP2 may precede
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    channels, bits = struct.unpack_from(">HB", frame, start + 40)
    return StreamHeader(bottom - top, right - left, channels, (bits & 0x7F) + 1)


def _jpeg(frame: bytes) -> StreamHeader:
    """Reads the segments up to the first scan (ISO 10918-1 B.2 and ISO 14495-1 C.2)."""
    at, found, seen = 2, None, set()
    while True:
        while frame[at + 1] == 0xFF:  # fill bytes
            at += 1
        lead, marker, length = struct.unpack_from(">BBH", frame, at)
        if lead != 0xFF or not 0xC0 <= marker < 0xFF or 0xD0 <= marker < _SOS or length < 2:
            raise ValueError("no marker where one has to be")
        if marker == _SOS:
            break
        if marker in _SOF:
            bits, height, width, channels = struct.unpack_from(">BHHB", frame, at + 4)
            found = StreamHeader(height, width, channels, bits)
        seen.add(marker)
        at += 2 + length
    if found is None or not seen & {_DHT, _JPEG_LS}:
        raise ValueError("no frame header, or no tables")
    return found


def check_unpacked(path: str | os.PathLike[str]) -> None:
    """Refuses a deflated data set that unpacks to more than any image; pydicom unpacks all at once.

    Raises:
        InputError: it unpacks to more than MOST_BYTES.
        struct.error, zlib.error: it is damaged.
    """
    with open(path, "rb") as file:
        start = file.read(4096)
        if start[128:132] != b"DICM" or _DEFLATED not in start:
            return
        file.seek(144 + struct.unpack_from("<I", start, 140)[0])  # past the group of the syntax
        unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        packed = file.read(2**16)
        while packed and not unpacker.eof:
            size += len(unpacker.decompress(packed, 2**20))
            packed = unpacker.unconsumed_tail or file.read(2**16)
            if size > MOST_BYTES:
                raise InputError(f"{path}: unpacks to more than {MOST_BYTES >> 20} MiB")
