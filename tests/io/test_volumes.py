"""CT volumes: orientation, grids, and masks back on the file's own grid."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io.ct.geometry import measure_voxel
from jaxlung.io.volumes import (
    _GEOMETRY,
    Grid,
    Volume,
    read_volume,
    volume_stem,
    write_mask,
)
from tests.helpers.ct_scans import AXES, affine_of, body, in_ras, nibabel, save


@pytest.mark.parametrize("axes", AXES)
def test_slices_look_the_same_however_they_are_stored(tmp_path, axes):
    hu, _ = body()
    volume = read_volume(save(tmp_path / "a.nii.gz", hu, affine_of(), axes))
    assert volume.voxels_ZxHxW.shape == (9, 20, 24) and volume.spacing == (3.0, 2.0, 1.5)
    # Feet to head, front to back, the patient's right on the picture's left.
    expected = hu.transpose(2, 1, 0)[:, ::-1, ::-1]
    np.testing.assert_array_equal(volume.voxels_ZxHxW, expected)


@pytest.mark.parametrize("axes", AXES)
def test_mask_returns_to_the_files_own_grid(tmp_path, axes):
    hu, lungs = body()
    path = save(tmp_path / "a.nii", hu, affine_of(), axes)
    volume = read_volume(path)
    write_mask(tmp_path / "mask.nii.gz", volume.voxels_ZxHxW == -800, volume.grid)
    written, original = nibabel.load(tmp_path / "mask.nii.gz"), nibabel.load(path)
    np.testing.assert_array_equal(written.affine, original.affine)
    assert written.shape == original.shape and written.get_data_dtype() == np.uint8
    for field in _GEOMETRY:
        np.testing.assert_array_equal(written.header[field], original.header[field])
    found, affine = in_ras(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(found > 0, lungs)
    np.testing.assert_allclose(affine, affine_of(), atol=1e-5)


def test_an_oblique_volume_keeps_its_grid(tmp_path):
    hu, _ = body()
    angle = np.deg2rad(12)
    affine = affine_of()
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nibabel.Nifti1Image(hu, affine)
    image.set_sform(None, code=0)  # the quaternion alone says where it lies
    image.set_qform(affine, code=1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW < -900, volume.grid)
    written, original = (nibabel.load(tmp_path / name) for name in ("m.nii.gz", "a.nii.gz"))
    np.testing.assert_array_equal(written.affine, original.affine)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj) > 0, hu < -900)


def test_scaled_big_endian_nifti_2_in_metres(tmp_path):
    """Values to hand, spacing in mm, and an affine of 64 bits that comes back to the last bit."""
    affine = affine_of((0.00123456789, 0.002, 0.003), (1 / 3, -1 / 7, 0.1))
    header = nibabel.Nifti2Header(endianness=">")
    header.set_xyzt_units("meter")
    image = nibabel.Nifti2Image(body()[0], affine, header)
    image.header.set_slope_inter(0.5, -24)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.voxels_ZxHxW.dtype == np.float32  # half the memory of nibabel's float64
    expected = (body()[0] * 0.5 - 24).transpose(2, 1, 0)[:, ::-1, ::-1]
    np.testing.assert_array_equal(volume.voxels_ZxHxW, expected)
    assert volume.spacing == pytest.approx((3, 2, 1.23456789))
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW < -500, volume.grid)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "m.nii.gz").affine, affine)


def test_sform_goes_before_a_qform_that_disagrees_and_both_are_kept(tmp_path):
    hu, lungs = body()
    image = nibabel.Nifti1Image(hu, affine_of())
    image.set_qform(np.diag([-1.5, -2.0, 3.0, 1.0]), code=1)
    image.set_sform(affine_of(), code=2)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.voxels_ZxHxW, hu.transpose(2, 1, 0)[:, ::-1, ::-1])
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW == -800, volume.grid)
    written, original = (nibabel.load(tmp_path / name) for name in ("m.nii.gz", "a.nii.gz"))
    np.testing.assert_array_equal(written.get_qform(), original.get_qform())
    np.testing.assert_array_equal(written.get_sform(), original.get_sform())
    np.testing.assert_array_equal(np.asanyarray(written.dataobj) > 0, lungs)


def test_a_fourth_axis_of_one_is_kept(tmp_path):
    nibabel.save(nibabel.Nifti1Image(body()[0][..., None], affine_of()), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.voxels_ZxHxW.shape == (9, 20, 24)
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW < 0, volume.grid)
    assert nibabel.load(tmp_path / "m.nii.gz").shape == (24, 20, 9, 1)


def test_the_folder_here_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "scan.1").mkdir()
    monkeypatch.chdir(tmp_path / "scan.1")
    assert volume_stem(Path(".")) == "scan.1"


def test_nothing_of_the_headers_free_text_is_written(tmp_path):
    hu, _ = body()
    image = nibabel.Nifti1Image(hu, affine_of())
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = b"Jane Doe"
    nibabel.save(image, tmp_path / "a.nii")
    assert b"Jane Doe" in (tmp_path / "a.nii").read_bytes()
    volume = read_volume(tmp_path / "a.nii")
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW < 0, volume.grid)
    assert b"Jane" not in gzip.decompress((tmp_path / "m.nii.gz").read_bytes())


def damaged(path):
    path.write_bytes(path.read_bytes()[:200])


def four_dimensional(path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4)), path)


def infinite(path):
    nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), np.inf, np.float32), np.eye(4)), path)


def unplaced(path):
    nibabel.save(nibabel.Nifti1Image(body()[0], None), path)


def flat(path):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[312:328] = bytes(16)  # srow_z
    path.write_bytes(gzip.compress(raw))


def colour(path):
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), path)


def empty(path):
    path.write_bytes(b"")


def quoted(path):
    """A header that nibabel's log would quote."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[70:72] = b"QX"  # datatype
    path.write_bytes(gzip.compress(raw))


def text(path):
    path.write_text("not a volume")


@pytest.mark.parametrize(
    "break_it",
    [damaged, four_dimensional, infinite, unplaced, flat, colour, empty, quoted, text, Path.unlink],
)
def test_bad_volumes_are_one_line_that_names_the_file(tmp_path, break_it, capfd):
    path = save(tmp_path / "a.nii.gz", body()[0], affine_of())
    break_it(path)
    capfd.readouterr()
    with pytest.raises(InputError, match="a.nii.gz: ") as error:
        read_volume(path)
    assert "\n" not in str(error.value) and error.value.__suppress_context__ | (
        error.value.__context__ is None
    )
    assert "".join(capfd.readouterr()) == ""


def test_volume_of_a_voxel_of_a_tilted_gantry():
    """A shear changes no volume, though it makes an axis longer."""
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    affine[1, 2] = 2.0 * np.tan(np.radians(20))
    spacing = (2.0 / np.cos(np.radians(20)), 0.5, 0.5)
    volume = Volume(np.zeros((4, 3, 2)), spacing, Grid((2, 3, 4), affine, None))
    assert measure_voxel(volume) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int16])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_rounded_scan_is_the_scan_in_two_bytes(tmp_path, kind, scaled):
    hu = body()[0].astype(kind)
    image = nibabel.Nifti1Image(hu[..., None] if scaled else hu, affine_of())
    if scaled:
        image.header.set_slope_inter(1, -24)
    nibabel.save(image, tmp_path / "a.nii.gz")
    plain, rounded = (read_volume(tmp_path / "a.nii.gz", rounded=r) for r in (False, True))
    assert rounded.voxels_ZxHxW.dtype == np.int16
    np.testing.assert_array_equal(rounded.voxels_ZxHxW, np.rint(plain.voxels_ZxHxW))
    assert rounded.spacing == plain.spacing


def test_what_is_not_finite_is_refused_while_rounding(tmp_path):
    hu = body()[0].astype(np.float32)
    hu[3, 4, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(hu, affine_of()), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="holds NaN or infinite values"):
        read_volume(tmp_path / "a.nii.gz", rounded=True)
