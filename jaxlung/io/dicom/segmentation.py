"""Masks of the lungs as DICOM Segmentation objects. Extra: jaxlung[dicom-seg].

highdicom copies patient, study and equipment of its source into a segmentation, with every sequence
under them. It therefore never gets the source, but data sets made here, which hold only what
`_reference` puts there.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.errors import InputError, format_shape
from jaxlung.io.dicom.anatomy import LEFT_LUNG, RIGHT_LUNG, SIDE_CODES, Anatomy, find_anatomy
from jaxlung.io.dicom.display import read_numbers
from jaxlung.io.dicom.file import name_damage, read_dataset, read_modality
from jaxlung.io.dicom.frames import EACH, count_frames, is_multiframe
from jaxlung.io.dicom.series import sort_slices
from jaxlung.io.dicom.signature import holds_image, is_dicom
from jaxlung.io.film import check_xray
from jaxlung.io.volumes import Grid, axial_shape, is_volume, to_grid
from jaxlung.structures import LUNG
from jaxlung.system.files import write_whole
from jaxlung.system.silence import silence
from jaxlung.version import __version__

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_FRAME_OF_REFERENCE = "FrameOfReferenceUID"
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_READ = (*_UIDS, _FRAME_OF_REFERENCE, "SliceThickness", *_LOSSY)
# Attributes of type 2: they have to be there, and may be empty.
_EMPTY = """
PatientName PatientID PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime
ReferringPhysicianName
""".split()


def write_segmentation(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    label: np.ndarray,
    *,
    sides: bool = True,
    model: str = "",
    structure: str = "lung",
) -> None:
    """Writes a mask as a binary DICOM Segmentation; the file appears whole or not at all.

    It refers to the source by UIDs: study, series, each image, and for a CT the frame of reference.
    Beside them only the geometry and a flag of lossy compression come from the source. The
    patient's name, ID, birth date and sex, accession number, study ID, date and time, and the
    referring physician are written empty; description, institution, equipment and all else are
    absent. An archive that does not go by UIDs alone needs patient and study to be filled in
    before it files the object.

    For a radiograph every segment has a frame, even an empty one. For a CT the slices with lung
    have one for each segment that they hold; if no slice holds lung, all slices have them.

    Args:
        path: of the file to write, .dcm by custom.
        source: a file of one radiograph, or a folder that holds one CT series.
        label: uint8 [H, W], on the radiograph's own grid, or [Z, H, W], the axial slices that
            `volumes.read_volume` makes of the series: 1 is the patient's right lung, 2 the left.
        sides: False where the label has 0 and 1 alone, and 1 is the structure: one segment.
        model: the name of the model that made the mask; it follows "jaxlung" in the algorithm's
            name.
        structure: what the mask marks, where sides is False; it names the segment.

    Raises:
        InputError: an extra is not installed; or the source is not DICOM, not a radiograph or CT
            series, damaged, of several frames or another shape than the label, or lacks a UID
            that the segmentation refers to.
        ValueError: the label has another type or other values.
    """
    highdicom = import_highdicom()
    path, source = Path(path), Path(source)
    if label.dtype != np.uint8 or label.max(initial=0) > (2 if sides else 1):
        raise ValueError(f"label of {label.dtype} up to {label.max(initial=0)}, sides={sides}")
    with silence():
        if source.is_dir():
            references, frames_SxRxC = _series(source, label)
        else:
            references, frames_SxRxC = [_radiograph(source, label)], label[None]
        segments = (RIGHT_LUNG, LEFT_LUNG) if sides else (find_anatomy(structure),)
        whole = "Lungs" if sides or structure == LUNG else segments[0].label
        segmentation = _segmentation(highdicom, references, frames_SxRxC, segments, whole, model)
        with write_whole(path) as partial:
            segmentation.save_as(partial)


def import_highdicom() -> Any:
    """Imports highdicom, or raises InputError that names the extra."""
    try:
        with silence():
            import highdicom.seg
            import highdicom.sr
    except ImportError as error:
        raise InputError('DICOM SEG needs highdicom: pip install "jaxlung[dicom-seg]"') from error
    return highdicom


def check_source(source: Path) -> None:
    """Raises InputError for a source that no segmentation can refer to, before work begins.

    Frames of multi-frame CT are not referred to.
    """
    if source.is_file() and not is_dicom(source):
        remedy = "" if is_volume(source) else "; use --format png"
        raise InputError(f"{source}: is no DICOM file; DICOM SEG needs a DICOM source{remedy}")
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    if first := next(filter(holds_image, files), None):  # one file of a series tells
        with silence(), name_damage(first):
            dataset = read_dataset(first, (EACH, "ImagePositionPatient"))
            if read_modality(dataset) == "CT" and is_multiframe(dataset):
                raise InputError(
                    f"{first}: has {count_frames(dataset)} frames, and DICOM SEG is not written of "
                    f"multi-frame CT; leave out --format dicom-seg"
                )


def _radiograph(source: Path, label: np.ndarray) -> Any:
    """Makes the reference to a file of one image.

    It has no frame of reference or spacing: a projection has no place in space, and the
    segmentation lies on its pixels. A radiograph has no SliceThickness; with a spacing but
    without a thickness highdicom would write a file that it then refuses to read.
    """
    check_source(source)
    dataset = read_dataset(source, _READ)
    check_xray(read_modality(dataset), source)
    with name_damage(source):
        shape = int(dataset.Rows), int(dataset.Columns)
        reference = _reference(dataset, source, _UIDS)
    _check_shape(source, shape, label)
    return reference


def _series(directory: Path, label: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Makes references to a folder's slices, and brings the label to [slices, rows, columns]."""
    check_source(directory)
    slices, series = sort_slices(directory, _READ)
    affine_4x4 = series.affine_4x4
    rows, columns = slices[0].shape
    grid = Grid((columns, rows, len(slices)), affine_4x4, None)
    _check_shape(directory, axial_shape(grid), label)
    across_3 = np.cross(affine_4x4[:3, 0], affine_4x4[:3, 1])
    distance = abs(float(affine_4x4[:3, 2] @ across_3)) / float(np.linalg.norm(across_3))
    references = []
    for one in slices:
        with name_damage(one.path):
            reference = _reference(one.dataset, one.path, (*_UIDS, _FRAME_OF_REFERENCE))
            # All take the first's, as a segmentation has one value where slices differ by noise.
            reference.PixelSpacing = _decimals(slices[0].spacing_2)
            reference.ImageOrientationPatient = _decimals(slices[0].directions_2x3.ravel())
            reference.ImagePositionPatient = _decimals(one.position_3)
            thickness = read_numbers(one.dataset, "SliceThickness")
            reference.SliceThickness, reference.SpacingBetweenSlices = _decimals(
                (thickness[0] if len(thickness) == 1 and thickness[0] > 0 else distance, distance)
            )
        references.append(reference)
    for keyword in ("StudyInstanceUID", _FRAME_OF_REFERENCE):
        if len({reference[keyword].value for reference in references}) > 1:
            raise InputError(
                f"{directory}: its slices differ in {keyword}; export the series again"
            )
    if len({reference.SOPInstanceUID for reference in references}) < len(references):
        raise InputError(
            f"{directory}: slices share a SOPInstanceUID, so that no frame can refer to its own; "
            f"export the series again"
        )
    return references, np.ascontiguousarray(to_grid(label, grid).T)


def _reference(dataset: Any, path: Path, uids: Sequence[str]) -> Any:
    """Makes a data set of the image's size, these UIDs and the flag of lossy compression.

    Raises:
        InputError: the image has several frames, or a UID is absent or not valid.
    """
    from pydicom import Dataset

    if (frames := count_frames(dataset)) > 1:
        raise InputError(f"{path}: has {frames} frames; expected one image")
    reference = Dataset()
    for keyword in uids:
        uid = str(dataset.get(keyword) or "")
        # Not pydicom's test, which refuses leading zeros; devices write them.
        if not re.fullmatch("[0-9.]{1,64}", uid):
            raise InputError(
                f"{path}: has no valid {keyword}, which a segmentation has to refer to"
            )
        setattr(reference, keyword, uid)
    for keyword in _EMPTY:
        setattr(reference, keyword, "")
    reference.Rows, reference.Columns = int(dataset.Rows), int(dataset.Columns)
    if str(dataset.get(_LOSSY[0]) or "") == "01":
        reference.LossyImageCompression = "01"
        if ratios := read_numbers(dataset, _LOSSY[1]):
            reference.LossyImageCompressionRatio = _decimals(ratios)
        methods = dataset.get(_LOSSY[2]) or ""
        methods = [methods] if isinstance(methods, str) else list(methods)
        if all(re.fullmatch("ISO_[0-9_]{1,12}", method) for method in methods):
            reference.LossyImageCompressionMethod = methods
    return reference


def _decimals(values: Sequence[float] | np.ndarray) -> list[Any]:
    """Makes DICOM's decimal strings, which have at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]


def _check_shape(source: Path, shape: tuple[int, ...], label: np.ndarray) -> None:
    if label.shape != shape:
        own, other = format_shape(shape), format_shape(label.shape)
        raise InputError(f"{source}: is {own}, but the mask {other}; it is of another image")


def _segmentation(
    highdicom: Any,
    references: list[Any],
    label_SxRxC: np.ndarray,
    segments: Sequence[Anatomy],
    whole: str,
    model: str,
) -> Any:
    from pydicom.sr.coding import Code
    from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage, generate_uid

    # highdicom knows only the standard's kinds of image, and takes every XA or RF for several
    # frames. It gets a plain kind; the true one replaces that in what it made.
    kinds = {one.SOPInstanceUID: one.SOPClassUID for one in references}
    for one in references:
        in_space = "ImagePositionPatient" in one
        one.SOPClassUID = CTImageStorage if in_space else SecondaryCaptureImageStorage
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=_long_string(f"jaxlung {model}"),
        version=__version__,
        family=Code("123109", "DCM", "Artificial Intelligence"),
    )
    descriptions = []
    for number, one in enumerate(segments, 1):
        described = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=_long_string(one.label),
            segmented_property_category=Code("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=Code(one.code, "SCT", one.meaning),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        if one.description:
            described.SegmentDescription = one.description
        if one.side:
            side = highdicom.sr.CodedConcept(SIDE_CODES[one.side], "SCT", one.side)
            [kind] = described.SegmentedPropertyTypeCodeSequence
            kind.SegmentedPropertyTypeModifierCodeSequence = [side]
        descriptions.append(described)
    segmentation = highdicom.seg.Segmentation(
        source_images=references,
        pixel_array=label_SxRxC,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(None),  # of random digits, below no organisation's root
        series_number=1,
        sop_instance_uid=generate_uid(None),
        instance_number=1,
        manufacturer="jaxlung",
        manufacturer_model_name=_long_string(f"jaxlung {model}"),
        software_versions=__version__,
        device_serial_number="none",  # has to be there, and software has none
        series_description=_long_string(f"{whole} by jaxlung {model}"),
        content_label=whole.upper().replace(" ", "_")[:16],
        content_description=_long_string(f"{whole}, segmented automatically"),
        omit_empty_frames=len(references) > 1,
        specific_character_set="ISO_IR 192",  # UTF-8, for the model's name
    )

    def name_kind(item: Any, element: Any) -> None:
        if element.keyword == "ReferencedSOPClassUID":
            element.value = kinds[item.ReferencedSOPInstanceUID]

    segmentation.walk(name_kind)
    return segmentation


def _long_string(text: str) -> str:
    """Fits text into DICOM's VR LO: up to 64 characters without backslash or line break."""
    return "".join(c if c.isprintable() and c != "\\" else "_" for c in text)[:64]
