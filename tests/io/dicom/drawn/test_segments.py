"""Segments of a DICOM SEG file give back the lungs that they hold."""

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io import volumes
from jaxlung.io.dicom.drawn.read import read_drawn_lungs
from jaxlung.io.dicom.drawn.segments import name_segment
from jaxlung.structures import LEFT_LUNG, LUNG, RIGHT_LUNG

pydicom = pytest.importorskip("pydicom", reason='pip install -e ".[ct]"')
pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')
highdicom = pytest.importorskip("highdicom", reason='pip install -e ".[dicom-seg]"')

from jaxlung.io.dicom.segmentation import write_segmentation  # noqa: E402
from tests.helpers import drawn_files as files  # noqa: E402

# highdicom's own, of code that it will drop.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def scan(tmp_path):
    hu, right, left = files.chest((45, 39, 9))  # frames that do not end at a byte
    return files.write_series(tmp_path / "series", hu), right, left


def test_what_jaxlung_writes_it_reads_again(tmp_path, scan):
    series, right, left = scan
    grid = volumes.read_volume(series).grid
    label_ZxHxW = volumes.from_grid((right + 2 * left.astype(np.uint8)).T, grid).astype(np.uint8)
    write_segmentation(tmp_path / "seg.dcm", series, label_ZxHxW)
    drawn = read_drawn_lungs(tmp_path / "seg.dcm", series)
    assert drawn.structures == (LUNG, RIGHT_LUNG, LEFT_LUNG)
    np.testing.assert_array_equal(drawn.mask(RIGHT_LUNG), label_ZxHxW == 1)
    np.testing.assert_array_equal(drawn.mask(LEFT_LUNG), label_ZxHxW == 2)
    np.testing.assert_array_equal(drawn.mask(LUNG), label_ZxHxW > 0)
    write_segmentation(
        tmp_path / "one.dcm", series, (label_ZxHxW > 0).astype(np.uint8), sides=False
    )
    drawn = read_drawn_lungs(tmp_path / "one.dcm", series)
    assert drawn.structures == (LUNG,)
    np.testing.assert_array_equal(drawn.mask(LUNG), label_ZxHxW > 0)


def describe(number, label, code=("91723000", "SCT", "Anatomical Structure")):
    from pydicom.sr.coding import Code

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=Code("123037004", "SCT", "Anatomical Structure"),
        segmented_property_type=Code(*code),
        algorithm_type="MANUAL",
    )


def make_seg(series, pixels, segments, kind="BINARY", **options):
    """Makes a segmentation of pixels [S, R, C, K]."""
    sources = [pydicom.dcmread(path) for path in sorted(series.iterdir())[::-1]]
    for source in sources:
        source.PatientBirthDate = source.PatientSex = source.AccessionNumber = ""
        source.StudyID = source.StudyDate = source.StudyTime = source.ReferringPhysicianName = ""
        source.SliceThickness = files.STEP
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid="1.2.826.0.1.3680043.5",
        series_number=1,
        sop_instance_uid="1.2.826.0.1.3680043.6",
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


@pytest.mark.parametrize("is_compressed", [False, True])
def test_fractions_are_lung_from_a_half_on(tmp_path, scan, is_compressed):
    series, right, left = scan
    shares = np.stack([right * 0.6, left * 0.9, np.ones_like(left)], -1)
    shares[2, 20, 20:23, 0] = (0.49, 0.51, 0.2)
    segments = [describe(1, "Lung_R"), describe(2, "left lung"), describe(3, "Trachea")]
    seg = make_seg(
        series,
        shares,
        segments,
        "FRACTIONAL",
        fractional_type="PROBABILITY",
        max_fractional_value=200,
    )
    path = files.save_dataset(tmp_path / "seg.dcm", seg)
    if is_compressed:
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom")
        dataset.save_as(path)
    drawn = read_drawn_lungs(path, series)
    expected = volumes.from_grid((shares[..., 0] >= 0.5).T, drawn.grid)
    np.testing.assert_array_equal(drawn.mask(RIGHT_LUNG), expected)
    np.testing.assert_array_equal(drawn.mask(LEFT_LUNG), volumes.from_grid(left.T, drawn.grid))


def item(label="", code="", modifier="", category="123037004"):
    def coded(value):
        dataset = pydicom.Dataset()
        dataset.CodeValue = value
        return dataset

    segment, kind = pydicom.Dataset(), coded(code)
    if modifier:
        kind.SegmentedPropertyTypeModifierCodeSequence = [coded(modifier)]
    segment.SegmentedPropertyTypeCodeSequence = [kind]
    segment.SegmentedPropertyCategoryCodeSequence = [coded(category)]
    segment.SegmentLabel = label
    return segment


@pytest.mark.parametrize(
    ("segment", "lung"),
    [
        (item("x", "3341006"), RIGHT_LUNG),
        (item("Lung_R", "44029006"), LEFT_LUNG),  # the code goes first
        (item("x", "39607008"), LUNG),
        (item("x", "39607008", "24028007"), RIGHT_LUNG),
        (item("x", "T-28000", "G-A101"), LEFT_LUNG),
        (item("Lung_L", "39607008"), LEFT_LUNG),
        (item("lungs", "91723000"), LUNG),
        (item("lung", "4147007", category="49755003"), ""),  # a mass in the lung
        (item("Heart", "80891009"), ""),
        (item("Trachea", "44567001"), ""),
    ],
)
def test_segments_are_known_by_code_and_label(segment, lung):
    assert name_segment(segment) == lung


def test_segmentations_that_do_not_fit_are_refused(tmp_path, scan):
    series, right, left = scan
    seg = make_seg(series, (right | left).astype(np.uint8), [describe(1, "lungs")])
    path = files.save_dataset(tmp_path / "seg.dcm", seg)
    hu = files.chest((45, 39, 9))[0]
    others = {
        "another series": files.write_series(tmp_path / "a", hu, series="1.2.3"),
        "another frame": files.write_series(tmp_path / "b", hu, frame="1.2.3"),
        "another grid": files.write_series(tmp_path / "c", hu[:, :-2]),
        "resample": files.write_series(tmp_path / "d", hu[:3]),
    }
    for words, other in others.items():
        with pytest.raises(InputError, match=words) as refusal:
            read_drawn_lungs(path, other)
        assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    seg.SegmentSequence[0].SegmentLabel = "Heart"
    with pytest.raises(InputError, match="draws no lung; call its segments"):
        read_drawn_lungs(files.save_dataset(path, seg), series)
    seg.SegmentSequence[0].SegmentLabel = "lungs"
    seg.PixelData = seg.PixelData[:100]
    with pytest.raises(InputError, match="truncated"):
        read_drawn_lungs(files.save_dataset(path, seg), series)
    seg.SegmentationType = "LABELMAP"
    with pytest.raises(InputError, match="no binary or fractional"):
        read_drawn_lungs(files.save_dataset(path, seg), series)
