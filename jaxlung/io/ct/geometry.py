"""What the grid of a volume says of its voxels: their size, and whether they are sheared."""

import numpy as np

from jaxlung.io.volumes import Grid, Volume, find_turn, import_nibabel, measure_unit

_RIGHT_ANGLE = 1e-3  # the largest cosine between axes that comes from rounded numbers


def axial_affine(grid: Grid) -> np.ndarray:
    """Returns [4, 4] from indices [x, y, z] of `read_volume`'s voxels to R-A-S, in mm.

    Example:
        >>> axial_affine(Grid((2, 2, 2), np.diag([-1.0, -1.0, 3.0, 1.0]), None))[:3, :3].tolist()
        [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 3.0]]
    """
    turn = find_turn(grid.affine_4x4)
    back_4x4 = import_nibabel().orientations.inv_ornt_aff(turn, grid.shape)
    affine_4x4: np.ndarray = (grid.affine_4x4 @ back_4x4)[:, [2, 1, 0, 3]]
    affine_4x4[:3] *= measure_unit(grid)
    return affine_4x4


def measure_voxel(volume: Volume) -> float:
    """Returns a voxel's size in mm3.

    A tilted gantry shears the voxels: then it is less than the product of the spacings.

    Example:
        >>> grid = Grid((4, 4, 2), np.diag([0.5, 0.5, 2.0, 1.0]), None)
        >>> measure_voxel(Volume(np.zeros((2, 4, 4)), (2.0, 0.5, 0.5), grid))
        0.5
    """
    axes_3x3 = volume.grid.affine_4x4[:3, :3]
    upright = np.prod(np.linalg.norm(axes_3x3, axis=0))
    return float(np.prod(volume.spacing) * abs(np.linalg.det(axes_3x3)) / upright)


def measure_pixel(volume: Volume) -> float:
    """Returns the area of a pixel of an axial slice, in mm2.

    Example:
        >>> grid = Grid((4, 4, 2), np.diag([0.5, 0.5, 2.0, 1.0]), None)
        >>> measure_pixel(Volume(np.zeros((2, 4, 4)), (2.0, 0.5, 0.5), grid))
        0.25
    """
    across_3, down_3, _ = axial_affine(volume.grid)[:3, :3].T
    return float(np.linalg.norm(np.cross(across_3, down_3)))


def find_heights(volume: Volume) -> np.ndarray:
    """Returns the scanner's coordinate towards the head of each slice's centre: [Z], in mm.

    Example:
        >>> grid = Grid((4, 4, 2), np.diag([0.5, 0.5, 2.0, 1.0]), None)
        >>> find_heights(Volume(np.zeros((2, 4, 4)), (2.0, 0.5, 0.5), grid)).tolist()
        [0.0, 2.0]
    """
    count, height, width = volume.voxels_ZxHxW.shape
    across, down, up, start = axial_affine(volume.grid)[2]
    centre = across * (width - 1) / 2 + down * (height - 1) / 2 + start
    heights_Z: np.ndarray = centre + up * np.arange(count)
    return heights_Z


def is_sheared(grid: Grid) -> bool:
    """Says whether the axes of the grid are not at right angles, as a tilted gantry leaves them.

    Example:
        >>> tilted = np.array([[1, 0, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> is_sheared(Grid((4, 4, 4), tilted, None)), is_sheared(Grid((4, 4, 4), np.eye(4), None))
        (True, False)
    """
    axes_3x3 = grid.affine_4x4[:3, :3] / np.linalg.norm(grid.affine_4x4[:3, :3], axis=0)
    return not np.allclose(axes_3x3.T @ axes_3x3, np.eye(3), 0, _RIGHT_ANGLE)
