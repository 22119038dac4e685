"""From a network's mask to lungs: at most two pieces, without holes. Pure functions of numpy."""

import cv2
import numpy as np

from jaxlung.masks.shape import SECOND_LUNG


def keep_lungs(mask_HxW: np.ndarray) -> np.ndarray:
    """Keeps the two largest pieces of a mask and fills their holes.

    A frontal radiograph shows two lungs. Further pieces are the dark field beside the body, or gas
    in the stomach. Holes are what an opacity hides. A second piece that has less than SECOND_LUNG
    (a tenth) of the first one's pixels is dropped too: a speck is not a lung. Pieces and holes are
    4-connected.

    Args:
        mask_HxW: bool [H, W].

    Returns:
        bool [H, W]. It is empty only if the argument is empty. Applying the function twice changes
        nothing more.

    Example:
        >>> mask = np.array([[1, 1, 1, 0, 1, 1], [1, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0]], bool)
        >>> keep_lungs(mask).astype(int).tolist()
        [[1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0]]
    """
    out_HxW = np.zeros(mask_HxW.shape, bool)
    if not mask_HxW.any():
        return out_HxW
    # SciPy has a slower version of this, whose import alone takes a third of a second.
    _, label_HxW, stats, _ = cv2.connectedComponentsWithStats(
        mask_HxW.astype(np.uint8), connectivity=4
    )
    largest_two = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:2]
    boxes = [_box(stats[label]) for label in largest_two]
    # Filled before they are compared, so that what is kept once is kept again.
    pieces = [_fill(label_HxW[box] == label) for label, box in zip(largest_two, boxes, strict=True)]
    enough = SECOND_LUNG * max(piece.sum() for piece in pieces)
    for piece, box in zip(pieces, boxes, strict=True):
        if piece.sum() >= enough:
            out_HxW[box] |= piece
    return out_HxW


def _box(stats_5: np.ndarray) -> tuple[slice, slice]:
    left, top, width, height, _ = stats_5
    return slice(top, top + height), slice(left, left + width)


def _fill(piece_HxW: np.ndarray) -> np.ndarray:
    """Fills the holes of a piece, bool [H, W]: what its outside does not reach, 4-connected."""
    # Within a border, which joins all that lies outside.
    reached = cv2.copyMakeBorder(piece_HxW.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    cv2.floodFill(reached, None, (0, 0), 2, flags=4)
    return np.asarray(reached[1:-1, 1:-1] != 2)
