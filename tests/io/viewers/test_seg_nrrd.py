"""Masks as 3D Slicer opens them lie on their film or scan, with the right lung at the right."""

import sys

import numpy as np
import pytest

nrrd = pytest.importorskip("nrrd", reason='needs pip install "jaxlung[seg-nrrd]"')
nibabel = pytest.importorskip("nibabel", reason='needs pip install "jaxlung[ct]"')

from jaxlung.errors import InputError  # noqa: E402
from jaxlung.io.ct.labels import is_same_grid  # noqa: E402
from jaxlung.io.viewers import seg_nrrd  # noqa: E402
from jaxlung.io.viewers.film_grid import make_film_grid  # noqa: E402
from jaxlung.io.viewers.seg_nrrd import write_seg_nrrd  # noqa: E402
from jaxlung.io.volumes import Grid, from_grid, read_volume, write_mask  # noqa: E402


def labels_of_film():
    """The right lung at the picture's left, high; the left one at its right, low."""
    labels_HxW = np.zeros((6, 8), np.uint8)
    labels_HxW[1:3, 1:3], labels_HxW[3:5, 5:7] = 1, 2
    return labels_HxW


def place(voxel, header):
    """The place of a voxel in L-P-S, by the header alone."""
    return header["space origin"] + np.array(voxel) @ header["space directions"]


def test_a_film_lies_as_it_is_shown(tmp_path):
    path = tmp_path / "film.seg.nrrd"
    write_seg_nrrd(path, labels_of_film()[None], make_film_grid(6, 8, (0.2, 0.1)))
    voxels_WxHx1, header = nrrd.read(str(path))
    assert header["encoding"] == "gzip" and header["space"] == "left-posterior-superior"
    np.testing.assert_array_equal(voxels_WxHx1[..., 0].T, labels_of_film())
    np.testing.assert_array_equal(header["space directions"], np.diag([0.1, 0.2, 1]))
    # As ITK lays films: the first pixel at the origin, columns to the patient's left.
    assert not header["space origin"].any()
    right, left = (place(np.argwhere(voxels_WxHx1 == label).mean(0), header) for label in (1, 2))
    assert right[0] < left[0] and right[1] < left[1]


def test_segments_have_names_colours_values_and_codes(tmp_path):
    path = tmp_path / "film.seg.nrrd"
    write_seg_nrrd(path, labels_of_film()[None], make_film_grid(6, 8))
    _, header = nrrd.read(str(path))
    named = [(header[f"Segment{i}_Name"], header[f"Segment{i}_LabelValue"]) for i in (0, 1)]
    assert named == [("Right lung", "1"), ("Left lung", "2")]
    assert header["Segment0_Extent"] == "0 7 0 5 0 0" and "Segment2_Name" not in header
    orange = [float(part) for part in header["Segment0_Color"].split()]
    assert orange == pytest.approx([1, 130 / 255, 0], abs=1e-5)
    assert "~SCT^3341006^Right lung~" in header["Segment0_Tags"]
    write_seg_nrrd(
        path, labels_of_film()[None], make_film_grid(6, 8), sides=False, structure="left_clavicle"
    )
    voxels, header = nrrd.read(str(path))
    assert header["Segment0_Name"] == "Left clavicle" and "Segment1_Name" not in header
    assert "~SCT^7771000^Left~" in header["Segment0_Tags"]
    assert sorted(np.unique(voxels)) == [0, 1]


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SRA"])
def test_a_scan_s_mask_lies_on_its_scan(axes, tmp_path):
    spacing = np.diag([0.7, 0.8, 2.5, 1])
    turn = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
        ),
        (5, 6, 4),
    )
    affine = spacing @ turn
    affine[:3, 3] += [10, -20, 30]
    shape = (4, 5, 6) if axes == "SRA" else (5, 6, 4)
    grid = Grid(shape, affine, None)
    voxels = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
    labels_ZxHxW = from_grid(voxels, grid)
    write_seg_nrrd(tmp_path / "a.seg.nrrd", labels_ZxHxW, grid)
    write_mask(tmp_path / "a.nii.gz", labels_ZxHxW, grid)
    slicer, nifti = read_volume(tmp_path / "a.seg.nrrd"), read_volume(tmp_path / "a.nii.gz")
    assert is_same_grid(slicer.grid, nifti.grid)
    np.testing.assert_allclose(slicer.grid.affine_4x4, affine, atol=1e-5)
    np.testing.assert_array_equal(slicer.voxels_ZxHxW, labels_ZxHxW)
    np.testing.assert_array_equal(nifti.voxels_ZxHxW, labels_ZxHxW)


def test_metres_of_a_nifti_header_become_millimetres(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((2, 3, 1))
    header.set_xyzt_units("meter")
    grid = Grid((2, 3, 1), np.diag([0.001, 0.002, 0.003, 1]), header)
    write_seg_nrrd(tmp_path / "a.seg.nrrd", np.ones((1, 3, 2), np.uint8), grid, sides=False)
    _, read = nrrd.read(str(tmp_path / "a.seg.nrrd"))
    np.testing.assert_allclose(np.abs(read["space directions"]).max(1), [1, 2, 3])


def test_a_missing_library_and_a_failed_write_leave_nothing(tmp_path, monkeypatch):
    def fill_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nrrd, "write", fill_disk)
    with pytest.raises(OSError, match="No space"):
        write_seg_nrrd(tmp_path / "a.seg.nrrd", labels_of_film()[None], make_film_grid(6, 8))
    assert not [*tmp_path.iterdir()]
    monkeypatch.setitem(sys.modules, "nrrd", None)
    with pytest.raises(InputError, match=r"needs? pynrrd: pip install \"jaxlung\[seg-nrrd\]\""):
        seg_nrrd.import_nrrd()
