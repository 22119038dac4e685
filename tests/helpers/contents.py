"""What a file says, to compare runs by."""

from pathlib import Path

import cv2


def content_of(path: Path) -> bytes:
    """Returns a file's bytes; of a PNG its pixels, which ISA-L may write in more than one way."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.suffix == ".png" else None
    if picture is None:
        return path.read_bytes()
    return repr((picture.shape, str(picture.dtype))).encode() + picture.tobytes()
