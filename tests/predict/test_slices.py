"""The table of a scan's slices, by hand."""

import csv
import io

import numpy as np
import pytest

from jaxlung.io.volumes import Grid, Volume
from jaxlung.predict.slices import FIELDS, measure_slices, to_csv
from jaxlung.predict.volumes import Density, VolumePrediction

pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')


def found(**changes):
    """Two slices of 1x4 voxels, stored from head to feet, in cm."""
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([-0.2, -0.3, -0.5, 1.0])
    affine[:3, 3] = [1, 2, 7]
    header = nibabel.Nifti1Header()
    header["xyzt_units"] = 2
    grid = Grid((4, 1, 2), affine * [[10], [10], [10], [1]], header)
    hu = np.array([[[-900, -700, 40, -850]], [[-1000, 0, 0, 0]]], np.int16)
    labels = np.array([[[1, 1, 0, 2]], [[0, 0, 0, 0]]], np.uint8)
    volume = Volume(hu, (5.0, 3.0, 2.0), grid, placed=changes.pop("placed", True))
    return VolumePrediction(labels, 0.9, Density(None, None), (), volume)._replace(**changes)


def test_slices_are_measured_from_feet_to_head():
    lowest, highest = measure_slices(found())
    assert lowest == {
        **{"slice": 0, "height_mm": 65.0, "lung_px": 3, "right_px": 2, "left_px": 1},
        **{"lung_mm2": 18.0, "right_mm2": 12.0, "left_mm2": 6.0, "mean_hu": -816.7},
    }
    assert highest["slice"] == 1 and highest["height_mm"] == 70.0
    assert highest["lung_px"] == 0 and highest["lung_mm2"] == 0 and highest["mean_hu"] is None


def test_what_a_default_header_does_not_tell_is_left_open():
    row = measure_slices(found(placed=False))[0]
    assert {name for name in FIELDS if row[name] is None} == {
        *("height_mm", "right_px", "left_px", "lung_mm2", "right_mm2", "left_mm2")
    }


def test_another_structure_has_no_sides():
    row = measure_slices(found(output="heart"))[0]
    assert row["lung_mm2"] == 18.0 and row["right_px"] is row["left_mm2"] is None


def test_the_table_holds_the_rows():
    text = to_csv(found())
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == FIELDS and len(rows) == 2
    assert rows[0]["lung_mm2"] == "18.0" and rows[1]["mean_hu"] == ""
