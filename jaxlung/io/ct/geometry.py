"""What the grid of a volume says of its voxels: their size, and whether they are sheared."""

import numpy as np

from jaxlung.io.volumes import Grid, Volume

_RIGHT_ANGLE = 1e-3  # the largest cosine between axes that comes from rounded numbers


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


def is_sheared(grid: Grid) -> bool:
    """Says whether the axes of the grid are not at right angles, as a tilted gantry leaves them.

    Example:
        >>> tilted = np.array([[1, 0, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> is_sheared(Grid((4, 4, 4), tilted, None)), is_sheared(Grid((4, 4, 4), np.eye(4), None))
        (True, False)
    """
    axes_3x3 = grid.affine_4x4[:3, :3] / np.linalg.norm(grid.affine_4x4[:3, :3], axis=0)
    return not np.allclose(axes_3x3.T @ axes_3x3, np.eye(3), 0, _RIGHT_ANGLE)
