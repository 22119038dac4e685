"""CT volumes as axial slices, and masks of them back on the file's own grid. Extra: jaxlung[ct].

This is the one table of volume formats, SUFFIXES and `_open`; NIfTI is read here, DICOM and raw
volumes in modules of their own.

A volume is turned, by flips and transpositions alone, into slices as a radiologist looks at them:
[Z, H, W] from feet to head, rows from front to back, columns from the patient's right to left (the
axes S, P, L). The same voxels are there, so the way back is exact, whatever the file's orientation.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.ct import raw_volumes
from jaxlung.io.ct.rounding import round_slices
from jaxlung.io.dicom.signature import is_dicom
from jaxlung.system.files import write_whole
from jaxlung.system.silence import silence

SUFFIXES = (".nii", ".nii.gz", *raw_volumes.SUFFIXES)
_AXES = ("S", "P", "L")
_IN_MM = {1: 1000.0, 3: 1e-3}  # NIfTI's codes of metres and micrometres
# What a NIfTI header says of the grid. Its free text may name a patient and is left behind.
_GEOMETRY = """
pixdim xyzt_units qform_code sform_code quatern_b quatern_c quatern_d qoffset_x qoffset_y qoffset_z
srow_x srow_y srow_z
""".split()


class Grid(NamedTuple):
    """The voxel grid of a file."""

    shape: tuple[int, int, int]
    affine_4x4: np.ndarray  # voxel indices to R-A-S, in the file's unit (mm, mostly)
    header: Any  # nibabel's Nifti1Header or Nifti2Header; None for other formats


class Volume(NamedTuple):
    """Voxels as axial slices."""

    voxels_ZxHxW: np.ndarray  # of a CT: Hounsfield units
    spacing: tuple[float, float, float]  # mm between slices, rows and columns
    grid: Grid
    warnings: tuple[str, ...] = ()  # what is odd about it, in words
    placed: bool = True  # False: the file does not tell sides and sizes; they are assumed


def is_volume(path: Path) -> bool:
    """Says whether a path may be a volume: a file by its suffix, or a folder of a DICOM series."""
    return path.name.lower().endswith(SUFFIXES) or path.is_dir()


def volume_stem(path: Path) -> str:
    """Returns the name of the file or folder without the suffix of a volume.

    Example:
        >>> volume_stem(Path("ct/scan.1.nii.gz"))
        'scan.1'
    """
    name = path.name or path.resolve().name  # the folder "." has no name of its own
    longest_first = sorted(SUFFIXES, key=len, reverse=True)
    return next((name[: -len(s)] for s in longest_first if name.lower().endswith(s)), name)


def read_volume(path: str | os.PathLike[str], *, rounded: bool = False) -> Volume:
    """Reads a NIfTI, MetaImage or NRRD file, a DICOM series' folder, or its file of many frames.

    Args:
        rounded: round floats and scaled values to int16. A scan in Hounsfield units loses nothing
            by it, and is never whole in memory as floats; a mask of fractions would be lost.

    Returns:
        voxels [Z, H, W] as axial slices, in Hounsfield units for a CT; integers as stored, or
        float32 where the file scales its values. A DICOM series is rounded to int16 anyway.
        Spacings are in mm.

    Raises:
        InputError: an extra is not installed; the file cannot be read, is damaged, has not three
            dimensions, does not say how it lies or holds values that are not finite; or the
            series has gaps.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "mask.nii.gz"
        >>> write_mask(path, np.ones((2, 4, 3), bool), Grid((3, 4, 2), np.eye(4), None))
        >>> volume = read_volume(path)
        >>> volume.voxels_ZxHxW.shape, volume.spacing
        ((2, 4, 3), (1.0, 1.0, 1.0))
    """
    grid, read_voxels, warning = _open(Path(path))
    turn = find_turn(grid.affine_4x4)
    turned = from_grid(read_voxels(rounded), grid)
    sizes = np.linalg.norm(grid.affine_4x4[:3, :3], axis=0) * measure_unit(grid)
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = sizes  # the file's axis i is axis turn[i, 0] of ours
    z, y, x = (float(side) for side in spacing)
    if _is_default(grid.affine_4x4):
        warning = warning or "default header: spacing and sides unsure"
    return Volume(turned, (z, y, x), grid, (warning,) if warning else (), placed=not warning)


def measure_unit(grid: Grid) -> float:
    """Returns the millimetres of the unit that the grid's affine counts in."""
    unit = 2 if grid.header is None else int(grid.header["xyzt_units"]) & 7
    return _IN_MM.get(unit, 1.0)


def _is_default(affine_4x4: np.ndarray) -> bool:
    """Says whether it is what libraries write that know of no place: voxels of 1 at the origin."""
    default_4x4 = np.eye(4)
    default_4x4[:3, :3] = np.sign(affine_4x4[:3, :3]) * default_4x4[:3, :3]
    return bool(np.allclose(affine_4x4, default_4x4, 0, 1e-6))


def read_grid(path: Path) -> Grid:
    """Reads the grid of a volume from the headers alone.

    Raises: as `read_volume`, for what the headers say.
    """
    if path.is_dir() or is_dicom(path):
        from jaxlung.io.dicom.series import sort_slices

        with silence():
            slices, series = sort_slices(path)
        return Grid((*slices[0].shape[::-1], len(slices)), series.affine_4x4, None)
    return _open(path).grid


class _Opened(NamedTuple):
    """A file whose header was read."""

    grid: Grid
    read_voxels: Callable[[bool], np.ndarray]  # in the file's own order; True: rounded to int16
    warning: str = ""  # where the grid is assumed


def _open(path: Path) -> _Opened:
    if path.is_dir() or is_dicom(path):
        from jaxlung.io.dicom.series import read_series

        voxels, series = read_series(path)
        return _Opened(
            Grid(voxels.shape, series.affine_4x4, None), lambda _: voxels, series.warning
        )
    if path.suffix.lower() in raw_volumes.SUFFIXES:
        raw = raw_volumes.open_raw_volume(path)

        def read_raw(rounded: bool) -> np.ndarray:
            stored = raw.read_voxels()
            return round_slices(stored) if rounded and stored.dtype.kind == "f" else stored

        return _Opened(Grid(raw.shape, raw.affine_4x4, None), read_raw)
    return _open_nifti(path)


def _open_nifti(path: Path) -> _Opened:
    """Opens a file whose header says all that is needed; errors quote none of its text."""
    nibabel = import_nibabel()
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with silence():
            # Kept open, or each slice of a compressed file would be unpacked from its start.
            image = nibabel.load(path, keep_file_open=True)
            affine_4x4 = np.asarray(image.affine, np.float64)
    except Exception as error:  # gzip and zlib raise many types on damaged files
        raise InputError(f"{path}: cannot be read as NIfTI ({type(error).__name__})") from None
    header = image.header
    if not isinstance(header, nibabel.Nifti1Header):
        raise InputError(f"{path}: is {type(image).__name__} by its content; expected NIfTI")
    shape = image.shape[:3] if image.shape[3:] == (1,) else image.shape
    if header.get_data_dtype().names:
        raise InputError(f"{path}: is in colour; expected CT in Hounsfield units")
    if len(shape) != 3 or 0 in shape or header.get_data_dtype().kind not in "uif":
        raise InputError(f"{path}: has shape {image.shape}; expected one volume of numbers")
    placed = header["sform_code"] > 0 or header["qform_code"] > 0
    if not (placed and np.isfinite(affine_4x4).all() and np.linalg.cond(affine_4x4[:3, :3]) < 1e6):
        raise InputError(f"{path}: does not say how its voxels lie (sform, qform); mend the header")

    def read_voxels(rounded: bool) -> np.ndarray:
        try:
            with silence():
                stored = image.dataobj
                # Scaled values are 64 bits wide unless asked for as 32.
                is_plain = (stored.slope, stored.inter) == (1, 0)
                if is_plain and stored.dtype.kind != "f":
                    voxels = np.asanyarray(stored)
                elif rounded:
                    voxels = round_slices(stored)
                elif is_plain:
                    voxels = np.asanyarray(stored)
                else:
                    voxels = image.get_fdata("unchanged", np.float32)
        except FloatingPointError:
            voxels = np.array([np.nan])
        except Exception as error:  # as above
            raise InputError(f"{path}: is damaged or truncated ({type(error).__name__})") from None
        if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
            raise InputError(f"{path}: holds NaN or infinite values; replace them first")
        return voxels.reshape(shape)

    return _Opened(Grid(shape, affine_4x4, header), read_voxels)


def axial_shape(grid: Grid) -> tuple[int, int, int]:
    """Returns [Z, H, W] of the slices that `read_volume` makes of the grid."""
    z, y, x = (grid.shape[axis] for axis in np.argsort(find_turn(grid.affine_4x4)[:, 0]))
    return z, y, x


def find_turn(affine_4x4: np.ndarray) -> np.ndarray:
    """Returns nibabel's orientation transform from the file's axes to those of axial slices."""
    orientations = import_nibabel().orientations
    return orientations.ornt_transform(
        orientations.io_orientation(affine_4x4), orientations.axcodes2ornt(_AXES)
    )


def from_grid(voxels: np.ndarray, grid: Grid) -> np.ndarray:
    """Turns voxels of grid.shape into axial slices [Z, H, W]."""
    turn = find_turn(grid.affine_4x4)
    turned: np.ndarray = import_nibabel().orientations.apply_orientation(voxels, turn)
    return turned


def to_grid(mask_ZxHxW: np.ndarray, grid: Grid) -> np.ndarray:
    """Brings a mask of axial slices, or their voxels, back to the axes of its file.

    Args:
        mask_ZxHxW: integers or bool, or probabilities of floats, or int16 Hounsfield units.

    Returns:
        uint8 of grid.shape; for probabilities float32, and int16 stays.

    Raises:
        ValueError: the mask has another shape than the grid.
    """
    kinds = {"f": np.float32, "i": np.int16 if mask_ZxHxW.dtype == np.int16 else np.uint8}
    kind = kinds.get(mask_ZxHxW.dtype.kind, np.uint8)
    orientations = import_nibabel().orientations
    back = orientations.ornt_transform(
        orientations.axcodes2ornt(_AXES), orientations.io_orientation(grid.affine_4x4)
    )
    mask = orientations.apply_orientation(mask_ZxHxW.astype(kind), back)
    if mask.shape != grid.shape:
        raise ValueError(f"mask of shape {mask.shape} for a grid of {grid.shape}")
    return np.ascontiguousarray(mask)


def write_mask(path: Path, mask_ZxHxW: np.ndarray, grid: Grid, unit: float = 1) -> None:
    """Writes a mask as NIfTI on its file's own grid; the file appears whole or not at all.

    Args:
        path: ends in .nii.gz.
        mask_ZxHxW: integers or bool, or probabilities of floats, in the order of `read_volume`.
        grid: of the volume, as `read_volume` returned it.
        unit: what a value of 1 stands for; readers of the file get the values times this.

    Raises:
        ValueError: the mask has another shape than the grid.
    """
    image = make_nifti(mask_ZxHxW, grid)
    if unit != 1:
        image.header.set_slope_inter(unit, 0)
    with write_whole(path, by_suffix=True) as partial:
        import_nibabel().save(image, partial)


def make_nifti(mask_ZxHxW: np.ndarray, grid: Grid) -> Any:
    """Makes nibabel's image of a mask, as for `to_grid`, whose header tells the geometry alone."""
    nibabel = import_nibabel()
    # NIfTI-2 has an affine of 64 bits, which NIfTI-1 would round.
    wide = isinstance(grid.header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if wide else nibabel.Nifti1Image
    voxels = to_grid(mask_ZxHxW, grid)
    if grid.header is not None:
        voxels = voxels.reshape(grid.header.get_data_shape())  # perhaps with a fourth axis of 1
    image = kind(voxels, grid.affine_4x4)
    if grid.header is None:
        image.header.set_xyzt_units("mm")
        image.set_sform(grid.affine_4x4, code="scanner")
    else:
        for field in _GEOMETRY:
            image.header[field] = grid.header[field]
    return image


def import_nibabel() -> Any:
    """Imports nibabel, or raises InputError that names the extra."""
    if importlib.util.find_spec("nibabel") is None:
        raise InputError('NIfTI and CT volumes need nibabel: pip install "jaxlung[ct]"')
    with silence():
        import nibabel
    return nibabel
