"""A multi-frame CT is the volume of its slices in files of their own."""

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io import volumes

pydicom = pytest.importorskip("pydicom", reason='pip install -e ".[ct]"')
pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')
pytest.importorskip("gdcm", reason='pip install -e ".[ct]"')

from tests.helpers.dicom_files import dicom, saved  # noqa: E402

ORDER = (3, 0, 4, 1, 2)  # of the frames: the slices' numbers from feet to head
ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"


def slices():
    """Stored values [slices, rows, columns]."""
    return np.random.default_rng(0).integers(0, 1000, (5, 8, 6)).astype(np.uint16)


def item(**values):
    dataset = pydicom.Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return pydicom.Sequence([dataset])


def frame(number, **more):
    intercept = -1024 + number  # each frame has its own
    return item(
        PlanePositionSequence=item(ImagePositionPatient=[-10.0, -20.0, 3.0 * number]),
        PixelValueTransformationSequence=item(RescaleSlope=2, RescaleIntercept=intercept),
        **more,
    )[0]


def enhanced(frames=None, **attributes):
    stored = slices()[list(ORDER)]
    shared = item(
        PixelMeasuresSequence=item(PixelSpacing=[2.0, 1.5], SliceThickness=3),
        PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
    )
    dataset = dicom(stored[0], 12, Modality="CT", SOPClassUID=ENHANCED)
    dataset.NumberOfFrames, dataset.PixelData = len(stored), stored.tobytes()
    dataset.SharedFunctionalGroupsSequence = shared
    each = [frame(number) for number in ORDER] if frames is None else frames
    dataset.PerFrameFunctionalGroupsSequence = pydicom.Sequence(each)
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def hounsfield():
    return slices() * 2.0 - 1024 + np.arange(5)[:, None, None]


@pytest.mark.parametrize("syntax", ["plain", "RLE"])
def test_frames_lie_where_their_groups_say(tmp_path, syntax):
    dataset = enhanced()
    if syntax == "RLE":
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.set_original_encoding(False, True)
        dataset.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")
        (tmp_path / "s").mkdir()
        dataset.save_as(tmp_path / "s" / "multi", enforce_file_format=True)
    else:
        (tmp_path / "s").mkdir()
        saved(tmp_path / "s" / "multi", dataset)
    for place in (tmp_path / "s", tmp_path / "s" / "multi"):  # a folder, and the file itself
        volume = volumes.read_volume(place)
        np.testing.assert_array_equal(volume.voxels_ZxHxW, hounsfield())
        assert volume.spacing == pytest.approx((3.0, 2.0, 1.5))
        np.testing.assert_allclose(volume.grid.affine_4x4[:3, 3], [10, 20, 0])
        np.testing.assert_allclose(np.diag(volume.grid.affine_4x4), [-1.5, -2, 3, 1])
        assert volume.warnings == () and volume.placed


@pytest.mark.parametrize(("distance", "apart"), [({"SliceThickness": 4}, 4.0), ({}, 1.0)])
def test_frames_without_groups_are_taken_in_order_and_warned_of(tmp_path, distance, apart):
    dataset = enhanced(
        SharedFunctionalGroupsSequence=None,
        PerFrameFunctionalGroupsSequence=None,
        PixelSpacing=[2.0, 1.5],
        RescaleIntercept=-1024,
        RescaleSlope=1,
        **distance,
    )
    volume = volumes.read_volume(saved(tmp_path / "multi.dcm", dataset))
    np.testing.assert_array_equal(volume.voxels_ZxHxW, slices()[list(ORDER)] - 1024.0)
    assert volume.spacing == pytest.approx((apart, 2.0, 1.5)) and not volume.placed
    [warning] = volume.warnings
    assert "file's order" in warning and "sides unsure" in warning
    assert ("1 mm apart" in warning) == (not distance)


def stack(number, name):
    return frame(number, FrameContentSequence=item(StackID=name))


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (lambda: enhanced([frame(n) for n in (0, 1, 2, 3, 3)]), "frame 4, and multi, frame 5, lie"),
        (lambda: enhanced([frame(n) for n in (0, 1, 2, 4, 5)]), "3 to 6 mm apart"),
        (lambda: enhanced([frame(n) for n in (0, 1, 2, 3)]), "describes 4 of its 5 frames"),
        (lambda: enhanced([stack(n, str(n // 3)) for n in range(5)]), "2 stacks"),
        (lambda: enhanced(NumberOfFrames=50), "damaged or truncated pixel data"),
        (lambda: enhanced(SharedFunctionalGroupsSequence=None), "no valid PixelSpacing"),
        (lambda: enhanced(Modality="XA"), "Modality is XA"),
    ],
)
def test_refused(tmp_path, dataset, words):
    path = saved(tmp_path / "multi", dataset())
    with pytest.raises(InputError, match=words) as error:
        volumes.read_volume(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_frames_without_places_beside_slices_are_refused(tmp_path):
    for name in ("a", "b"):
        saved(tmp_path / name, enhanced(PerFrameFunctionalGroupsSequence=None))
    with pytest.raises(InputError, match="a: has 5 frames without places, beside other images"):
        volumes.read_volume(tmp_path)


def test_no_segmentation_refers_to_frames(tmp_path):
    from jaxlung.io.dicom.segmentation import check_source

    path = saved(tmp_path / "multi", enhanced())
    for source in (path, tmp_path):
        with pytest.raises(InputError, match="has 5 frames, and DICOM SEG"):
            check_source(source)
