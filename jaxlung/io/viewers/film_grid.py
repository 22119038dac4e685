"""Where a film lies in space, for formats of volumes."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxlung.io.dicom.file import read_dataset, read_millimetres
from jaxlung.io.dicom.signature import is_dicom
from jaxlung.io.volumes import Grid
from jaxlung.system.silence import silence

# CR, DX for presentation and for processing, XA, RF: ITK takes the spacing on the detector.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_ON_DETECTOR = {_STORAGE + kind for kind in ("1", "1.1", "1.1.1", "12.1", "12.2")}
_IN_HEADER = (".jpg", ".jpeg", ".tif", ".tiff")  # pictures whose resolution ITK takes


def read_film_spacing(path: Path) -> tuple[float, float] | None:
    """Reads the spacing that ITK, and so 3D Slicer, gives a film: mm, height and width of a pixel.

    It may be another than that of the areas in a summary, which is calibrated where DICOM says so.
    With it a mask lies on its film. None: ITK takes 1 mm.
    """
    with silence():
        if is_dicom(path):
            dataset = read_dataset(path, ("SOPClassUID", "PixelSpacing", "ImagerPixelSpacing"))
            on_detector = str(dataset.get("SOPClassUID") or "") in _ON_DETECTOR
            return read_millimetres(
                dataset, "ImagerPixelSpacing" if on_detector else "PixelSpacing"
            )
        if not path.name.lower().endswith(_IN_HEADER):
            return None
        with Image.open(path) as image:
            told = image.format == "TIFF" or image.info.get("jfif_unit")
            across, down = image.info.get("dpi", (0, 0)) if told else (0, 0)
    # Pillow has 1 where the file does not tell.
    return (25.4 / float(down), 25.4 / float(across)) if min(across, down) > 1 else None


def make_film_grid(height: int, width: int, spacing: tuple[float, float] | None = None) -> Grid:
    """Makes the grid of one slice on which ITK, and so 3D Slicer, lays a film.

    A film has no place in space. These programs lay its first pixel at the origin, its columns from
    right to left and its rows from front to back, as in an axial slice. A mask on this grid lies on
    its film, and the patient's right is on the picture's left.

    Args:
        height, width: pixels.
        spacing: height and width of a pixel in mm; None: not known, 1.

    Example:
        >>> make_film_grid(20, 10, (0.2, 0.1)).affine_4x4.diagonal().tolist()  # to R-A-S
        [-0.1, -0.2, 1.0, 1.0]
    """
    down, across = spacing or (1.0, 1.0)
    return Grid((width, height, 1), np.diag([-across, -down, 1.0, 1.0]), None)
