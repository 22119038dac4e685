"""Reads the lungs of an RTSTRUCT or SEG file on the grid of the series that it was drawn on.

Of the headers only names of structures, references, geometry and pixels are read, and errors quote
none of them but numbers. Extra: jaxlung[ct].
"""

from pathlib import Path

from jaxlung.errors import InputError
from jaxlung.io.dicom.drawn.contours import read_contours
from jaxlung.io.dicom.drawn.segments import read_segments
from jaxlung.io.dicom.drawn.target import DrawnLungs, read_target
from jaxlung.io.dicom.signature import name_drawing, read_start
from jaxlung.io.passed_over import is_hidden
from jaxlung.system.silence import silence

_READERS = {"RTSTRUCT": read_contours, "SEG": read_segments}


def read_drawn_lungs(drawing: Path, series: Path) -> DrawnLungs:
    """Reads the lungs that were drawn on a CT series.

    Args:
        drawing: a file of contours (RTSTRUCT) or segments (SEG), or the folder that holds one.
        series: the folder of the DICOM series, or its file of many frames.

    Returns:
        masks on the series' own grid, of both lungs and, where the file tells them apart, of the
        patient's right and left lung.

    Raises:
        InputError: one line says what cannot be read, or does not fit the series.
    """
    path = find_drawing(drawing)
    with silence():
        target = read_target(series)
        return _READERS[name_drawing(read_start(path))](path, target)


def find_drawing(place: Path) -> Path:
    """Returns the one RTSTRUCT or SEG file at a place.

    Raises:
        InputError: there is none, or there are several.
    """
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [f for f in files if not is_hidden(f.name) and name_drawing(read_start(f))]
    if not found:
        raise InputError(f"{place}: holds no contours (RTSTRUCT) or segmentation (DICOM SEG)")
    if len(found) > 1:
        raise InputError(
            f"{place}: {found[0].name} and {found[1].name} both hold contours or a segmentation; "
            f"keep one of them"
        )
    return found[0]
