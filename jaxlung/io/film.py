"""`Film`, what an image file holds beside pixels, and checks that come before decoding."""

import os
import stat
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError

# Defined terms of Modality (0008,0060), DICOM PS3.3 C.7.3.1.1.1, that may show a chest.
XRAY = ("CR", "DX", "RG", "RF", "XA")
_UNKNOWN = ("", "OT", "SC", "HC")  # not said, other, secondary capture, hard copy

# A film of 43 cm has so many at 75 micrometres a pixel. A damaged header must not take the memory
# and seconds of more.
MOST_PIXELS = 2**25
LONGEST_SIDE = 2**15 - 1  # pixels: OpenCV draws no further
MOST_BYTES = 2**29  # of a file, and of one unpacked


class Film(NamedTuple):
    image: np.ndarray  # [H, W] or [H, W, 3 or 4], as `preprocess.to_canvas` takes it
    spacing: tuple[float, float] | None = None  # height and width of a pixel in mm, where known
    modality: str = ""  # DICOM's term: CR, DX, CT...; "" where the file does not say
    mirrored: bool = False  # the picture's left is the patient's left, against the usual display
    lossy: bool = False  # as of JPEG, whose values are only near those that were written
    in_alpha: bool = False  # one colour whose alpha varies: some tools draw masks like this


def check_size(height: int, width: int, path: str | os.PathLike[str]) -> None:
    """Refuses more pixels than any film has. The size, perhaps of a DICOM header, is not quoted.

    Raises:
        InputError: there are more.
    """
    if height * width > MOST_PIXELS or max(height, width) > LONGEST_SIDE:
        raise InputError(
            f"{path}: says it has more pixels than an image of a chest has (at most 2^25, and "
            f"{LONGEST_SIDE} a side); export it again, or make it smaller"
        )


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuses anything but a file, since reading may never end, and a file that fills the memory.

    Raises:
        InputError: it is one of these, or missing.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: cannot be read (Is a directory)")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is no file but a pipe or a device")
    if status.st_size > MOST_BYTES:
        raise InputError(f"{path}: is larger than {MOST_BYTES >> 20} MiB, as no X-ray is")


def check_xray(modality: str, path: str | os.PathLike[str]) -> None:
    """Refuses other modalities than X-ray, in which a model would find nothing or nonsense.

    A file that does not say what it is (a PNG, or modality OT or SC) is accepted.

    Raises:
        InputError: the modality is another one.
    """
    if modality not in (*XRAY, *_UNKNOWN):
        raise InputError(f"{path}: has modality {modality}; expected an X-ray ({' '.join(XRAY)})")
