"""What HTML reports share: the folder they go to, and pictures inside the page."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jaxlung.errors import InputError


def encode_picture(picture: np.ndarray, name: str) -> dict[str, Any]:
    """An RGB picture as a JPEG in a data address, with its size; `name` is for an error."""
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85]
    )
    if not done:
        raise RuntimeError(f"{name}: OpenCV cannot write JPEG")
    return {
        "address": "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode(),
        "height": picture.shape[0],
        "width": picture.shape[1],
    }


OUTPUTS = ("metrics.json", "per_image.csv", "report.html")


def make_report_folder(out: Path, *, overwrite: bool, names: Sequence[str] = OUTPUTS) -> None:
    """Makes the folder that is to hold the named files, before long work starts.

    Raises:
        InputError: it holds a report already, or something stands in its place.
    """
    for part in (out, *out.parents):
        if part.exists() and not part.is_dir():
            raise InputError(f"--out {out}: {part} is a file; name a folder")
    for name in names:
        if (out / name).exists() and not overwrite:
            raise InputError(f"{out / name} exists; pass --overwrite, or name another --out folder")
    out.mkdir(parents=True, exist_ok=True)
    probe = out / ".writable"
    probe.touch()  # or an OSError that names it
    probe.unlink()
