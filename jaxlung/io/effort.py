"""Refuses pictures that would keep a decoder busy for long, though they are small."""

import os

from PIL import Image

from jaxlung.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS = 2**16  # of a PNG: pixels come in some thousands of them, and Pillow takes 5 us each
_MOST_SCANS = 100  # of a progressive JPEG, each of which goes over the whole image
_MOST_RLE_PIXELS = 2**22  # of a compressed BMP, which Pillow unpacks in Python


def check_chunks(path: str | os.PathLike[str], data: bytes) -> None:
    """Raises InputError for a PNG of very many chunks; `data` is the file, of any format."""
    if not data.startswith(_PNG):
        return
    place = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(data):
            return
        place += 12 + int.from_bytes(data[place : place + 4], "big")  # length, type, CRC
    raise InputError(f"{path}: has more than {_MOST_CHUNKS} chunks; save it again")


def check_effort(path: str | os.PathLike[str], image: Image.Image, data: bytes) -> None:
    """Raises InputError for an image that would keep a decoder busy for long."""
    if image.format == "JPEG" and data.count(b"\xff\xda") > _MOST_SCANS:
        raise InputError(f"{path}: has more than {_MOST_SCANS} scans; save it again")
    packed = any(tile[0] == "bmp_rle" for tile in getattr(image, "tile", ()))
    if packed and image.height * image.width > _MOST_RLE_PIXELS:
        raise InputError(f"{path}: is a compressed BMP too large to unpack; save it as PNG")
