"""From a network's mask to lungs: at most two pieces, without holes. Pure functions of numpy."""

import numpy as np
from scipy import ndimage

SMALLEST_SHARE = 0.1  # of the largest piece: a second lung has at least so many of its pixels


def keep_lungs(mask_HxW: np.ndarray) -> np.ndarray:
    """The two largest pieces, with their holes filled.

    A frontal radiograph shows two lungs: further pieces are the dark field beside the body or gas
    in the stomach, and holes are what an opacity hides. A second piece of less than
    `SMALLEST_SHARE` of the first one's pixels is dropped too: a speck is no lung.

    Args:
        mask_HxW: bool [H, W].

    Returns:
        bool [H, W]; empty only where the argument is empty. Applying it twice changes nothing more.
    """
    labels_HxW, count = ndimage.label(mask_HxW)
    if count == 0:
        return np.zeros_like(mask_HxW, dtype=bool)
    sizes = np.bincount(labels_HxW.ravel())[1:]
    largest_two = 1 + np.argsort(-sizes, kind="stable")[:2]
    # Filled before they are compared, so that what is kept once is kept again.
    pieces = [ndimage.binary_fill_holes(labels_HxW == label) for label in largest_two]
    enough = SMALLEST_SHARE * max(piece.sum() for piece in pieces)
    return np.any([piece for piece in pieces if piece.sum() >= enough], axis=0)
