"""From a network's mask to lungs: at most two pieces, without holes. Pure functions of numpy."""

import cv2
import numpy as np

SMALLEST_SHARE = 0.1  # of the largest piece: a second lung has at least so many of its pixels


def keep_lungs(mask_HxW: np.ndarray) -> np.ndarray:
    """The two largest pieces, with their holes filled.

    A frontal radiograph shows two lungs: further pieces are the dark field beside the body or gas
    in the stomach, and holes are what an opacity hides. A second piece of less than
    `SMALLEST_SHARE` of the first one's pixels is dropped too: a speck is no lung. Pieces are
    4-connected, and so are holes.

    Args:
        mask_HxW: bool [H, W].

    Returns:
        bool [H, W]; empty only where the argument is empty. Applying it twice changes nothing more.
    """
    out_HxW = np.zeros(mask_HxW.shape, bool)
    if not mask_HxW.any():
        return out_HxW
    # Of this, SciPy has a slower version, whose import alone takes a third of a second.
    _, label_HxW, stats, _ = cv2.connectedComponentsWithStats(
        mask_HxW.astype(np.uint8), connectivity=4
    )
    largest_two = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:2]
    boxes = [_box(stats[label]) for label in largest_two]
    # Filled before they are compared, so that what is kept once is kept again.
    pieces = [
        _filled(label_HxW[box] == label) for label, box in zip(largest_two, boxes, strict=True)
    ]
    enough = SMALLEST_SHARE * max(piece.sum() for piece in pieces)
    for piece, box in zip(pieces, boxes, strict=True):
        if piece.sum() >= enough:
            out_HxW[box] |= piece
    return out_HxW


def _box(stats_5: np.ndarray) -> tuple[slice, slice]:
    left, top, width, height, _ = stats_5
    return slice(top, top + height), slice(left, left + width)


def _filled(piece_HxW: np.ndarray) -> np.ndarray:
    """The piece, bool [H, W], and all that its outside does not reach by 4-connected steps."""
    # Within a border, which joins all that lies outside.
    reached = cv2.copyMakeBorder(piece_HxW.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    cv2.floodFill(reached, None, (0, 0), 2, flags=4)
    return reached[1:-1, 1:-1] != 2
