"""A folder of DICOM files as one CT volume.

Only the attributes that `file.read_dataset`, `_PLACE` and a caller of `sort_slices` name are read,
and errors quote none of them but the modality.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.dicom.display import apply_rescale, read_numbers
from jaxlung.io.dicom.file import name_damage, read_dataset, read_modality
from jaxlung.io.dicom.pixels import read_stored_values
from jaxlung.io.dicom.signature import SUFFIXES, holds_image, is_dicom
from jaxlung.system.silence import silence

_PLACE = ("SeriesInstanceUID", "ImageOrientationPatient", "ImagePositionPatient")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes to NIfTI's
# How far a slice may lie from its even place, as a share of the step: scanners that round to
# 0.1 mm are off by a twelfth of a thin slice, a missing slice by a half of the step or more.
_UNEVEN = 0.1
_SAME = 1e-3  # of direction cosines and spacings, which carry some noise


class Slice(NamedTuple):
    path: Path
    dataset: Any
    series: str
    shape: tuple[int, int]  # rows and columns
    spacing_2: np.ndarray  # of rows, then of columns, mm
    directions_2x3: np.ndarray  # unit vectors along a row, then down a column (L, P, S)
    position_3: np.ndarray  # of the first pixel, mm (L, P, S)


def read_series(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the one CT series of a folder (not of folders in it).

    Returns:
        Hounsfield units float32 [columns, rows, slices], and the affine [4, 4] from such indices
        to millimetres, R-A-S (DICOM PS3.3 C.7.6.2.1.1). Its third column leads from slice to
        slice, aslant for a tilted gantry.

    Raises:
        InputError: pydicom is not installed; the folder holds no DICOM image, another modality or
            several series; slices differ in size or direction, are missing or stand twice, cannot
            be placed, have several frames or colours, or cannot be decoded.
    """
    with silence():
        slices, affine_4x4 = sort_slices(directory)
        first_CxR = _hounsfield(slices[0]).T  # before memory is taken for what a header claims
        hu_CxRxS = np.empty((*first_CxR.shape, len(slices)), np.float32)
        for i, one in enumerate(slices):
            hu_CxRxS[..., i] = _hounsfield(one).T if i else first_CxR
    return hu_CxRxS, affine_4x4


def sort_slices(directory: Path, also: Sequence[str] = ()) -> tuple[list[Slice], np.ndarray]:
    """Returns the slices in the order of `read_series`, and its affine. Call it in `silence`.

    Args:
        also: keywords to read beside those that matter here.

    Raises: as `read_series`, for what the headers say.
    """
    slices = _slices(directory, also)
    row_3, column_3 = slices[0].directions_2x3
    normal_3 = np.cross(row_3, column_3)
    slices.sort(key=lambda one: float(one.position_3 @ normal_3))
    step_3 = _even_step(np.array([one.position_3 for one in slices]), normal_3, directory)
    height, width = slices[0].spacing_2
    affine_4x4 = np.eye(4)
    affine_4x4[:3, 0] = row_3 * width
    affine_4x4[:3, 1] = column_3 * height
    affine_4x4[:3, 2] = step_3
    affine_4x4[:3, 3] = slices[0].position_3
    return slices, _LPS_TO_RAS @ affine_4x4


def _slices(directory: Path, also: Sequence[str]) -> list[Slice]:
    """Reads the headers of the folder's CT images, all of one series, size and direction."""
    slices = []
    modalities = set()
    for path in sorted(p for p in directory.iterdir() if p.is_file()):
        if path.name.startswith("."):
            continue
        if not is_dicom(path):
            # This may be a slice, without which the scan would be shorter.
            if path.suffix.lower() in SUFFIXES or path.stat().st_size == 0:
                raise InputError(f"{path}: is no DICOM file, or a damaged one; replace it")
            continue  # notes, thumbnails
        if not holds_image(path):
            continue  # a DICOMDIR, reports
        dataset = read_dataset(path, (*_PLACE, *also))
        modality = read_modality(dataset)
        if "PixelData" not in dataset:
            if modality in ("", "CT"):
                raise InputError(f"{path}: holds no image, or is truncated; replace or remove it")
            continue  # reports, contours
        modalities.add(modality or "none")
        if modality == "CT":
            slices.append(_slice(path, dataset))
    if not modalities:
        raise InputError(f"{directory}: holds no DICOM image; name the folder with the slices")
    if modalities != {"CT"}:
        shown = ", ".join(sorted(modalities))
        raise InputError(f"{directory}: Modality is {shown}; expected a series of CT alone")
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
                    f"{directory}: {first.path.name} and {one.path.name} differ in {what}; keep "
                    f"one series in a folder"
                )
    return slices


def _slice(path: Path, dataset: Any) -> Slice:
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
    return Slice(path, dataset, series, shape, spacing_2, directions_2x3, position_3)


def _even_step(positions_Sx3: np.ndarray, normal_3: np.ndarray, directory: Path) -> np.ndarray:
    """Returns the step [3] from slice to slice in mm; the slices are sorted along their normal."""
    count = len(positions_Sx3)
    if count < 2:
        raise InputError(f"{directory}: holds one slice; expected a whole series")
    steps = np.diff(positions_Sx3 @ normal_3)
    typical = float(np.median(steps))
    if steps.min() <= 0.5 * typical:
        raise InputError(f"{directory}: holds two slices of one position; keep one of them")
    step_3 = (positions_Sx3[-1] - positions_Sx3[0]) / (count - 1)
    even_Sx3 = positions_Sx3[0] + np.arange(count)[:, None] * step_3
    if np.linalg.norm(positions_Sx3 - even_Sx3, axis=1).max() > _UNEVEN * typical:
        raise InputError(
            f"{directory}: slices lie {steps.min():.3g} to {steps.max():.3g} mm apart, or on no "
            f"straight line; some are missing, or the series is not of one scan"
        )
    return step_3


def _hounsfield(one: Slice) -> np.ndarray:
    """Decodes a slice [rows, columns]. That a screen may show it inverted does not matter here."""
    with name_damage(one.path):
        return apply_rescale(read_stored_values(one.dataset, one.path), one.dataset, one.path)[0]
