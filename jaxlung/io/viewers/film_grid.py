"""Where a film lies in space, for formats of volumes."""

import numpy as np

from jaxlung.io.volumes import Grid


def make_film_grid(height: int, width: int, spacing: tuple[float, float] | None = None) -> Grid:
    """Makes the grid of one slice on which ITK, and so 3D Slicer, lays a film.

    A film has no place in space. These programs lay its first pixel at the origin, its columns from
    right to left and its rows from front to back, as in an axial slice. A mask on this grid lies on
    its film, and the patient's right is on the picture's left.

    Args:
        height, width: pixels.
        spacing: height and width of a pixel in mm; None: not known, 1.

    Example:
        >>> make_film_grid(20, 10, (0.2, 0.1)).affine_4x4.diagonal().tolist()  # to R-A-S
        [-0.1, -0.2, 1.0, 1.0]
    """
    down, across = spacing or (1.0, 1.0)
    return Grid((width, height, 1), np.diag([-across, -down, 1.0, 1.0]), None)
