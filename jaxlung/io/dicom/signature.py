"""Recognises DICOM by the first bytes of a file, whatever its name.

A file has DICM at byte 128 (PS3.10 7.1), or it is a bare data set, as old devices and careless
exports write it: then its first elements have to make sense (PS3.5 7.1).
"""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".dcm", ".dicom")
START = 4096  # bytes that `starts_dicom` and `starts_image` look at

_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory
# SOP classes without a film or slice (PS3.4 B.5): reports and key objects, presentation states,
# waveforms, raw data, registrations and segmentations, documents, and what radiotherapy plans, its
# dose included; worklists (PS3.4 CC); and what Siemens keeps beside its images (CSA non-image).
_NO_IMAGE = re.compile(
    r"1\.2\.840\.10008\.5\.1\.4\.1\.1\."
    r"(88\.|11\.[1-46-9]|9\.|66$|66\.|104\.|481\.(?!1$)|67$|68\.|78\.|79\.|80\.|90\.)"
    r"|1\.2\.840\.10008\.5\.1\.4\.34\.|1\.3\.12\.2\.1107\.5\.9\.1$"
)
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# CT, Enhanced CT and Legacy Converted Enhanced CT.
_CT = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2", "2.1", "2.2")]
_DRAWINGS = {"1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT", "1.2.840.10008.5.1.4.1.1.66.4": "SEG"}
_IMAGE_TYPE = (0x0008, 0x0008)
_MODALITY = (0x0008, 0x0060)
_CLASSES = ((0x0002, 0x0002), (0x0008, 0x0016))  # of the stored object: in the header, in the data
# Value representations, by the bytes of their length: 4 and 2 (PS3.5 7.1.2).
_LONG = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
_SHORT = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
_TEXT = re.compile(rb"[^\0-\x1a\x7f]*\0?")
_BARE_STARTS = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")  # group 2 or 8, either byte order
_FEWEST, _LONGEST = 3, 1024  # elements that have to make sense; bytes of a value at the beginning


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Says whether a file is DICOM by its content; False for one that cannot be read."""
    return starts_dicom(read_start(path), Path(path).name)


def holds_image(path: str | os.PathLike[str]) -> bool:
    """Says whether a file is DICOM that may hold an image: see `starts_image`."""
    return starts_image(read_start(path), Path(path).name)


def read_start(path: str | os.PathLike[str]) -> bytes:
    """Reads the first START bytes of a file; none of one that cannot be read, or is a pipe."""
    try:
        if not os.path.isfile(path):  # the start of a pipe may never come
            return b""
        with open(path, "rb") as file:
            return file.read(START)
    except OSError:
        return b""


def starts_dicom(start: bytes, name: str) -> bool:
    """Says whether a file is DICOM.

    Args:
        start: its first START bytes.
        name: of the file. With .dcm or .dicom the group of the first element is enough.
    """
    if start[128:132] == b"DICM" or _is_data_set(start):
        return True
    return Path(name).suffix.lower() in SUFFIXES and start[:2] in _BARE_STARTS


def starts_image(start: bytes, name: str) -> bool:
    """Says whether a file is DICOM, and neither a DICOMDIR nor of a class without image."""
    if not starts_dicom(start, name) or Path(name).stem.lower() == "dicomdir":
        return False
    classes = (_read_text(start, tag) for tag in _CLASSES)
    return not any(uid == _DIRECTORY or _NO_IMAGE.match(uid) for uid in classes)


def starts_localizer(start: bytes) -> bool:
    """Says whether the image is a scout view, by the third value of its ImageType (C.8.2.1.1.1)."""
    return _read_text(start, _IMAGE_TYPE).upper().split("\\")[2:3] == ["LOCALIZER"]


def starts_capture(start: bytes) -> bool:
    """Says whether the image is a Secondary Capture, as dose reports and screenshots are."""
    return _read_text(start, _CLASSES[1]).startswith(_CAPTURE)


def starts_slice(start: bytes) -> bool:
    """Says whether the class may be that of a CT slice: CT, Secondary Capture, or not known."""
    return starts_capture(start) or _read_text(start, _CLASSES[1]) in ("", *_CT)


def starts_ct(start: bytes) -> bool:
    """Says whether the file's Modality, or without one its class, is that of CT."""
    modality = _read_text(start, _MODALITY)
    return modality == "CT" or not modality and _read_text(start, _CLASSES[1]) in _CT


def name_drawing(start: bytes) -> str:
    """Returns RTSTRUCT for contours, SEG for a segmentation, and "" for anything else."""
    classes = (_read_text(start, tag) for tag in _CLASSES)
    return next((_DRAWINGS[uid] for uid in classes if uid in _DRAWINGS), "")


def _read_text(start: bytes, tag: tuple[int, int]) -> str:
    """Returns the value of an element near the beginning, or ""."""
    at = 132 if start[128:132] == b"DICM" else 0
    values = (value for found, _, value in _elements(start, at) if found == tag)
    return next(values, b"").rstrip(b"\0 ").decode("ascii", "replace")


def _is_data_set(start: bytes) -> bool:
    """Says whether the bytes begin with elements of group 2 or 8, in order and of readable values.

    Group 2 always names its value representations, and of group 8 one value has to be text.
    """
    previous, has_text = (0, 0), False
    for count, (tag, kind, value) in enumerate(_elements(start, 0), 1):
        group, number = tag
        if tag <= previous or group % 2 or (count == 1 and group not in (2, 8)):
            return False
        if group == 2 and not kind:
            return False
        if group == 8 and number > 1:  # 0 and 1 are lengths
            if not _TEXT.fullmatch(value):
                return False
            has_text |= len(value) > 1
        if count >= _FEWEST and (has_text or group == 2):
            return True
        previous = tag
    return False


def _elements(start: bytes, at: int) -> Iterator[tuple[tuple[int, int], bytes, bytes]]:
    """Yields tag, value representation (none if implicit) and value of the first elements.

    They are little endian, and end at one of a long or odd length. A length that looks like a value
    representation would be longer than any value here.
    """
    while at + 12 <= len(start):
        tag, kind = struct.unpack_from("<HH", start, at), start[at + 4 : at + 6]
        if kind in _LONG:
            header, (length,) = 12, struct.unpack_from("<I", start, at + 8)
        elif kind in _SHORT:
            header, (length,) = 8, struct.unpack_from("<H", start, at + 6)
        else:
            header, (length,), kind = 8, struct.unpack_from("<I", start, at + 4), b""
        at += header + length
        if length > _LONGEST or length % 2 or at > len(start):
            return
        yield tag, kind, start[at - length : at]
