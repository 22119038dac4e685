"""Rounds Hounsfield units to whole ones, which take half of the memory of floats."""

from typing import Any

import numpy as np


def to_int16(values: np.ndarray) -> np.ndarray:
    """Rounds numbers to int16; those beyond its range become its ends.

    Example:
        >>> to_int16(np.array([-1e6, -0.6, 7.0])).tolist()
        [-32768, -1, 7]
    """
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(values), limits.min, limits.max).astype(np.int16)


def round_slices(stored: Any) -> np.ndarray:
    """Rounds an array of three or more axes, or a proxy of one on disk, slice by slice.

    Returns:
        int16 of the same shape.

    Raises:
        FloatingPointError: a value is not finite.

    Example:
        >>> round_slices(np.full((2, 2, 3), 0.7)).max()
        np.int16(1)
    """
    rounded = np.empty(stored.shape, np.int16)
    rest = (0,) * (len(stored.shape) - 3)  # NIfTI may have further axes of 1
    for i in range(stored.shape[2]):
        here: Any = (slice(None), slice(None), i, *rest)
        values = np.asarray(stored[here])
        if not np.isfinite(values).all():
            raise FloatingPointError("a value is not finite")
        rounded[here] = to_int16(values)
    return rounded
