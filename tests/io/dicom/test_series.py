"""A DICOM series is the volume that its slices say it is."""

import logging

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io import volumes
from jaxlung.io.ct.geometry import is_sheared
from jaxlung.io.dicom import series
from jaxlung.system.silence import silence

pydicom = pytest.importorskip("pydicom", reason='pip install -e ".[ct]"')
nibabel = pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')
pytest.importorskip("gdcm", reason='pip install -e ".[ct]"')

from tests.helpers.dicom_files import compressed  # noqa: E402

SHAPE = (6, 8, 5)  # columns, rows, slices
SECRETS = ("Doe^Jane", "ID-4711", "St. Elsewhere")


def write_slice(path, stored_RxC, z, *, series="1.2.3", number=1, **fields):
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.PatientName, dataset.PatientID, dataset.InstitutionName = SECRETS
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
    dataset.Modality, dataset.SeriesInstanceUID, dataset.InstanceNumber = "CT", series, number
    dataset.Rows, dataset.Columns = stored_RxC.shape
    dataset.PixelSpacing = [2.0, 1.5]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-10.0, -20.0, z]
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1024
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored_RxC.astype("<u2").tobytes()
    for name, value in fields.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def stored():
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.uint16)


def write_series(directory, heights=(0.0, 3.0, 6.0, 9.0, 12.0), **fields):
    voxels = stored()
    for i, z in enumerate(heights):
        # File names and instance numbers run against the positions.
        write_slice(directory / f"{9 - i}.dcm", voxels[:, :, i].T, z, number=9 - i, **fields)
    return directory


def test_series_is_the_same_volume_as_its_nifti(tmp_path):
    directory = write_series(tmp_path / "series")
    (directory / "notes.txt").write_text("no DICOM")
    affine = np.diag([-1.5, -2.0, 3.0, 1.0])  # DICOM's L and P are NIfTI's -R and -A
    affine[:3, 3] = (10.0, 20.0, 0.0)
    hu = stored().astype(np.int16) * 2 - 1024
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "a.nii.gz")
    series, nifti = volumes.read_volume(directory), volumes.read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(series.voxels_ZxHxW, nifti.voxels_ZxHxW)
    np.testing.assert_allclose(series.grid.affine_4x4, affine, atol=1e-6)
    assert series.spacing == pytest.approx(nifti.spacing) == (3.0, 2.0, 1.5)
    volumes.write_mask(tmp_path / "m.nii.gz", series.voxels_ZxHxW > 0, series.grid)
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    assert written.header["sform_code"] == 1 and written.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asanyarray(written.dataobj) > 0, hu > 0)


def test_a_series_in_another_direction(tmp_path):
    """Coronal slices: rows run from head to feet, slices from front to back."""
    voxels = stored()
    for i in range(SHAPE[2]):
        write_slice(
            tmp_path / "s" / f"{i}.dcm",
            voxels[:, :, i].T,
            0.0,
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            ImagePositionPatient=[-10.0, 5.0 * i, 50.0],
        )
    volume = volumes.read_volume(tmp_path / "s")
    assert volume.spacing == pytest.approx((2.0, 5.0, 1.5))
    # Feet to head is against the rows; front to back is the order of the slices.
    expected = (voxels.astype(np.float32) * 2 - 1024).transpose(1, 2, 0)[::-1]
    np.testing.assert_array_equal(volume.voxels_ZxHxW, expected)


def test_slices_of_a_tilted_gantry_stay_where_they_are(tmp_path):
    """The table moves along S, the slices are tilted: the grid is sheared."""
    angle = np.deg2rad(20)
    down = [0.0, float(np.cos(angle)), float(-np.sin(angle))]
    for i in range(SHAPE[2]):
        write_slice(
            tmp_path / "s" / f"{i}.dcm",
            stored()[:, :, i].T,
            0.0,
            ImageOrientationPatient=[1, 0, 0, *down],
            ImagePositionPatient=[-10.0, -20.0, 3.0 * i],
        )
    volume = volumes.read_volume(tmp_path / "s")
    column, row, z = 4, 7, 3  # PS3.3 C.7.6.2.1.1, in L-P-S, by hand
    lps = np.array([-10 + column * 1.5, -20 + row * 2 * down[1], 3 * z + row * 2 * down[2]])
    found = volume.grid.affine_4x4 @ [column, row, z, 1]
    np.testing.assert_allclose(found[:3], lps * [-1, -1, 1], atol=1e-4)
    volumes.write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW > 0, volume.grid)
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(written.affine, volume.grid.affine_4x4, atol=1e-5)


def test_a_sheared_grid_is_known(tmp_path):
    tilted = write_series(tmp_path / "tilted", ImageOrientationPatient=[1, 0, 0, 0, 0.94, -0.342])
    straight = write_series(tmp_path / "straight", (0.0, 1.2, 2.5, 3.8, 5.0))
    grids = [volumes.read_volume(directory).grid for directory in (tilted, straight)]
    assert [is_sheared(grid) for grid in grids] == [True, False]


def test_positions_rounded_by_the_scanner_are_even(tmp_path):
    volume = volumes.read_volume(write_series(tmp_path / "s", (0.0, 1.2, 2.5, 3.8, 5.0)))
    assert volume.spacing[0] == pytest.approx(1.25)


def test_directions_with_noise_are_one_direction(tmp_path):
    directory = write_series(tmp_path / "s")
    write_slice(
        directory / "9.dcm",
        stored()[:, :, 0].T,
        0.0,
        ImageOrientationPatient=[0.9999999, 0.00001, 0, 0, 1, 0],
    )
    assert len(volumes.read_volume(directory).voxels_ZxHxW) == SHAPE[2]


def test_values_at_the_top_of_their_words(tmp_path):
    """12 bits that end at bit 15, as the X-rays' reader takes them."""
    directory = write_series(tmp_path / "a")
    for i, z in enumerate((0.0, 3.0, 6.0, 9.0, 12.0)):
        write_slice(tmp_path / "b" / f"{i}.dcm", stored()[:, :, i].T << 4, z, HighBit=15)
    one, other = volumes.read_volume(directory), volumes.read_volume(tmp_path / "b")
    np.testing.assert_array_equal(one.voxels_ZxHxW, other.voxels_ZxHxW)


def test_what_is_no_image_beside_the_slices_is_passed_over(tmp_path):
    directory = write_series(tmp_path / "s")
    write_slice(directory / "report.dcm", stored()[:, :, 0].T, 0.0, Modality="SR", PixelData=None)
    (directory / "VERSION").write_text("1")
    assert len(volumes.read_volume(directory).voxels_ZxHxW) == SHAPE[2]


def test_a_localizer_and_a_screenshot_are_no_slices(tmp_path):
    directory = write_series(tmp_path / "s")
    lying = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    write_slice(
        directory / "scout.dcm",
        stored()[:4, :, 0].T,
        50.0,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        **lying,
    )
    write_slice(
        directory / "dose.dcm",
        stored()[:, :, 0].T,
        0.0,
        SOPClassUID=pydicom.uid.SecondaryCaptureImageStorage,
        ImagePositionPatient=None,
        series="9.9",
    )
    (directory / "notes.txt").write_text("no DICOM")
    assert series.read_series(directory)[0].shape == SHAPE
    for path in directory.glob("[5-9].dcm"):
        path.unlink()
    with pytest.raises(InputError, match="no slice of a scan, but 1 localizer and 1 screenshot"):
        series.read_series(directory)


@pytest.mark.parametrize(
    ("uid", "modality"),
    [
        ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG"),
        ("1.2.840.10008.5.1.4.1.1.7", "OT"),
        ("1.3.12.2.1107.5.9.1", "CT"),
        ("1.2.840.10008.5.1.4.34.5", "CT"),
        ("1.2.840.10008.5.1.4.1.1.1000.7", "CT"),  # a class that is no slice, and without pixels
    ],
)
def test_other_objects_beside_the_slices_are_passed_over(tmp_path, uid, modality):
    directory = write_series(tmp_path / "s")
    more = {"SOPClassUID": uid, "Modality": modality, "series": "9.9", "ImagePositionPatient": None}
    if modality == "CT":
        more["PixelData"] = None
    write_slice(directory / "other.dcm", stored()[:4, :, 0].T, 0.0, **more)
    (directory / "notes.txt").touch()
    assert series.read_series(directory)[0].shape == SHAPE
    if not uid.endswith("1000.7"):
        expected = "screenshot" if modality == "OT" else "DICOM without image"
        assert series.name_file(directory / "other.dcm") == expected


def test_slices_without_preamble_and_suffix_are_all_read(tmp_path):
    whole = volumes.read_volume(write_series(tmp_path / "s")).voxels_ZxHxW
    for path in sorted((tmp_path / "s").iterdir())[:3]:
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        path.unlink()
        dataset.save_as(path.with_suffix(""), implicit_vr=True, little_endian=True)
    assert (tmp_path / "s" / "5").read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(volumes.read_volume(tmp_path / "s").voxels_ZxHxW, whole)


def test_two_slices_at_one_position_are_named(tmp_path):
    directory = write_series(tmp_path / "s")
    twice(directory)
    with pytest.raises(InputError, match=r"s: 8.dcm and again.dcm lie at one position; keep one"):
        volumes.read_volume(directory)


def second_series(directory):
    write_slice(directory / "other.dcm", stored()[:, :, 0].T, 30.0, series="9.9")


def gap(directory):
    (directory / "7.dcm").unlink()


def twice(directory):
    write_slice(directory / "again.dcm", stored()[:, :, 0].T, 3.0)


def askew(directory):
    write_slice(directory / "7.dcm", stored()[:, :, 2].T, 6.0, ImagePositionPatient=[0, -20, 6])


def other_shape(directory):
    write_slice(directory / "again.dcm", stored()[:5, :, 0].T, 15.0)


def truncated(directory):
    path = directory / "8.dcm"
    path.write_bytes(path.read_bytes()[:-20])


def last(cut):
    """Damage to the slice at the end, which would leave no gap."""

    def damage(directory):
        path = directory / "9.dcm"
        path.write_bytes(path.read_bytes()[:cut])

    return damage


def empty_file_without_suffix(directory):
    (directory / "9.dcm").unlink()
    (directory / "IM0009").touch()


def empty_file_of_a_number(directory):
    (directory / "9.dcm").unlink()
    (directory / "1.2.840.9").touch()


def colour(directory):
    for path in directory.iterdir():
        path.unlink()
    for z in (0.0, 3.0):
        write_slice(
            directory / f"{z}.dcm",
            np.zeros((4, 12)),
            z,
            Columns=4,
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="RGB",
        )


def fields(**values):
    return lambda directory: write_series(directory, **values)


def quoted_name(keyword):
    """A name in place of a number or a term, as pydicom itself would not write it."""

    def damage(directory):
        write_series(directory)
        for path in directory.iterdir():
            with silence():
                dataset = pydicom.dcmread(path)
                dataset[keyword]._value = SECRETS[0]
                dataset.save_as(path)

    return damage


def nothing(directory):
    for path in directory.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (second_series, "differ in series"),
        (gap, "missing"),
        (twice, "one position"),
        (askew, "straight line"),
        (other_shape, "differ in size"),
        (truncated, "truncated"),
        (last(0), "9.dcm: is no DICOM"),
        (last(400), "9.dcm: holds no image"),
        (empty_file_without_suffix, "IM0009: is no DICOM"),
        (empty_file_of_a_number, "1.2.840.9: is no DICOM"),
        (fields(PixelData=None), "holds no image"),
        (fields(NumberOfFrames=2), "truncated pixel data"),
        (colour, "colour"),
        (fields(Modality="DX"), "DX"),
        (nothing, "no DICOM"),
        (fields(ImagePositionPatient=None), "ImagePositionPatient"),
        (fields(PixelSpacing=[0, 0]), "PixelSpacing"),
        (fields(ImageOrientationPatient=[0] * 6), "right angles"),
        (fields(RescaleSlope=0), "RescaleSlope"),
        (fields(Rows=60000, Columns=60000), "more pixels than"),
        (quoted_name("Modality"), "Modality"),
        (quoted_name("RescaleSlope"), "damaged"),
        (quoted_name("ImagePositionPatient"), "damaged"),
    ],
)
def test_refusals_are_one_line_and_name_no_patient(tmp_path, break_it, word, caplog, capfd):
    directory = write_series(tmp_path / "series")
    break_it(directory)
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match=word) as error:
        volumes.read_volume(directory)
    said = str(error.value) + caplog.text + "".join(capfd.readouterr())
    assert str(directory) in str(error.value) and "\n" not in str(error.value)
    assert not any(secret in said for secret in SECRETS)


@pytest.mark.parametrize("name", ["RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless"])
def test_compressed_slices_and_broken_streams(tmp_path, name, capfd):
    """The decoder's own messages stay out of the console."""
    plain = volumes.read_volume(write_series(tmp_path / "s")).voxels_ZxHxW
    for path in (tmp_path / "s").iterdir():
        compressed(path, path, name)
    np.testing.assert_array_equal(volumes.read_volume(tmp_path / "s").voxels_ZxHxW, plain)
    capfd.readouterr()
    dataset = pydicom.dcmread(tmp_path / "s" / "7.dcm")
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 junk" * 30])
    dataset.save_as(tmp_path / "s" / "7.dcm")
    with pytest.raises(InputError, match=r"7\.dcm: has damaged or truncated pixel data"):
        volumes.read_volume(tmp_path / "s")
    assert "".join(capfd.readouterr()) == ""


def test_no_patient_in_a_mask(tmp_path):
    volume = volumes.read_volume(write_series(tmp_path / "series"))
    volumes.write_mask(tmp_path / "m.nii", volume.voxels_ZxHxW > 0, volume.grid)
    assert not any(secret.encode() in (tmp_path / "m.nii").read_bytes() for secret in SECRETS)
