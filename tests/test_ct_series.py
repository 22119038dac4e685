"""A DICOM series is the volume that its slices say it is."""

import logging

import numpy as np
import pytest

from jaxlung import ct
from jaxlung.errors import InputError

pydicom = pytest.importorskip("pydicom", reason='pip install -e ".[ct]"')
nibabel = pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')

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
    series, nifti = ct.read_volume(directory), ct.read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(series.voxels_ZxHxW, nifti.voxels_ZxHxW)
    np.testing.assert_allclose(series.grid.affine_4x4, affine, atol=1e-6)
    assert series.spacing == pytest.approx(nifti.spacing) == (3.0, 2.0, 1.5)
    ct.write_mask(tmp_path / "m.nii.gz", series.voxels_ZxHxW > 0, series.grid)
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj) > 0, hu > 0)


def test_a_series_in_another_direction(tmp_path):
    """Coronal slices: rows run from head to feet, slices from front to back."""
    voxels = stored()
    for i in range(SHAPE[2]):
        write_slice(
            tmp_path / "s" / f"{i}.dcm", voxels[:, :, i].T, 0.0,
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            ImagePositionPatient=[-10.0, 5.0 * i, 50.0],
        )  # fmt: skip
    volume = ct.read_volume(tmp_path / "s")
    assert volume.spacing == pytest.approx((2.0, 5.0, 1.5))
    # Feet to head is against the rows; front to back is the order of the slices.
    expected = (voxels.astype(np.float32) * 2 - 1024).transpose(1, 2, 0)[::-1]
    np.testing.assert_array_equal(volume.voxels_ZxHxW, expected)


def second_series(directory):
    write_slice(directory / "other.dcm", stored()[:, :, 0].T, 30.0, series="9.9")


def gap(directory):
    (directory / "7.dcm").unlink()


def twice(directory):
    write_slice(directory / "again.dcm", stored()[:, :, 0].T, 3.0)


def other_shape(directory):
    write_slice(directory / "again.dcm", stored()[:5, :, 0].T, 15.0)


def truncated(directory):
    path = directory / "8.dcm"
    path.write_bytes(path.read_bytes()[:-20])


def x_ray(directory):
    write_series(directory, Modality="DX")


def nowhere(directory):
    write_series(directory, ImagePositionPatient=None)


def nothing(directory):
    for path in directory.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("break_it", "word"),
    [(second_series, "2 series"), (gap, "missing"), (twice, "one position"),
     (other_shape, "widths"), (truncated, "decoded"), (x_ray, "DX"), (nowhere, "Position"),
     (nothing, "no DICOM")],
)  # fmt: skip
def test_refusals_name_the_folder_and_no_patient(tmp_path, break_it, word, caplog, capsys):
    directory = write_series(tmp_path / "series")
    break_it(directory)
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match=word) as error:
        ct.read_volume(directory)
    said = str(error.value) + caplog.text + "".join(capsys.readouterr())
    assert str(directory) in str(error.value) and "\n" not in str(error.value)
    assert not any(secret in said for secret in SECRETS)


def test_no_patient_in_a_mask(tmp_path):
    volume = ct.read_volume(write_series(tmp_path / "series"))
    ct.write_mask(tmp_path / "m.nii", volume.voxels_ZxHxW > 0, volume.grid)
    assert not any(secret.encode() in (tmp_path / "m.nii").read_bytes() for secret in SECRETS)
