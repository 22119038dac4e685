"""Run lengths of a mask, as COCO and its tools have them."""

from typing import Any

import numpy as np


def encode_runs(mask_HxW: np.ndarray) -> dict[str, Any]:
    """Encodes a mask as COCO's uncompressed run lengths, which every tool reads.

    Args:
        mask_HxW: bool.

    Returns:
        `size`, [H, W], and `counts`: the lengths of runs down the columns, from left to right, of
        what is outside and inside in turn, from outside on.

    Example:
        >>> encode_runs(np.array([[True, False], [True, True]]))
        {'size': [2, 2], 'counts': [0, 2, 1, 1]}
    """
    flat = mask_HxW.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return {"size": list(mask_HxW.shape), "counts": [0, *counts] if flat[:1].any() else counts}
