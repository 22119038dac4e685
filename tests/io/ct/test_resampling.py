"""A scan of a tilted gantry on a grid at right angles: the same values at the same places."""

from pathlib import Path

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io.ct.geometry import axial_affine, is_sheared, measure_voxel
from jaxlung.io.ct.resampling import straighten, write_scan
from jaxlung.io.volumes import Grid, Volume, from_grid, read_volume

nibabel = pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')
SHAPE = (20, 24, 6)  # columns, rows, slices
STEP = 5.0


def values_at(places_RAS):
    """Hounsfield units of a made-up patient, linear so that interpolation is exact."""
    return places_RAS @ [3.0, -4.0, 2.0] + 100


def tilted(degrees, turn=0.0):
    """A scan whose table moves along S and whose slices are tilted, and turned in their plane."""
    tilt, turn = np.radians([degrees, turn])
    down = np.array([0.0, -np.cos(tilt), -np.sin(tilt)])
    across = np.array([-1.0, 0.0, 0.0])
    affine = np.eye(4)
    affine[:3, 0] = 1.5 * (np.cos(turn) * across + np.sin(turn) * down)
    affine[:3, 1] = 2.0 * (np.cos(turn) * down - np.sin(turn) * across)
    affine[:3, 2], affine[:3, 3] = [0, 0, STEP], [15.0, 20.0, -40.0]
    grid = Grid(SHAPE, affine, None)
    indices = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    values = values_at(indices @ affine[:3, :3].T + affine[:3, 3])
    voxels = from_grid(np.rint(values).astype(np.int16), grid)
    return Volume(voxels, (STEP, 2.0, 1.5), grid)


@pytest.mark.parametrize(("degrees", "turn"), [(20, 0), (-20, 0), (12, 5), (-30, -5)])
def test_values_stay_at_their_places(degrees, turn):
    scan = tilted(degrees, turn)
    found = straighten(scan, Path("scan"))
    assert is_sheared(scan.grid) and not is_sheared(found.grid)
    assert found.grid.header is None and found.voxels_ZxHxW.dtype == np.int16
    # Slices lie closer than the table moves, and a voxel holds as much as before.
    assert found.spacing == pytest.approx((STEP * np.cos(np.radians(degrees)), 2.0, 1.5))
    assert measure_voxel(found) == pytest.approx(measure_voxel(scan))
    count, height, width = found.voxels_ZxHxW.shape
    affine = axial_affine(found.grid)
    indices = np.stack(np.meshgrid(*map(np.arange, (width, height, count)), indexing="ij"), -1)
    expected = values_at(indices @ affine[:3, :3].T + affine[:3, 3]).transpose(2, 1, 0)
    inside = abs(found.voxels_ZxHxW - expected) <= 2  # rounding, and a 32nd of a pixel
    # All but the edges of the slices, where air comes in.
    assert inside.sum() >= count * (SHAPE[0] - 2) * (SHAPE[1] - 2)
    outside = (found.voxels_ZxHxW == -1000).sum()
    assert outside >= count * (height * width - SHAPE[0] * SHAPE[1]) - 2 * count * (width + height)
    assert found.warnings == ("tilted gantry: resampled to slices at right angles",)


def test_it_is_written_as_it_is(tmp_path):
    found = straighten(tilted(20), Path("scan"))
    write_scan(tmp_path / "scan.nii.gz", found)
    read = read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read.voxels_ZxHxW, found.voxels_ZxHxW)
    np.testing.assert_allclose(axial_affine(read.grid), axial_affine(found.grid), atol=1e-4)
    assert read.spacing == pytest.approx(found.spacing, rel=1e-5)
    assert not is_sheared(read.grid) and read.warnings == ()


def test_a_scan_at_right_angles_is_not_moved():
    scan = tilted(0)
    found = straighten(scan, Path("scan"))
    np.testing.assert_array_equal(found.voxels_ZxHxW, scan.voxels_ZxHxW)
    np.testing.assert_allclose(axial_affine(found.grid), axial_affine(scan.grid), atol=1e-9)


def test_pixels_that_are_no_rectangles_are_refused():
    scan = tilted(10)
    scan.grid.affine_4x4[0, 1] = 0.8
    with pytest.raises(InputError, match="scan: is sheared otherwise than by a tilted gantry"):
        straighten(scan, Path("scan"))
