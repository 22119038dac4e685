"""Brings scans of a tilted gantry onto a grid at right angles, which ITK and its viewers read.

The table moves aslant through the slices of a tilted gantry, so that each one lies a little beside
the one before. Here every slice stays in its own plane and is only moved within it, as dcm2niix
does (Li et al. 2016, doi:10.1016/j.jneumeth.2016.03.001): no values of two slices are mixed.
"""

from pathlib import Path

import cv2
import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.ct.geometry import axial_affine, is_sheared
from jaxlung.io.volumes import Grid, Volume, find_turn, import_nibabel
from jaxlung.system.files import write_whole

_AIR = -1000  # HU, beside a slice


def straighten(volume: Volume, path: Path) -> Volume:
    """Moves the slices of a sheared scan so that their edges lie above one another.

    The slices get wider by what they are moved, and air comes in there. A slice moves by fractions
    of a pixel, between which its values are interpolated linearly.

    Args:
        volume: in Hounsfield units, int16.
        path: of its file, for messages.

    Returns:
        the scan in mm, on a grid of right angles, whose axes are those of its slices: columns,
        rows, and the direction through them. A warning says so.

    Raises:
        InputError: rows and columns are not at right angles either, as no scanner leaves them.
    """
    affine_4x4 = axial_affine(volume.grid)
    across_3, down_3, step_3 = affine_4x4[:3, :3].T
    count, height, width = volume.voxels_ZxHxW.shape
    normal_3 = np.cross(across_3, down_3)
    normal_3 /= np.linalg.norm(normal_3)
    up_3 = (step_3 @ normal_3) * normal_3
    straight_4x4 = affine_4x4.copy()
    straight_4x4[:3, 2] = up_3
    aslant_3 = step_3 - up_3  # by which a slice lies beside the one before
    moves_2 = np.array([aslant_3 @ axis / (axis @ axis) for axis in (across_3, down_3)])  # pixels
    before_2 = np.floor(np.minimum(moves_2 * (count - 1), 0)).astype(int)
    after_2 = np.ceil(np.maximum(moves_2 * (count - 1), 0)).astype(int)
    straight_4x4[:3, 3] += across_3 * before_2[0] + down_3 * before_2[1]
    more_x, more_y = after_2 - before_2
    grid = Grid((width + more_x, height + more_y, count), straight_4x4, None)
    # Where the slices are not even near to axial, "columns, rows, up" is not the axes' order.
    if is_sheared(grid) or not np.array_equal(find_turn(straight_4x4), [[2, 1], [1, 1], [0, 1]]):
        raise InputError(f"{path}: is sheared otherwise than by a tilted gantry; resample it first")
    voxels_ZxHxW = np.full((count, height + more_y, width + more_x), _AIR, np.int16)
    for z, slice_HxW in enumerate(volume.voxels_ZxHxW):
        offset_2 = moves_2 * z - before_2
        cv2.warpAffine(
            np.ascontiguousarray(slice_HxW, np.int16),
            np.array([[1, 0, offset_2[0]], [0, 1, offset_2[1]]]),
            voxels_ZxHxW.shape[:0:-1],
            dst=voxels_ZxHxW[z],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_AIR,
        )
    columns, rows, along = np.linalg.norm(straight_4x4[:3, :3], axis=0).tolist()
    said = "tilted gantry: resampled to slices at right angles"
    warnings = (*volume.warnings, said)
    return Volume(voxels_ZxHxW, (along, rows, columns), grid, warnings, volume.placed)


def write_scan(path: Path, volume: Volume) -> None:
    """Writes a scan of `straighten` as NIfTI, int16; the file appears whole or not at all.

    Args:
        path: ends in .nii.gz.
    """
    nibabel = import_nibabel()
    image = nibabel.Nifti1Image(volume.voxels_ZxHxW.transpose(2, 1, 0), volume.grid.affine_4x4)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.grid.affine_4x4, code="scanner")
    with write_whole(path, by_suffix=True) as partial:
        nibabel.save(image, partial)
