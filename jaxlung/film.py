"""What a file holds beside pixels: the size of a pixel, what took the picture, and its sides."""

import os
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError

# Defined terms of Modality (0008,0060), DICOM PS3.3 C.7.3.1.1.1, that may show a chest.
XRAY = ("CR", "DX", "RG", "RF", "XA")
_UNTOLD = ("", "OT", "SC", "HC")  # not said, other, secondary capture, hard copy


class Film(NamedTuple):
    image: np.ndarray  # [H, W] or [H, W, 3 or 4], as `preprocess.to_canvas` takes it
    spacing: tuple[float, float] | None = None  # height and width of a pixel in mm, where known
    modality: str = ""  # DICOM's term: CR, DX, CT...; "" where the file does not say
    mirrored: bool = False  # the picture's left is the patient's left, against the usual display


def check_xray(modality: str, path: str | os.PathLike[str]) -> None:
    """Refuses a picture that is no X-ray, in which a model would find nothing or nonsense.

    A file that does not say what it is (a PNG, or modality OT or SC) is accepted.

    Raises:
        InputError: another modality.
    """
    if modality not in (*XRAY, *_UNTOLD):
        raise InputError(f"{path}: has modality {modality}; expected an X-ray ({' '.join(XRAY)})")
