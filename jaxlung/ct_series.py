"""A folder of DICOM files as one CT volume. Needs pydicom: extra jaxlung[ct]."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.errors import InputError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes to NIfTI's
_GAP = 0.01  # slices may be unevenly spaced by this share of their distance


def read_series(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the one CT series of a folder (not of folders in it).

    Returns:
        Hounsfield units float32 [columns, rows, slices], and the affine [4, 4] from such indices
        to millimetres, R-A-S (DICOM PS3.3 C.7.6.2.1.1).

    Raises:
        InputError: no pydicom, no DICOM file, another modality, several series, files of several
            shapes or directions, slices missing or twice, or pixels that cannot be decoded.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise InputError('a DICOM series needs pydicom: pip install "jaxlung[ct]"')
    slices = _slices(directory)
    orientation_6 = _numbers(slices[0], "ImageOrientationPatient", 6, directory)
    along_columns, along_rows = orientation_6[:3], orientation_6[3:]
    normal = np.cross(along_columns, along_rows)
    positions_Sx3 = np.array([_numbers(s, "ImagePositionPatient", 3, directory) for s in slices])
    order = np.argsort(positions_Sx3 @ normal, kind="stable")
    positions_Sx3 = positions_Sx3[order]
    step = _even_step(positions_Sx3 @ normal, directory)
    height, width = _numbers(slices[0], "PixelSpacing", 2, directory)
    affine_4x4 = np.eye(4)
    affine_4x4[:3, 0] = along_columns * width
    affine_4x4[:3, 1] = along_rows * height
    affine_4x4[:3, 2] = normal * step
    affine_4x4[:3, 3] = positions_Sx3[0]
    planes = [_hounsfield(slices[i], directory).T for i in order]
    return np.stack(planes, axis=-1), _LPS_TO_RAS @ affine_4x4


def _slices(directory: Path) -> list[Any]:
    import pydicom

    slices = []
    for path in sorted(p for p in directory.iterdir() if p.is_file()):
        if path.name.startswith(".") or path.name == "DICOMDIR":
            continue
        try:
            with warnings.catch_warnings():  # odd values in headers, quoted in the warning's text
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue  # notes, thumbnails
        except Exception as error:
            raise InputError(f"{path}: is damaged ({type(error).__name__}); replace it") from None
        if "PixelData" in dataset:
            slices.append(dataset)
    if not slices:
        raise InputError(f"{directory}: holds no DICOM image")
    modalities = {str(s.get("Modality", "")) for s in slices}
    if modalities != {"CT"}:
        shown = ", ".join(sorted(m or "none" for m in modalities))
        raise InputError(f"{directory}: Modality is {shown}; expected a series of CT alone")
    for field, what in (
        ("SeriesInstanceUID", "series"), ("Rows", "heights"), ("Columns", "widths"),
        ("PixelSpacing", "pixel spacings"), ("ImageOrientationPatient", "directions"),
    ):  # fmt: skip
        different = len({str(s.get(field, "")) for s in slices})
        if different > 1:
            raise InputError(f"{directory}: holds {different} {what}; keep one series in a folder")
    return slices


def _numbers(dataset: Any, field: str, count: int, directory: Path) -> np.ndarray:
    try:
        values = np.array([float(v) for v in dataset[field].value])
    except (KeyError, TypeError, ValueError):
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f"{directory}: a slice has no valid {field}; it cannot be placed")
    return values


def _even_step(heights_S: np.ndarray, directory: Path) -> float:
    if len(heights_S) < 2:
        raise InputError(f"{directory}: holds one slice; expected a whole series")
    steps = np.diff(heights_S)
    step = float(np.median(steps))
    if step <= 0 or steps.min() <= 0.5 * step:
        raise InputError(f"{directory}: holds two slices of one position; keep one of them")
    if np.abs(steps - step).max() > _GAP * step:
        raise InputError(
            f"{directory}: slices lie {steps.min():.3g} to {steps.max():.3g} mm apart; some are "
            f"missing, or the series is not of one scan"
        )
    return float((heights_S[-1] - heights_S[0]) / len(steps))


def _hounsfield(dataset: Any, directory: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # truncated pixels are but a warning there
            stored = dataset.pixel_array
        slope = float(dataset.get("RescaleSlope", 1))
        intercept = float(dataset.get("RescaleIntercept", 0))
    except Exception as error:
        number = dataset.get("InstanceNumber", "?")
        raise InputError(
            f"{directory}: the pixels of slice {number} cannot be decoded "
            f"({type(error).__name__}); replace the file or install a decoder"
        ) from None
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
