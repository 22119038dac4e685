"""From a network's mask to what a film can show: few pieces, without holes. Functions of numpy."""

import cv2
import numpy as np

from jaxlung.masks.pieces import fill_holes, find_pieces, slice_box
from jaxlung.masks.shape import SECOND_LUNG
from jaxlung.structures import PIECES


def clean_up(mask_HxW: np.ndarray, structure: str) -> np.ndarray:
    """Keeps as many pieces of a structure's mask as a film shows: see `keep_pieces`.

    The mask of a structure that jaxlung does not know stays as it is.

    Example:
        >>> mask = np.array([[1, 0, 1]], bool)
        >>> clean_up(mask, "heart").tolist(), clean_up(mask, "ribs").tolist()
        ([[True, False, False]], [[True, False, True]])
    """
    pieces = PIECES.get(structure)
    return mask_HxW if pieces is None else keep_pieces(mask_HxW, pieces)


def keep_lungs(mask_HxW: np.ndarray) -> np.ndarray:
    """Keeps the two largest pieces of a mask and fills their holes: see `keep_pieces`.

    Example:
        >>> keep_lungs(np.array([[1, 0, 1, 0, 1, 1]], bool)).astype(int).tolist()
        [[1, 0, 0, 0, 1, 1]]
    """
    return keep_pieces(mask_HxW, 2)


def keep_pieces(mask_HxW: np.ndarray, count: int) -> np.ndarray:
    """Keeps the largest pieces of a mask and fills their holes.

    A frontal radiograph shows two lungs. Further pieces are the dark field beside the body, or gas
    in the stomach. Holes are what an opacity hides. A second piece that has less than SECOND_LUNG
    (a tenth) of the first one's pixels is dropped too: a speck is not a lung. Pieces and holes are
    4-connected.

    Args:
        mask_HxW: bool [H, W].
        count: pieces to keep at most.

    Returns:
        bool [H, W]. It is empty only if the argument is empty. Applying the function twice changes
        nothing more.

    Example:
        >>> mask = np.array([[1, 1, 1, 0, 1, 1], [1, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0]], bool)
        >>> keep_pieces(mask, 2).astype(int).tolist()
        [[1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0]]
    """
    out_HxW = np.zeros(mask_HxW.shape, bool)
    extent = cv2.boundingRect(mask_HxW.view(np.uint8))
    if not any(extent):
        return out_HxW
    boxed_hxw = out_HxW[slice_box(extent)]
    found = find_pieces(mask_HxW[slice_box(extent)])
    largest = 1 + np.argsort(-found.sizes_N[1:], kind="stable")[:count]
    boxes = [slice_box(found.boxes_Nx4[label]) for label in largest]
    # Filled before they are compared, so that what is kept once is kept again.
    pieces = [
        fill_holes(found.index_HxW[box] == label) for label, box in zip(largest, boxes, strict=True)
    ]
    sizes = [np.count_nonzero(piece) for piece in pieces]
    for piece, box, size in zip(pieces, boxes, sizes, strict=True):
        if size >= SECOND_LUNG * max(sizes):
            boxed_hxw[box] |= piece
    return out_HxW
