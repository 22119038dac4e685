"""Segments of a DICOM Segmentation (SEG, PS3.3 A.51) as masks."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.dicom.drawn.names import choose_lungs, name_lung
from jaxlung.io.dicom.drawn.target import BITS, DrawnLungs, Target, check_references
from jaxlung.io.dicom.file import name_damage, read_dataset
from jaxlung.io.dicom.frames import EACH, SHARED, count_frames, split_frames
from jaxlung.io.dicom.pixels import read_stored_values
from jaxlung.structures import LEFT_LUNG, LUNG, RIGHT_LUNG

_READ = (
    "SegmentationType",
    "SegmentSequence",
    "MaximumFractionalValue",
    "FrameOfReferenceUID",
    "ReferencedSeriesSequence",
    SHARED,
    EACH,
)
# SNOMED CT, and SNOMED RT of older files. A code of the lung may have a modifier for its side.
_LUNGS = {
    **dict.fromkeys(("39607008", "T-28000"), LUNG),
    **dict.fromkeys(("3341006", "T-28100"), RIGHT_LUNG),
    **dict.fromkeys(("44029006", "T-28500"), LEFT_LUNG),
}
_SIDES = {
    **dict.fromkeys(("24028007", "G-A100"), RIGHT_LUNG),
    **dict.fromkeys(("7771000", "G-A101"), LEFT_LUNG),
}
_ABNORMAL = ("49755003", "M-01000")  # Morphologically Abnormal Structure, as a nodule is
_SAME = 1e-3  # of direction cosines and spacings
_OFF = 0.1  # pixels that a frame may lie beside its slice


def read_segments(path: Path, target: Target) -> DrawnLungs:
    """Reads the lungs of a segmentation on the grid of its series. Call it in `silence`.

    A fractional segmentation marks what has half of its largest value or more.

    Raises:
        InputError: the file is damaged, of another series or grid, of another type than BINARY and
            FRACTIONAL, or has no segment of a lung or one of two.
    """
    dataset = read_dataset(path, _READ)
    with name_damage(path):
        segments = dataset.get("SegmentSequence") or ()
        named = {int(item.SegmentNumber): name_segment(item) for item in segments}
        chosen = choose_lungs(named, path, "segment")
        series = dataset.get("ReferencedSeriesSequence") or ()
        check_references(
            path,
            target,
            [dataset.get("FrameOfReferenceUID")],
            [item.get("SeriesInstanceUID") for item in series],
        )
        least = _prepare_pixels(dataset, path)
        groups = [(item, *(dataset.get(SHARED) or ())) for item in dataset.get(EACH) or ()]
        numbers = [_find_segment(group) for group in groups]
        bits_SxRxC = target.new_bits()
        for number, frame in zip(numbers, split_frames(dataset, path), strict=True):
            if number in chosen:
                index = _find_place(frame, target, path)
                marked_RxC = read_stored_values(frame, path) >= least
                bits_SxRxC[index] |= marked_RxC.astype(np.uint8) * BITS[chosen[number]]
    return target.to_lungs(bits_SxRxC, chosen.values())


def name_segment(item: Any) -> str:
    """Returns the lung that a segment is, by its coded type, else by its label; else ""."""
    kinds = list(item.get("SegmentedPropertyTypeCodeSequence") or ())
    codes = [str(kind.get("CodeValue") or "") for kind in kinds]
    lung = next((_LUNGS[code] for code in codes if code in _LUNGS), "")
    if lung in (RIGHT_LUNG, LEFT_LUNG):
        return lung
    modifiers = [
        str(modifier.get("CodeValue") or "")
        for kind in kinds
        for modifier in kind.get("SegmentedPropertyTypeModifierCodeSequence") or ()
    ]
    side = next((_SIDES[code] for code in modifiers if code in _SIDES), "")
    if lung and side:
        return side
    category = item.get("SegmentedPropertyCategoryCodeSequence") or ()
    if any(str(one.get("CodeValue")) in _ABNORMAL for one in category):
        return ""
    return name_lung(str(item.get("SegmentLabel") or "")) or lung


def _prepare_pixels(dataset: Any, path: Path) -> int:
    """Brings pixels of one bit to eight, and returns the least value that marks a segment."""
    kind = str(dataset.get("SegmentationType") or "")
    if kind == "FRACTIONAL":
        return (int(dataset.MaximumFractionalValue) + 1) // 2
    if kind != "BINARY":
        raise InputError(
            f"{path}: is no binary or fractional segmentation; export it as one of these"
        )
    if int(dataset.BitsAllocated) == 1:
        count = int(dataset.Rows) * int(dataset.Columns) * count_frames(dataset)
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        if len(bits) < count:
            raise InputError(f"{path}: has damaged or truncated pixel data; export it again")
        dataset.PixelData = bits[:count].tobytes() + b"\0" * (count % 2)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
    return 1


def _find_segment(groups: tuple[Any, ...]) -> int:
    """Returns the number of a frame's segment, by its own functional groups or the shared ones."""
    for group in groups:
        for item in group.get("SegmentIdentificationSequence") or ():
            return int(item.ReferencedSegmentNumber)
    raise KeyError("ReferencedSegmentNumber")  # `name_damage` says so


def _find_place(frame: Any, target: Target, path: Path) -> int:
    """Returns the index of the slice whose pixels the frame's are."""
    position_3 = np.array(frame.ImagePositionPatient, float)
    directions_2x3 = np.array(frame.ImageOrientationPatient, float).reshape(2, 3)
    spacing_2 = np.array(frame.PixelSpacing, float)
    index = target.find_slice(position_3[None])
    one = target.slices[index or 0]
    off_2 = (position_3 - one.position_3) @ one.directions_2x3.T / one.spacing_2[::-1]
    is_same = (
        index is not None
        and (int(frame.Rows), int(frame.Columns)) == one.shape
        and np.allclose(spacing_2, one.spacing_2, _SAME, 0)
        and np.allclose(directions_2x3, one.directions_2x3, 0, _SAME)
        and np.abs(off_2).max() <= _OFF
    )
    if index is None or not is_same:
        raise InputError(
            f"{path}: lies on another grid than its series {target.place}; resample it to the "
            f"series' own slices"
        )
    return index
