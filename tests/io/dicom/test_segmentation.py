"""A segmentation says of each image what the mask said, and of the patient nothing."""

import logging
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom", reason='needs pip install "jaxlung[dicom-seg]"')
pytest.importorskip("gdcm", reason='needs pip install "jaxlung[dicom-seg]"')
pytest.importorskip("nibabel", reason='needs pip install "jaxlung[ct]"')
highdicom = pytest.importorskip("highdicom", reason='needs pip install "jaxlung[dicom-seg]"')

from pydicom.datadict import DicomDictionary  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

import jaxlung  # noqa: E402
from jaxlung.errors import InputError  # noqa: E402
from jaxlung.io.dicom import segmentation  # noqa: E402
from jaxlung.io.dicom.segmentation import write_segmentation  # noqa: E402
from jaxlung.io.volumes import read_volume  # noqa: E402
from jaxlung.system.silence import silence  # noqa: E402
from tests.helpers.dicom_files import compressed, dicom, saved  # noqa: E402

SHAPE = (23, 18)  # 414 pixels: no multiple of 8, in which masks are packed, but even, as GDCM wants
STUDY, SERIES, SPACE = "1.2.3.1", "1.2.3.2", "1.2.3.3"
HIGHDICOM = "1.2.826.0.1.3680043.10.511.3."  # the root of the UIDs that it makes
NAME, NUMBER, DAY, UNIQUE = "Quuxson^Zebediah", "QX4711", "19320229", "1.2.999.4711.4711"
TOKENS = ("quuxson", "zebediah", "qx4711", "19320229", "4711.4711")
PLANTED = {
    **dict.fromkeys(("PN", "LO", "ST", "LT", "UT", "UC"), NAME),
    **dict.fromkeys(("SH", "AE", "CS"), NUMBER),
    **{"DA": DAY, "DT": DAY, "TM": "193202.29", "UI": UNIQUE, "UR": f"http://{NUMBER}"},
}
# What says how to read the file, what it is, and what a segmentation refers to.
SPARED = {
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "PhotometricInterpretation",
    "PresentationLUTShape",
    "VOILUTFunction",
}


def planted():
    """Every attribute of the standard that holds text; each sequence has an item that does."""
    dataset = pydicom.Dataset()
    with silence():
        for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
            if retired or not 0x00080000 <= tag < 0x7FE00000 or not keyword or keyword in SPARED:
                continue
            if vr == "SQ":
                item = pydicom.Dataset()
                item.PatientName, item.PatientID, item.ReferencedSOPInstanceUID = (
                    NAME,
                    NUMBER,
                    UNIQUE,
                )
                item.InstitutionName, item.CodeMeaning, item.StudyDate = NAME, NAME, DAY
                dataset.add_new(tag, vr, [item])
            elif vr in PLANTED:
                dataset.add_new(tag, vr, PLANTED[vr])
        dataset.add_new(0x00091001, "LO", NAME)
    for keyword in ("LUTData", "ModalityLUTSequence", "VOILUTSequence"):
        if keyword in dataset:
            del dataset[keyword]  # would be followed
    assert len(dataset) > 1000
    return dataset


def label2(shape=SHAPE):
    """0, and 1 and 2 in two places of other sizes."""
    label = np.zeros(shape, np.uint8)
    label[..., 3:20, 2:8] = 1
    label[..., 5:17, 11:16] = 2
    return label


def radiograph(path, pixels=None, syntax=ExplicitVRLittleEndian, planted=None, **attributes):
    """Its pixels are the label, 100 times."""
    with silence():
        dataset = dicom(label2() * 100 if pixels is None else pixels)
        dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
        dataset.PixelSpacing = [0.5, 0.25]
        if planted is not None:
            dataset.update(planted)
            dataset.file_meta.SourceApplicationEntityTitle = NUMBER
            dataset.file_meta.PrivateInformationCreatorUID = UNIQUE
            dataset.file_meta.PrivateInformation = NAME.encode()
            dataset.preamble = NAME.encode().ljust(128, b"\0")
        for keyword, value in attributes.items():
            if value is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, value)
        return saved(path, dataset, syntax)


DIRECTIONS = {  # along a row, down a column, from slice to slice
    "axial": ([1, 0, 0], [0, 1, 0], [0, 0, 3]),
    "axial from head to feet": ([1, 0, 0], [0, 1, 0], [0, 0, -3]),
    "prone": ([-1, 0, 0], [0, -1, 0], [0, 0, 3]),
    "coronal": ([1, 0, 0], [0, 0, -1], [0, 3, 0]),
    "sagittal": ([0, 1, 0], [0, 0, -1], [3, 0, 0]),
    "tilted": ([1, 0, 0], [0, 0.8, -0.6], [0, 0, 3]),
}


def series(directory, directions="axial", depth=6, planted=None, **attributes):
    """A series whose pixels are a label, of no symmetry, in Hounsfield units; files in no order."""
    directory.mkdir(parents=True)
    row, column, step = map(np.array, DIRECTIONS[directions])
    stored = np.random.default_rng(0).integers(0, 3, (depth, *SHAPE)).astype(np.int16)
    stored[2] = 0
    stored[3][stored[3] == 2] = 0
    for z, name in enumerate(np.random.default_rng(1).permutation(depth)):
        fields = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": f"1.2.3.4.{z + 1}",
            "Modality": "CT",
            "FrameOfReferenceUID": SPACE,
            "ImageOrientationPatient": [*map(float, (*row, *column))],
            "ImagePositionPatient": [*map(float, (-10, -20, 5) + z * step)],
            "SliceThickness": 2.5,
            "InstanceNumber": int(name),
        }
        radiograph(directory / f"{name}.dcm", stored[z], planted=planted, **fields | attributes)
    return directory


def label_of(directory):
    return read_volume(directory).voxels_ZxHxW.astype(np.uint8)


def read(path):
    with silence():
        return highdicom.seg.segread(path)


def frames(segmentation):
    """Segment number and SOPInstanceUID to mask, as pydicom alone reads them."""
    pixels = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    found = {}
    for mask, group in zip(pixels, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = group.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        [image] = group.DerivationImageSequence[0].SourceImageSequence
        assert image.SpatialLocationsPreserved == "YES"
        key = number[0].ReferencedSegmentNumber, str(image.ReferencedSOPInstanceUID)
        assert key not in found
        found[key] = mask
    return found


def all_elements(dataset):
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from all_elements(item)


def refused(path, source, label, *words):
    with pytest.raises(InputError) as caught:
        write_segmentation(path, source, label)
    message = str(caught.value)
    assert "\n" not in message and not list(path.parent.glob(f"*{path.name}*"))
    for word in (str(source), *words):
        assert word in message, message


# --- radiographs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "modality"),
    [
        (DigitalXRayImageStorageForPresentation, "DX"),
        (ComputedRadiographyImageStorage, "CR"),
        (SecondaryCaptureImageStorage, "OT"),
        (pydicom.uid.XRayAngiographicImageStorage, "XA"),
        (pydicom.uid.XRayRadiofluoroscopicImageStorage, "RF"),
        ("1.2.3.4711", ""),  # a maker's own kind
        (pydicom.uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage, "SC"),
    ],
)
def test_radiograph(tmp_path, kind, modality):
    fields = {"SOPClassUID": kind, "Modality": modality, "FrameOfReferenceUID": SPACE}
    if modality == "SC":
        fields["NumberOfFrames"] = 1
    source = radiograph(tmp_path / "a.dcm", **fields)
    write_segmentation(tmp_path / "seg.dcm", source, label2())
    assert {p.name for p in tmp_path.iterdir()} == {"a.dcm", "seg.dcm"}
    found = read(tmp_path / "seg.dcm")
    stored = pydicom.dcmread(source).pixel_array // 100
    np.testing.assert_array_equal(frames(found)[1, "1.2.3.4"], stored == 1)
    np.testing.assert_array_equal(frames(found)[2, "1.2.3.4"], stored == 2)
    together = found.get_pixels_by_source_instance(["1.2.3.4"], combine_segments=True)
    np.testing.assert_array_equal(together[0], stored)
    [referred] = found.ReferencedSeriesSequence
    kinds = [e.value for e in all_elements(found) if e.keyword == "ReferencedSOPClassUID"]
    assert len(kinds) == 4 and set(kinds) == {kind}
    assert (found.StudyInstanceUID, referred.SeriesInstanceUID) == (STUDY, SERIES)
    assert found.SeriesInstanceUID != SERIES and found.SOPInstanceUID != "1.2.3.4"
    assert "FrameOfReferenceUID" not in found
    assert "PixelMeasuresSequence" not in found.SharedFunctionalGroupsSequence[0]


def test_segments_are_coded(tmp_path):
    source = radiograph(tmp_path / "a.dcm")
    write_segmentation(tmp_path / "seg.dcm", source, label2(), model="cxr")
    found = read(tmp_path / "seg.dcm")
    assert found.file_meta.MediaStorageSOPClassUID == pydicom.uid.SegmentationStorage
    assert (found.SegmentationType, found.Modality, found.BitsAllocated) == ("BINARY", "SEG", 1)
    assert found.ImageType[0] == "DERIVED"
    codes = [("3341006", "Right lung"), ("44029006", "Left lung")]
    for number, (segment, (code, meaning)) in enumerate(
        zip(found.SegmentSequence, codes, strict=True), 1
    ):
        [kind] = segment.SegmentedPropertyTypeCodeSequence
        [category] = segment.SegmentedPropertyCategoryCodeSequence
        assert (segment.SegmentNumber, segment.SegmentLabel) == (number, meaning)
        assert (kind.CodeValue, kind.CodingSchemeDesignator) == (code, "SCT")
        assert (category.CodeValue, category.CodingSchemeDesignator) == ("123037004", "SCT")
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        [algorithm] = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmName == segment.SegmentAlgorithmName == "jaxlung cxr"
        assert algorithm.AlgorithmVersion == jaxlung.__version__


def test_lungs_together(tmp_path):
    source, label = radiograph(tmp_path / "a.dcm"), (label2() > 0).astype(np.uint8)
    write_segmentation(tmp_path / "seg.dcm", source, label, sides=False)
    found = read(tmp_path / "seg.dcm")
    [segment] = found.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "39607008"
    assert segment.SegmentLabel == "Lung"
    assert list(frames(found)) == [(1, "1.2.3.4")]
    np.testing.assert_array_equal(frames(found)[1, "1.2.3.4"], label)


@pytest.mark.parametrize(
    ("structure", "code", "meaning", "label", "side"),
    [
        ("lung", "39607008", "Lung", "Lung", None),
        ("lung_and_heart", "43799004", "Chest cavity", "Lung and heart", None),
        ("heart", "80891009", "Heart", "Heart", None),
        ("right_lung", "3341006", "Right lung", "Right lung", None),
        ("left_lung", "44029006", "Left lung", "Left lung", None),
        ("right_clavicle", "51299004", "Clavicle", "Right clavicle", ("24028007", "Right")),
        ("left_clavicle", "51299004", "Clavicle", "Left clavicle", ("7771000", "Left")),
        ("s" * 80, "91723000", "Anatomical Structure", "s" * 64, None),
    ],
)
def test_a_structure_has_its_own_code_label_and_side(
    tmp_path, structure, code, meaning, label, side
):
    source, mask = radiograph(tmp_path / "a.dcm"), (label2() > 0).astype(np.uint8)
    write_segmentation(
        tmp_path / "s.dcm", source, mask, sides=False, model="cxr", structure=structure
    )
    found = read(tmp_path / "s.dcm")
    [segment] = found.SegmentSequence
    [kind] = segment.SegmentedPropertyTypeCodeSequence
    assert (kind.CodingSchemeDesignator, kind.CodeValue) == ("SCT", code)
    assert (kind.CodeMeaning, segment.SegmentLabel) == (meaning, label)
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
    assert [(m.CodeValue, m.CodeMeaning) for m in modifiers] == ([side] if side else [])
    assert all(m.CodingSchemeDesignator == "SCT" for m in modifiers)
    # The chest's cavity holds more than lungs and heart: the segment says what is marked.
    said = segment.get("SegmentDescription", "")
    assert ("heart as one region" in said) == (structure == "lung_and_heart")
    whole = "Lungs" if structure == "lung" else label
    assert found.SeriesDescription == f"{whole} by jaxlung cxr"[:64]
    assert found.ContentLabel == whole.upper().replace(" ", "_")[:16]
    assert found.ContentDescription.startswith(whole)
    np.testing.assert_array_equal(frames(found)[1, "1.2.3.4"], mask)


@pytest.mark.parametrize("values", [(), (1,), (2,)])
def test_a_lung_that_is_missing_has_an_empty_frame(tmp_path, values):
    label = label2() * np.isin(label2(), values)
    write_segmentation(tmp_path / "seg.dcm", radiograph(tmp_path / "a.dcm"), label)
    found = frames(read(tmp_path / "seg.dcm"))
    assert set(found) == {(1, "1.2.3.4"), (2, "1.2.3.4")}
    assert {number for (number, _), mask in found.items() if mask.any()} == set(values)


@pytest.mark.parametrize(
    "name",
    ["RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"],
)
def test_compressed_radiograph(tmp_path, name):
    source = compressed(tmp_path / "b.dcm", radiograph(tmp_path / "a.dcm"), name)
    write_segmentation(tmp_path / "seg.dcm", source, label2())
    found = read(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(frames(found)[2, "1.2.3.4"], label2() == 2)
    assert found.LossyImageCompression == "00"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_syntaxes(tmp_path, syntax):
    source = radiograph(tmp_path / "a.dcm", syntax=syntax)
    write_segmentation(tmp_path / "seg.dcm", source, label2())
    np.testing.assert_array_equal(frames(read(tmp_path / "seg.dcm"))[1, "1.2.3.4"], label2() == 1)


@pytest.mark.parametrize("method", ["ISO_10918_1", ["ISO_10918_1", "ISO_15444_1"], NUMBER])
def test_loss_is_told(tmp_path, method):
    source = radiograph(
        tmp_path / "a.dcm",
        LossyImageCompression="01",
        LossyImageCompressionRatio=12.5,
        LossyImageCompressionMethod=method,
    )
    write_segmentation(tmp_path / "seg.dcm", source, label2())
    found = read(tmp_path / "seg.dcm")
    assert (found.LossyImageCompression, found.LossyImageCompressionRatio) == ("01", 12.5)
    assert found.get("LossyImageCompressionMethod") == (None if method == NUMBER else method)


def test_monochrome1(tmp_path):
    """What a screen shows inverted has its lungs in the same place."""
    source = radiograph(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
    write_segmentation(tmp_path / "seg.dcm", source, label2())
    found = read(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(frames(found)[1, "1.2.3.4"], label2() == 1)
    assert (found.PhotometricInterpretation, found.PresentationLUTShape) == (
        "MONOCHROME2",
        "IDENTITY",
    )


def test_uids_of_leading_zeros(tmp_path):
    source = radiograph(tmp_path / "a.dcm", StudyInstanceUID="1.02.003", SOPInstanceUID="1.00.3")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_segmentation(tmp_path / "seg.dcm", source, label2())
    assert not caught
    with silence():
        found = read(tmp_path / "seg.dcm")
        assert found.StudyInstanceUID == "1.02.003"
        np.testing.assert_array_equal(frames(found)[1, "1.00.3"], label2() == 1)


@pytest.mark.parametrize("model", ["run\\of\n" + "x" * 99, "Läufe"])
def test_any_name_of_a_model(tmp_path, model):
    write_segmentation(tmp_path / "s.dcm", radiograph(tmp_path / "a.dcm"), label2(), model=model)
    name = read(tmp_path / "s.dcm").SegmentSequence[0].SegmentAlgorithmName
    assert name.startswith(("jaxlung run_of_xx", "jaxlung Läufe")) and len(name) <= 64


# --- CT ------------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_each_frame_refers_to_its_own_slice(tmp_path, directions):
    """The pixels of a slice are its label, so that a frame can be held against the file."""
    source = series(tmp_path / "ct", directions)
    write_segmentation(tmp_path / "seg.dcm", source, label_of(source))
    found = read(tmp_path / "seg.dcm")
    masks = frames(found)
    stored = {d.SOPInstanceUID: d.pixel_array for d in map(pydicom.dcmread, source.iterdir())}
    # A slice has a frame for each of its segments, and the one without lung none.
    whole = [(number, uid) for uid in stored for number in (1, 2)]
    assert set(masks) == {(n, uid) for n, uid in whole if (stored[uid] == n).any()}
    assert len(masks) == 9 and len(stored) == 6
    for (number, uid), mask in masks.items():
        np.testing.assert_array_equal(mask, stored[uid] == number)
    uids = [f"1.2.3.4.{z + 1}" for z in range(6)]
    together = found.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(together, [stored[uid] for uid in uids])


@pytest.mark.parametrize("directions", ["axial", "tilted"])
def test_each_frame_lies_where_its_slice_does(tmp_path, directions):
    source = series(tmp_path / "ct", directions)
    write_segmentation(tmp_path / "seg.dcm", source, label_of(source))
    found = read(tmp_path / "seg.dcm")
    positions = {
        d.SOPInstanceUID: d.ImagePositionPatient for d in map(pydicom.dcmread, source.iterdir())
    }
    for group in found.PerFrameFunctionalGroupsSequence:
        uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert group.PlanePositionSequence[0].ImagePositionPatient == positions[uid]
    shared = found.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    row, column, step = map(np.array, DIRECTIONS[directions])
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [*row, *column]
    assert (measures.PixelSpacing, measures.SliceThickness) == ([0.5, 0.25], 2.5)
    assert measures.SpacingBetweenSlices == pytest.approx(abs(step @ np.cross(row, column)))
    assert found.FrameOfReferenceUID == SPACE
    assert len(found.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 6


def test_scan_without_lung(tmp_path):
    source = series(tmp_path / "ct")
    write_segmentation(tmp_path / "seg.dcm", source, label_of(source) * np.uint8(0))
    found = frames(read(tmp_path / "seg.dcm"))
    assert len(found) == 12 and not any(mask.any() for mask in found.values())


def test_directions_with_noise_and_no_thickness(tmp_path):
    source = series(tmp_path / "ct", SliceThickness=None)
    path = source / "0.dcm"
    dataset = pydicom.dcmread(path)
    dataset.ImageOrientationPatient = [0.9999999, 0.00001, 0, 0, 1, 0]
    dataset.save_as(path)
    write_segmentation(tmp_path / "seg.dcm", source, label_of(source))
    found = read(tmp_path / "seg.dcm")
    measures = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == 3


def test_series_refusals(tmp_path):
    label, out = np.zeros((6, *SHAPE), np.uint8), tmp_path / "seg.dcm"
    for name, words, attributes in (
        ("a", "SOPInstanceUID", {"SOPInstanceUID": "1.2"}),
        ("b", "FrameOfReferenceUID", {"FrameOfReferenceUID": None}),
        ("c", "2 frames", {"NumberOfFrames": 2}),
        ("d", "SOPClassUID", {"SOPClassUID": None}),
    ):
        refused(out, series(tmp_path / name, **attributes), label, words)
    source = series(tmp_path / "e")
    radiograph(
        source / "0.dcm",
        pydicom.dcmread(source / "0.dcm").pixel_array,
        **{
            keyword: pydicom.dcmread(source / "0.dcm")[keyword].value
            for keyword in (
                "SOPClassUID",
                "SOPInstanceUID",
                "Modality",
                "FrameOfReferenceUID",
                "ImageOrientationPatient",
                "ImagePositionPatient",
            )
        }
        | {"StudyInstanceUID": "1.2.9"},
    )
    refused(out, source, label, "StudyInstanceUID")
    refused(out, series(tmp_path / "f"), label[1:], "6x23x18", "5x23x18")
    refused(out, series(tmp_path / "g"), label[0], "6x23x18", "23x18")
    (tmp_path / "h").mkdir()
    refused(out, tmp_path / "h", label, "no DICOM image")


# --- what cannot be written ----------------------------------------------------------------


def test_refusals(tmp_path):
    out, label = tmp_path / "out" / "seg.dcm", label2()
    out.parent.mkdir()
    Image.fromarray(label).save(tmp_path / "a.png")
    refused(out, tmp_path / "a.png", label, "DICOM SEG needs a DICOM source; use --format png")
    (tmp_path / "a.nii.gz").write_bytes(b"\x1f\x8b")
    refused(out, tmp_path / "a.nii.gz", label, "DICOM SEG needs a DICOM source")
    refused(out, tmp_path / "none.dcm", label, "No such file")
    source = radiograph(tmp_path / "a.dcm")
    refused(out, source, label[1:], "is 23x18, but the mask 22x18")
    refused(out, source, label[None], "23x18", "1x23x18")
    for attributes, word in (
        ({"NumberOfFrames": 3}, "3 frames"),
        ({"Modality": "MR"}, "modality MR"),
        ({"Modality": "CT"}, "modality CT"),
        ({"StudyInstanceUID": None}, "StudyInstanceUID"),
        ({"SOPInstanceUID": ""}, "SOPInstanceUID"),
        ({"SeriesInstanceUID": NAME}, "SeriesInstanceUID"),
        ({"SOPClassUID": NUMBER}, "SOPClassUID"),
        ({"Rows": None}, "damaged or incomplete"),
    ):
        refused(out, radiograph(source, **attributes), label, word)
    for wrong, sides in ((label + 1, True), (label, False), (label > 0, True)):
        with pytest.raises(ValueError, match="label of"):
            write_segmentation(out, radiograph(source), wrong, sides=sides)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("missing", ["highdicom", "highdicom.seg", "pydicom"])
def test_missing_extra_is_named(tmp_path, monkeypatch, missing):
    source = radiograph(tmp_path / "a.dcm")
    loaded = [name for name in sys.modules if name.split(".")[0] == "highdicom"]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError) as caught:
        write_segmentation(tmp_path / "seg.dcm", source, label2())
    assert str(caught.value) == 'DICOM SEG needs highdicom: pip install "jaxlung[dicom-seg]"'
    assert not (tmp_path / "seg.dcm").exists()


def test_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    source, path = radiograph(tmp_path / "a.dcm"), tmp_path / "seg.dcm"
    path.write_bytes(b"before")

    def full(self, name, **_):
        with open(name, "wb") as file:
            file.write(b"half")
        assert name.parent == path.parent and name != path
        raise OSError(28, "No space left on device", str(name))

    with monkeypatch.context() as patch:
        patch.setattr(pydicom.Dataset, "save_as", full)
        with pytest.raises(OSError, match="space"):
            write_segmentation(path, source, label2())
    assert path.read_bytes() == b"before"
    assert {p.name for p in tmp_path.iterdir()} == {"a.dcm", "seg.dcm"}
    write_segmentation(path, source, label2())
    assert len(frames(read(path))) == 2


# --- the patient ---------------------------------------------------------------------------


def words(data):
    """The planted words in some bytes."""
    text = data.lower().replace(b"\0", b"")
    return {token for token in TOKENS if token.encode() in text}


@pytest.mark.parametrize("kind", ["radiograph", "series"])
def test_nothing_of_the_patient_is_written_or_said(tmp_path, kind, capfd, caplog):
    """In attributes, sequences, private ones, the file's header: none of it comes over."""
    if kind == "radiograph":
        source, label = radiograph(tmp_path / "a.dcm", planted=planted()), label2()
        assert words(source.read_bytes()) == set(TOKENS)
    else:
        source = series(tmp_path / "ct", planted=planted())
        label = label_of(source)
    caplog.set_level(logging.DEBUG)
    capfd.readouterr()
    path = tmp_path / "seg.dcm"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_segmentation(path, source, label)
    assert not caught and not caplog.records and capfd.readouterr() == ("", "")
    assert not words(path.read_bytes())
    found = read(path)
    assert found.preamble == b"\0" * 128
    for keyword in segmentation._EMPTY:
        assert keyword in found and found[keyword].is_empty, keyword
    text = " ".join(str(element.value) for element in all_elements(found) if element.VR != "SQ")
    assert not words(text.encode())
    # Of the source's UIDs those alone that the segmentation refers to.
    uids = {str(element.value) for element in all_elements(found) if element.VR == "UI"}
    own = {uid for uid in uids if uid.startswith(("1.2.840.10008.", "2.25.", HIGHDICOM))}
    images = (
        {"1.2.3.4"} if kind == "radiograph" else {SPACE, *(f"1.2.3.4.{z}" for z in range(1, 7))}
    )
    assert uids - own == {STUDY, SERIES} | images


def test_highdicom_is_shown_nothing_of_the_patient(tmp_path, monkeypatch):
    """By construction, whatever a later version copies."""
    shown = []
    make = highdicom.seg.Segmentation.__init__

    def spy(self, source_images, *args, **kwargs):
        shown.extend(source_images)
        make(self, source_images, *args, **kwargs)

    monkeypatch.setattr(highdicom.seg.Segmentation, "__init__", spy)
    write_segmentation(
        tmp_path / "seg.dcm", radiograph(tmp_path / "a.dcm", planted=planted()), label2()
    )
    [reference] = shown
    assert {element.keyword for element in reference if not element.is_empty} == {
        *segmentation._UIDS,
        "Rows",
        "Columns",
    }
