"""What a file holds beside pixels: the size of a pixel, and what took the picture."""

import os
from typing import Literal, NamedTuple

import numpy as np

from jaxlung.errors import InputError

# Defined terms of Modality (0008,0060), DICOM PS3.3 C.7.3.1.1.1, that may show a chest.
XRAY = ("CR", "DX", "RG", "RF", "XA")
_EITHER = ("", "OT", "SC", "HC")  # not said, other, secondary capture, hard copy


class Film(NamedTuple):
    image: np.ndarray  # [H, W] or [H, W, 3 or 4], as `preprocess.to_canvas` takes it
    spacing: tuple[float, float] | None = None  # height and width of a pixel in mm, where known
    modality: str = ""  # DICOM's term: CR, DX, CT...; "" where the file does not say


def check_modality(
    modality: str, wanted: Literal["xray", "ct"], path: str | os.PathLike[str]
) -> None:
    """Refuses a picture of another kind than a model is for, which would find nothing or nonsense.

    A file that does not say (a PNG, or modality OT or SC) is accepted by either.

    Raises:
        InputError: modality is of another kind than wanted.
    """
    accepted = XRAY if wanted == "xray" else ("CT",)
    if modality not in (*accepted, *_EITHER):
        kind = "an X-ray" if wanted == "xray" else "a CT image"
        raise InputError(f"{path}: has modality {modality}; expected {kind} ({' '.join(accepted)})")
