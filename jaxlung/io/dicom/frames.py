"""The frames of a multi-frame CT as data sets of single slices (PS3.3 A.38, C.7.6.16)."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.dicom.display import read_numbers

SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
ATTRIBUTES = (SHARED, EACH, "SpacingBetweenSlices", "SliceThickness")
# Where a frame keeps what a slice has at the top of its data set.
_GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
}


def count_frames(dataset: Any) -> int:
    """Returns how many frames the header names; 1 where it names none."""
    return int((*read_numbers(dataset, "NumberOfFrames"), 1)[0])


def is_multiframe(dataset: Any) -> bool:
    """Says whether an image keeps its geometry by frames, or should."""
    by_frames = dataset.get(EACH) and "ImagePositionPatient" not in dataset
    return count_frames(dataset) > 1 or bool(by_frames)


def split_frames(dataset: Any, path: Path) -> list[Any]:
    """Makes a data set of each frame, with the attributes and pixels of a single slice.

    A frame's own functional groups go before the shared ones. Frames of a file without groups have
    no place: see `place_frames`. The pixels of `dataset` itself are gone afterwards.

    Raises:
        InputError: the groups or the pixels are not of as many frames as the header names, or the
            frames are of several stacks.
    """
    from pydicom import Dataset

    groups = dataset.get(EACH) or []
    pixels = _split_pixels(dataset, path)
    if groups and len(groups) != len(pixels):
        raise InputError(
            f"{path}: describes {len(groups)} of its {len(pixels)} frames; export it again"
        )
    shared = (*(dataset.get(SHARED) or ()), None)[0]
    del dataset.PixelData
    frames, stacks = [], set()
    for i, pixels_of_frame in enumerate(pixels):
        frame = Dataset()  # of elements that it shares with the others
        frame.update(dataset)
        frame.file_meta = dataset.file_meta
        frame.set_original_encoding(*dataset.original_encoding)
        frame.NumberOfFrames, frame.PixelData = 1, pixels_of_frame
        own = groups[i] if groups else None
        for name, keywords in _GROUPS.items():
            item = _find(own, name) or _find(shared, name)
            for keyword in keywords:
                if item is not None and keyword in item:
                    frame[keyword] = item[keyword]
        content = _find(own, "FrameContentSequence")
        stacks.add(str(content.get("StackID", "")) if content is not None else "")
        frames.append(frame)
    if len(stacks) > 1:
        raise InputError(f"{path}: holds {len(stacks)} stacks of frames; export one in a file")
    return frames


def _find(groups: Any, name: str) -> Any:
    """Returns the one item of a functional group, or None."""
    return (*((groups.get(name) or ()) if groups is not None else ()), None)[0]


def place_frames(frames: list[Any]) -> str:
    """Places frames of which the file tells no place: axial, in the file's order.

    Returns:
        A warning. Where no distance is given, it is taken as 1 mm.
    """
    first = frames[0]
    distances = [
        number[0]
        for keyword in ("SpacingBetweenSlices", "SliceThickness")
        if (number := read_numbers(first, keyword)) and number[0] > 0
    ]
    for i, frame in enumerate(frames):
        frame.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        frame.ImagePositionPatient = [0, 0, i * (*distances, 1.0)[0]]
    apart = "" if distances else "1 mm apart, "
    return f"frames without places: taken in the file's order, {apart}spacing and sides unsure"


def _split_pixels(dataset: Any, path: Path) -> list[bytes]:
    """Returns the bytes of each frame; of a compressed one encapsulated anew."""
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.uid import UID

    count = count_frames(dataset)
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2")
    data = dataset.PixelData
    if syntax.is_encapsulated:
        offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
        table = offsets if all(offsets) else None
        frames = generate_frames(data, number_of_frames=count, extended_offsets=table)
        return [encapsulate([frame]) for frame in frames]
    size = int(np.prod([int(dataset[k].value) for k in ("Rows", "Columns", "SamplesPerPixel")]))
    size = size * int(dataset.BitsAllocated) // 8
    if not 0 < size * count <= len(data):
        raise InputError(f"{path}: has damaged or truncated pixel data; copy or export it again")
    return [data[i * size : (i + 1) * size] for i in range(count)]
