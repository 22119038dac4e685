"""Masks of CT volumes: whole labels, on the grid of their scan in whatever orientation."""

from pathlib import Path

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.volumes import (
    Grid,
    Volume,
    axial_shape,
    find_turn,
    import_nibabel,
    read_volume,
)

_NEAR = 0.1  # of the smallest side of a voxel: how far the corners of one grid may lie apart


def read_label_volume(path: Path) -> Volume:
    """Reads a mask of a volume; its labels are uint8 [Z, H, W].

    Raises:
        InputError: as `read_volume`; or it holds fractions, negative values or labels above 255.
    """
    volume = read_volume(path)
    voxels_ZxHxW = volume.voxels_ZxHxW
    lowest, highest = voxels_ZxHxW.min(), voxels_ZxHxW.max()
    # Slice by slice: a whole volume of remainders would not fit everywhere.
    is_float = voxels_ZxHxW.dtype.kind == "f"
    if lowest < 0 or (is_float and any((labels_HxW % 1).any() for labels_HxW in voxels_ZxHxW)):
        raise InputError(f"{path}: holds negative values or fractions; write labels, 0 and above")
    if highest > 255:
        raise InputError(f"{path}: holds values up to {highest:g}; write labels, 255 at most")
    return volume._replace(voxels_ZxHxW=voxels_ZxHxW.astype(np.uint8, copy=False))


def check_same_grid(mask: Grid, path: Path, other: Grid, other_path: Path) -> None:
    """Checks that two files have the same voxels, in whatever order of their axes.

    Raises:
        InputError: they have not.
    """
    if is_same_grid(mask, other):
        return
    raise InputError(
        f"{path}: lies on another grid than {other_path}; resample it to those voxels, or mend its "
        f"header if they are those already"
    )


def is_same_grid(first: Grid, second: Grid) -> bool:
    """Says whether two grids have the same voxels: as many, within a tenth of one's side.

    Example:
        >>> ras, las = np.eye(4), np.diag([-1.0, 1, 1, 1])
        >>> las[0, 3] = 3
        >>> is_same_grid(Grid((4, 5, 6), ras, None), Grid((4, 5, 6), las, None))
        True
    """
    if axial_shape(first) != axial_shape(second):
        return False
    apart_4x8 = _corners(first) - _corners(second)
    sides_3 = np.linalg.norm(first.affine_4x4[:3, :3], axis=0)
    return bool(np.linalg.norm(apart_4x8, axis=0).max() <= _NEAR * sides_3.min())


def _corners(grid: Grid) -> np.ndarray:
    """Returns the places of the first and last voxels, [4, 8], in the order of axial slices."""
    turn = find_turn(grid.affine_4x4)
    axial_4x4 = grid.affine_4x4 @ import_nibabel().orientations.inv_ornt_aff(turn, grid.shape)
    last = np.array(axial_shape(grid)) - 1
    corners_3x8 = np.stack(np.meshgrid(*([0, n] for n in last), indexing="ij")).reshape(3, 8)
    return axial_4x4 @ np.concatenate([corners_3x8, np.ones((1, 8))])
