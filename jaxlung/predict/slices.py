"""The lungs of a scan slice by slice: areas and mean density, as rows and as a table."""

import csv
import io
from typing import Any

from jaxlung.io.ct.geometry import find_heights, measure_pixel
from jaxlung.predict.batch.summary import measure_lungs
from jaxlung.predict.volumes import VolumePrediction, measure_density
from jaxlung.structures import LUNG

# A row's columns; docs/ct.md says what they mean.
FIELDS = (
    *("slice", "height_mm", "lung_px", "right_px", "left_px"),
    *("lung_mm2", "right_mm2", "left_mm2", "mean_hu"),
)


def measure_slices(found: VolumePrediction) -> list[dict[str, Any]]:
    """Measures the lungs in each axial slice of a scan, from feet to head.

    Args:
        found: as `volumes.predict_volume` returns it.

    Returns:
        a row for each slice, with the keys FIELDS: `slice` from 0 at the feet, as the overlay
        numbers them; `height_mm`, the scanner's coordinate of the slice's centre towards the head;
        areas in pixels and mm2; and the mean density in Hounsfield units. None where a key does not
        apply: without lung, without a side, or where the file does not tell sides and sizes.

    Example:
        >>> import numpy as np
        >>> from jaxlung.io.volumes import Grid, Volume
        >>> from jaxlung.predict.volumes import Density
        >>> grid = Grid((3, 1, 2), np.diag([2, 2, 5, 1]), None)
        >>> scan = Volume(np.full((2, 1, 3), -800), (5.0, 2.0, 2.0), grid)
        >>> labels = np.array([[[1, 0, 2]], [[0, 0, 0]]], np.uint8)
        >>> rows = measure_slices(VolumePrediction(labels, 1.0, Density(None, None), (), scan))
        >>> [(row["height_mm"], row["lung_mm2"], row["mean_hu"]) for row in rows]
        [(0.0, 8.0, -800.0), (5.0, 0.0, None)]
    """
    volume = found.volume
    pixel = measure_pixel(volume) if volume.placed else None
    rows = []
    for z, labels_HxW in enumerate(found.labels_ZxHxW):
        row: dict[str, Any] = dict.fromkeys(FIELDS)
        sizes = measure_lungs(labels_HxW, pixel)
        here = slice(z, z + 1)
        one = volume._replace(voxels_ZxHxW=volume.voxels_ZxHxW[here])
        density = measure_density(one, found.labels_ZxHxW[here] > 0)
        row |= {name: size for name, size in sizes.items() if name in row}
        if not volume.placed or found.output != LUNG:
            row |= {name: None for name in row if name.startswith(("right", "left"))}
        row |= {"slice": z, "mean_hu": density.mean_hu and round(density.mean_hu, 1)}
        rows.append(row)
    if volume.placed:
        for row, height in zip(rows, find_heights(volume), strict=True):
            row["height_mm"] = round(float(height), 3)
    return rows


def to_csv(found: VolumePrediction) -> str:
    """Formats the rows of `measure_slices` as CSV with a header; what does not apply is empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, FIELDS, lineterminator="\n")
    table.writeheader()
    table.writerows(measure_slices(found))  # csv writes None as nothing
    return text.getvalue()
