"""CT volumes as axial slices, and masks of them back on the file's own grid. Extra: jaxlung[ct].

A volume is turned, by flips and transpositions alone, into slices as a radiologist looks at them:
[Z, H, W] from feet to head, rows from front to back, columns from the patient's right to left (the
axes S, P, L). The same voxels are there, so the way back is exact, whatever the file's orientation.
"""

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError

SUFFIXES = (".nii", ".nii.gz")
_AXES = ("S", "P", "L")
_AIR = -500.0  # Hounsfield units; a chest holds air, at about -1000
# What a NIfTI header says of the grid; its free text may name a patient and is left behind.
_GEOMETRY = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


class Grid(NamedTuple):
    """The voxel grid of a file."""

    shape: tuple[int, int, int]
    affine_4x4: np.ndarray  # voxel indices to millimetres, R-A-S, as NIfTI has it
    header: Any  # nibabel's Nifti1Header, or None for DICOM


class Volume(NamedTuple):
    """Voxels as axial slices."""

    voxels_ZxHxW: np.ndarray  # of a CT: Hounsfield units
    spacing: tuple[float, float, float]  # mm between slices, rows and columns
    grid: Grid


def is_volume(path: Path) -> bool:
    """A NIfTI file by its name, or a folder, as of a DICOM series."""
    return path.name.lower().endswith(SUFFIXES) or path.is_dir()


def volume_stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz."""
    name = path.name
    return next((name[: -len(s)] for s in SUFFIXES[::-1] if name.lower().endswith(s)), name)


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Reads a NIfTI file, or a folder that holds one DICOM series.

    Raises:
        InputError: a missing extra, an unreadable or damaged file, one that is not
            three-dimensional, values that are not finite, or a series with gaps.
    """
    path = Path(path)
    if path.is_dir():
        from jaxlung.ct_series import read_series

        voxels, affine_4x4 = read_series(path)
        return _canonical(voxels, Grid(voxels.shape, affine_4x4, None))
    nibabel = import_nibabel()
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        image = nibabel.load(path)
        voxels = np.asanyarray(image.dataobj)
        affine_4x4 = np.asarray(image.affine, np.float64)
    except Exception as error:  # nibabel, gzip and zlib raise many types on damaged files
        raise InputError(f"{path}: cannot be read as NIfTI ({type(error).__name__})") from error
    if voxels.ndim == 4 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3 or 0 in voxels.shape or voxels.dtype.kind not in "uif":
        raise InputError(f"{path}: has shape {voxels.shape}; expected one volume of numbers")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise InputError(f"{path}: holds NaN or infinite values; replace them first")
    if not np.isfinite(affine_4x4).all() or abs(np.linalg.det(affine_4x4[:3, :3])) < 1e-9:
        raise InputError(f"{path}: its affine does not say where the voxels lie; mend the header")
    return _canonical(voxels, Grid(voxels.shape, affine_4x4, image.header))


def _canonical(voxels: np.ndarray, grid: Grid) -> Volume:
    nibabel = import_nibabel()
    turn = _turn(grid.affine_4x4)
    sizes = np.linalg.norm(grid.affine_4x4[:3, :3], axis=0)
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = sizes  # the file's axis i is axis turn[i, 0] of ours
    turned = nibabel.orientations.apply_orientation(voxels, turn)
    z, y, x = (float(side) for side in spacing)
    return Volume(turned, (z, y, x), grid)


def _turn(affine_4x4: np.ndarray) -> np.ndarray:
    orientations = import_nibabel().orientations
    return orientations.ornt_transform(
        orientations.io_orientation(affine_4x4), orientations.axcodes2ornt(_AXES)
    )


def check_hounsfield(volume: Volume, path: Path) -> None:
    """Raises InputError for a volume without air, such as one scaled to 8 bits."""
    lowest = float(volume.voxels_ZxHxW.min())
    if lowest > _AIR:
        raise InputError(
            f"{path}: its lowest value is {lowest:g}, so it holds no air in Hounsfield units; "
            f"rescale it"
        )


def window(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """Hounsfield units to uint8: `low` and below is 0, `high` and above 255."""
    scaled = (np.clip(hu, low, high).astype(np.float32) - low) * (255.0 / (high - low))
    return np.rint(scaled).astype(np.uint8)


def to_grid(mask_ZxHxW: np.ndarray, grid: Grid) -> np.ndarray:
    """Brings a mask of axial slices back to the axes of its file: uint8 of grid.shape."""
    orientations = import_nibabel().orientations
    back = orientations.ornt_transform(
        orientations.axcodes2ornt(_AXES), orientations.io_orientation(grid.affine_4x4)
    )
    mask = orientations.apply_orientation(mask_ZxHxW.astype(np.uint8), back)
    if mask.shape != grid.shape:
        raise ValueError(f"mask of shape {mask.shape} for a grid of {grid.shape}")
    return np.ascontiguousarray(mask)


def write_mask(path: Path, mask_ZxHxW: np.ndarray, grid: Grid) -> None:
    """Writes a mask as NIfTI on its file's own grid; the file appears whole or not at all.

    Args:
        path: ends in .nii.gz.
        mask_ZxHxW: integers or bool, as `read_volume` turns slices.
    """
    nibabel = import_nibabel()
    image = nibabel.Nifti1Image(to_grid(mask_ZxHxW, grid), grid.affine_4x4)
    if isinstance(grid.header, nibabel.Nifti1Header):
        for field in _GEOMETRY:
            image.header[field] = grid.header[field]
    partial = path.with_name(f".partial_{path.name}")
    try:
        nibabel.save(image, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def import_nibabel() -> Any:
    """Raises InputError that names the extra where nibabel is not installed."""
    if importlib.util.find_spec("nibabel") is None:
        raise InputError('CT volumes need nibabel: pip install "jaxlung[ct]"')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nibabel
    return nibabel
