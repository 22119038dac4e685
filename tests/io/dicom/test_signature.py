"""DICOM is known by its content: with and without preamble, with and without an image."""

import numpy as np
import pytest

pytest.importorskip("pydicom", reason='needs pip install "jaxlung[dicom]"')

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian  # noqa: E402

from jaxlung.data.folder import list_images  # noqa: E402
from jaxlung.io.dicom.signature import holds_image, is_dicom  # noqa: E402
from jaxlung.io.images import is_image, read_image  # noqa: E402
from tests.helpers.dicom_files import dicom, saved  # noqa: E402

PIXELS = np.arange(480, dtype=np.uint16).reshape(24, 20) * 8
CLASSES = "1.2.840.10008.5.1.4.1.1."


def bare(path, syntax, **attributes):
    dataset = dicom(PIXELS, 12, **attributes)
    whole = saved(path.with_name("whole.dcm"), dataset, syntax)
    del dataset.file_meta
    dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    return whole


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY"]},
        {"InstanceCreationDate": "20200101", "InstanceCreationTime": "120000"},
    ],
)
def test_data_set_without_preamble_and_suffix(tmp_path, syntax, attributes):
    path = tmp_path / "IM000001"
    whole = bare(path, syntax, **attributes)
    assert path.read_bytes()[128:132] != b"DICM"
    assert is_dicom(path) and is_image(path)
    np.testing.assert_array_equal(read_image(path), read_image(whole))


def test_header_without_preamble(tmp_path):
    dataset = dicom(PIXELS, 12)
    whole = saved(tmp_path / "whole.dcm", dataset)
    (tmp_path / "IM1").write_bytes(whole.read_bytes()[132:])
    assert (tmp_path / "IM1").read_bytes()[:2] == b"\x02\0"
    assert is_image(tmp_path / "IM1")
    np.testing.assert_array_equal(read_image(tmp_path / "IM1"), read_image(whole))


def test_other_bytes_are_not_dicom(tmp_path):
    random = np.random.default_rng(0)
    samples = [b"", b"\x08\0", b"\x08\0 and some text that goes on for a while\n" * 9]
    samples += [b"Group 8 is 0008", np.arange(8, 4000, 2, np.int32).tobytes(), b"\x08\0" * 2000]
    samples += [np.full(2000, 8, dtype).tobytes() for dtype in (np.int16, np.int32, np.float32)]
    samples += [
        start + random.integers(0, most, 4000, np.uint8).tobytes()
        for start in (b"", b"\x02\0", b"\x08\0", b"\x08\0\x05\0", b"\x08\0\x05\0CS")
        for most in (2, 16, 255)
        for _ in range(300)
    ]
    path = tmp_path / "raw"
    for sample in samples:
        path.write_bytes(sample)
        assert not is_dicom(path)


@pytest.mark.parametrize(
    ("uid", "shows"),
    [
        ("1.2.840.10008.1.3.10", False),  # a DICOMDIR under another name
        (CLASSES + "88.11", False),  # report
        (CLASSES + "88.59", False),  # key objects
        (CLASSES + "88.67", False),  # radiation dose
        (CLASSES + "11.1", False),  # presentation state
        (CLASSES + "104.1", False),  # PDF
        (CLASSES + "9.1.1", False),  # ECG
        (CLASSES + "66", False),  # raw data
        (CLASSES + "481.3", False),  # structures of a plan
        (CLASSES + "1", True),
        (CLASSES + "1.1", True),
        (CLASSES + "2", True),
        (CLASSES + "7", True),
        (CLASSES + "66.4", False),  # a segmentation has pixels, and shows no film
        (CLASSES + "66.7", False),  # one of labels
        (CLASSES + "481.2", False),  # dose
        ("1.2.840.10008.5.1.4.34.5", False),  # a step of a worklist
        ("1.2.840.10008.5.1.4.34.5.1", False),
        ("1.3.12.2.1107.5.9.1", False),  # Siemens' CSA non-image
        (CLASSES + "481.1", True),
        ("1.2.3.4", True),
    ],
)
@pytest.mark.parametrize("has_header", [True, False])
def test_classes_without_image_are_none(tmp_path, uid, shows, has_header):
    dataset = dicom(PIXELS, 12, SOPClassUID=uid, SOPInstanceUID="1.2.3")
    path = saved(tmp_path / "a.dcm", dataset)
    if has_header:
        dataset.file_meta.MediaStorageSOPClassUID = uid
        dataset.save_as(path, enforce_file_format=True)
    else:
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert is_dicom(path)
    assert holds_image(path) == is_image(path) == shows


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "DicomDir"])
def test_dicomdir_of_any_case(tmp_path, name):
    saved(tmp_path / name, dicom(PIXELS, 12))
    saved(tmp_path / "IM1", dicom(PIXELS, 12))
    assert list(list_images(tmp_path)) == ["IM1"]
