"""DICOM files as one CT volume: a folder of slices, or one file of many frames.

Only the attributes that `file.read_dataset`, `_READ` and a caller of `sort_slices` name are read,
and errors quote none of them but the modality.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.ct.raw_volumes import LPS_TO_RAS, is_voxel_file
from jaxlung.io.ct.rounding import to_int16
from jaxlung.io.dicom.display import apply_rescale, read_numbers
from jaxlung.io.dicom.file import name_damage, read_dataset, read_modality
from jaxlung.io.dicom.frames import ATTRIBUTES, EACH, is_multiframe, place_frames, split_frames
from jaxlung.io.dicom.pixels import read_stored_values
from jaxlung.io.dicom.signature import (
    SUFFIXES,
    holds_image,
    read_start,
    starts_capture,
    starts_dicom,
    starts_image,
    starts_localizer,
    starts_slice,
)
from jaxlung.io.passed_over import is_hidden, name_kind
from jaxlung.system.silence import silence

_PLACE = ("SeriesInstanceUID", "ImageOrientationPatient", "ImagePositionPatient")
_READ = (*_PLACE, *ATTRIBUTES)
# How far a slice may lie from its even place, as a share of the step: scanners that round to
# 0.1 mm are off by a twelfth of a thin slice, a missing slice by a half of the step or more.
_UNEVEN = 0.1
_SAME = 1e-3  # of direction cosines and spacings, which carry some noise


class Slice(NamedTuple):
    path: Path
    frame: int | None  # from 1, in a file of several; None: the file is the slice
    dataset: Any
    series: str
    shape: tuple[int, int]  # rows and columns
    spacing_2: np.ndarray  # of rows, then of columns, mm
    directions_2x3: np.ndarray  # unit vectors along a row, then down a column (L, P, S)
    position_3: np.ndarray  # of the first pixel, mm (L, P, S)

    @property
    def name(self) -> str:
        """The file's name, and the frame's number."""
        return self.path.name if self.frame is None else f"{self.path.name}, frame {self.frame},"


class Series(NamedTuple):
    """What a series is beside its slices."""

    affine_4x4: np.ndarray
    """From indices [column, row, slice] to millimetres, R-A-S (DICOM PS3.3 C.7.6.2.1.1). The third
    column leads from slice to slice, aslant for a tilted gantry."""
    warning: str  # where the file tells no places of its frames; else ""


def read_series(place: Path) -> tuple[np.ndarray, Series]:
    """Reads the one CT series of a folder (not of folders in it), or a file of many frames.

    Returns:
        Hounsfield units int16 [columns, rows, slices], rounded to whole ones, and the rest.

    Raises:
        InputError: pydicom is not installed; there is no DICOM image, another modality or
            several series; slices differ in size or direction, are missing or stand twice, cannot
            be placed, have colours, or cannot be decoded.
    """
    with silence():
        slices, series = sort_slices(place)
        first_CxR = _hounsfield(slices[0]).T  # before memory is taken for what a header claims
        hu_CxRxS = np.empty((*first_CxR.shape, len(slices)), np.int16)
        for i, one in enumerate(slices):
            hu_CxRxS[..., i] = to_int16(_hounsfield(one).T if i else first_CxR)
    return hu_CxRxS, series


def sort_slices(place: Path, also: Sequence[str] = ()) -> tuple[list[Slice], Series]:
    """Returns the slices in the order of `read_series`. Call it in `silence`.

    Args:
        also: keywords to read beside those that matter here.

    Raises: as `read_series`, for what the headers say.
    """
    slices, warning = _slices(place, also)
    row_3, column_3 = slices[0].directions_2x3
    normal_3 = np.cross(row_3, column_3)
    slices.sort(key=lambda one: float(one.position_3 @ normal_3))
    step_3 = _even_step(slices, normal_3, place)
    height, width = slices[0].spacing_2
    affine_4x4 = np.eye(4)
    affine_4x4[:3, 0] = row_3 * width
    affine_4x4[:3, 1] = column_3 * height
    affine_4x4[:3, 2] = step_3
    affine_4x4[:3, 3] = slices[0].position_3
    return slices, Series(LPS_TO_RAS @ affine_4x4, warning)


def holds_slices(folder: Path) -> bool:
    """Says whether slices of a scan lie in the folder itself, or other DICOM images."""
    files = (file for file in sorted(folder.iterdir()) if not is_hidden(file.name))
    return any(holds_image(file) and not name_file(file) for file in files)


def name_file(file: Path) -> str:
    """Names a file in a folder of CT that is no slice, in words; "" of what is read."""
    start = read_start(file)
    if is_voxel_file(file):
        return ""
    if starts_image(start, file.name):
        return name_aside(start, functools.partial(open, file, "rb"))
    return name_kind(start, file.name)


def name_aside(start: bytes, open_file: Callable[[], Any]) -> str:
    """Names an image that is no slice of a scan; "" of a slice, or an image of another kind.

    Args:
        start: the file's first `signature.START` bytes.
        open_file: opens it as a binary file, for a header that these do not hold.
    """
    if starts_localizer(start):
        return "localizer"
    if not starts_capture(start):
        return ""
    try:  # a scan that was made a Secondary Capture may say where it lies
        import pydicom

        with silence(), open_file() as file:
            tags = ["ImagePositionPatient", "NumberOfFrames"]
            dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=tags)
            is_slice = "ImagePositionPatient" in dataset or is_multiframe(dataset)
        return "" if is_slice else "screenshot"
    except Exception:  # reading the image says what is wrong
        return ""


def _slices(place: Path, also: Sequence[str]) -> tuple[list[Slice], str]:
    """Reads the headers of the CT images at a place, all of one series, size and direction.

    Returns:
        The slices, and a warning or "".
    """
    images, aside = _read_headers(place, also)
    modalities = {read_modality(dataset) or "none" for _, dataset in images}
    if not images:
        counts = " and ".join(f"{count} {kind}" for kind, count in sorted(aside.items()))
        what = f"no slice of a scan, but {counts}" if counts else "no DICOM image"
        raise InputError(f"{place}: holds {what}; name the folder with the slices")
    if modalities != {"CT"}:
        shown = ", ".join(sorted(modalities))
        raise InputError(f"{place}: Modality is {shown}; expected a series of CT alone")
    slices, warning = [], ""
    for path, dataset in images:
        with name_damage(path):
            if not is_multiframe(dataset):
                slices.append(_slice(path, None, dataset))
                continue
            frames = split_frames(dataset, path)
            if not dataset.get(EACH):
                if len(images) > 1:
                    raise InputError(
                        f"{path}: has {len(frames)} frames without places, beside other images; "
                        f"keep it in a folder of its own"
                    )
                warning = place_frames(frames)
        slices += [_slice(path, number, frame) for number, frame in enumerate(frames, 1)]
    first = slices[0]
    for one in slices:
        for what, same in (
            ("series", one.series == first.series),
            ("size", one.shape == first.shape),
            ("pixel spacing", np.allclose(one.spacing_2, first.spacing_2, _SAME, 0)),
            ("direction", np.allclose(one.directions_2x3, first.directions_2x3, 0, _SAME)),
        ):
            if not same:
                raise InputError(
                    f"{place}: {first.name} and {one.name} differ in {what}; keep one series in a "
                    f"folder"
                )
    return slices, warning


def _read_headers(place: Path, also: Sequence[str]) -> tuple[list[tuple[Path, Any]], Counter[str]]:
    """Reads the images at a place, and counts those that are no slices, by their kind."""
    images = []
    aside = Counter[str]()
    for path in sorted(place.iterdir()) if place.is_dir() else [place]:
        if is_hidden(path.name) or not path.is_file():
            continue
        start = read_start(path)
        if not starts_dicom(start, path.name):
            # This may be a slice, without which the scan would be shorter.
            has_suffix = path.suffix and not path.suffix[1:].isdigit()  # 1.2.840.7 has none
            if path.suffix.lower() in SUFFIXES or not (has_suffix or path.stat().st_size):
                raise InputError(f"{path}: is no DICOM file, or a damaged one; replace it")
            continue  # notes, thumbnails
        if not starts_image(start, path.name):
            continue  # a DICOMDIR, reports
        kind = name_aside(start, functools.partial(open, path, "rb"))
        if kind == "localizer" or (kind and path != place):  # of a named film: the modality
            aside[kind] += 1
            continue
        dataset = read_dataset(path, (*_READ, *also))
        with name_damage(path):
            modality = read_modality(dataset)
        if "PixelData" in dataset:
            images.append((path, dataset))
        elif modality in ("", "CT") and starts_slice(start):
            raise InputError(f"{path}: holds no image, or is truncated; replace or remove it")
    return images, aside


def _slice(path: Path, frame: int | None, dataset: Any) -> Slice:
    def valid(keyword: str, count: int) -> np.ndarray:
        values = np.array(read_numbers(dataset, keyword))
        if len(values) != count:
            raise InputError(f"{path}: has no valid {keyword}, so that it cannot be placed")
        return values

    with name_damage(path):
        spacing_2 = valid("PixelSpacing", 2)
        directions_2x3 = valid("ImageOrientationPatient", 6).reshape(2, 3)
        position_3 = valid("ImagePositionPatient", 3)
        if spacing_2.min() <= 0:
            raise InputError(f"{path}: has no valid PixelSpacing, so that it cannot be placed")
        if not np.allclose(directions_2x3 @ directions_2x3.T, np.eye(2), 0, 1e-2):
            raise InputError(
                f"{path}: its ImageOrientationPatient is no pair of directions at right angles"
            )
        if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
            raise InputError(f"{path}: is a colour image; expected CT in Hounsfield units")
        shape = int(dataset.Rows), int(dataset.Columns)
        series = str(dataset.get("SeriesInstanceUID", ""))
    return Slice(path, frame, dataset, series, shape, spacing_2, directions_2x3, position_3)


def _even_step(slices: Sequence[Slice], normal_3: np.ndarray, place: Path) -> np.ndarray:
    """Returns the step [3] from slice to slice in mm; the slices are sorted along their normal."""
    positions_Sx3 = np.array([one.position_3 for one in slices])
    count = len(slices)
    if count < 2:
        remedy = "" if place.is_dir() else "; name the folder of its series"
        raise InputError(f"{place}: holds one slice; expected a whole series{remedy}")
    steps = np.diff(positions_Sx3 @ normal_3)
    typical = float(np.median(steps))
    if steps.min() <= 0.5 * typical:
        first = int(np.argmin(steps))
        names = " and ".join(one.name for one in slices[first : first + 2])
        more = int((steps <= 0.5 * typical).sum()) - 1
        others = f" (and {more} other pairs)" if more else ""
        raise InputError(f"{place}: {names} lie at one position{others}; keep one of them")
    step_3 = (positions_Sx3[-1] - positions_Sx3[0]) / (count - 1)
    even_Sx3 = positions_Sx3[0] + np.arange(count)[:, None] * step_3
    if np.linalg.norm(positions_Sx3 - even_Sx3, axis=1).max() > _UNEVEN * typical:
        raise InputError(
            f"{place}: slices lie {steps.min():.3g} to {steps.max():.3g} mm apart, or on no "
            f"straight line; some are missing, or the series is not of one scan"
        )
    return step_3


def _hounsfield(one: Slice) -> np.ndarray:
    """Decodes a slice [rows, columns]. That a screen may show it inverted does not matter here."""
    with name_damage(one.path):
        return apply_rescale(read_stored_values(one.dataset, one.path), one.dataset, one.path)[0]
