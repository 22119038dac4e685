"""Finds the pieces of a mask. Functions of numpy."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

_FEW = 8  # pieces that outlines find in less time than a labelling of all pixels


class Pieces(NamedTuple):
    """The 4-connected pieces of a mask: N of them, with the background, which is piece 0.

    They are numbered by the row, then by the column of their first pixel.
    """

    index_HxW: np.ndarray  # uint8 or int32
    # Of the background these three mean nothing.
    boxes_Nx4: np.ndarray  # left, top, width, height
    sizes_N: np.ndarray  # pixels
    centres_Nx2: np.ndarray  # down, across; the top left corner is (0, 0)


def find_pieces(mask_HxW: np.ndarray) -> Pieces:
    """Finds the 4-connected pieces of a mask.

    A mask of a few smooth pieces, as most are, takes a tenth of the time that others take.

    Args:
        mask_HxW: bool [H, W].

    Example:
        >>> find_pieces(np.array([[1, 0, 1], [1, 0, 0]], bool)).index_HxW.tolist()
        [[1, 0, 2], [1, 0, 0]]
    """
    mask = np.ascontiguousarray(mask_HxW).view(np.uint8)
    outlines = _find_few_outlines(mask)
    return _label_all(mask) if outlines is None else _fill_outlines(mask, outlines)


def slice_box(box_4: Sequence[int]) -> tuple[slice, slice]:
    """Returns the rows and columns of a box: left, top, width, height.

    Example:
        >>> slice_box((1, 2, 3, 4))
        (slice(2, 6, None), slice(1, 4, None))
    """
    left, top, width, height = box_4
    return slice(top, top + height), slice(left, left + width)


def fill_holes(piece_HxW: np.ndarray) -> np.ndarray:
    """Fills the holes of one 4-connected piece, bool [H, W]: what its outside does not reach.

    Example:
        >>> fill_holes(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)).all()
        np.True_
    """
    piece = np.ascontiguousarray(piece_HxW).view(np.uint8)
    if _touch_by_corners(piece):  # an outline that meets itself encloses no area for sure
        # Within a border, which joins all that lies outside.
        reached = cv2.copyMakeBorder(piece, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        cv2.floodFill(reached, None, (0, 0), 2, flags=4)
        return np.asarray(reached[1:-1, 1:-1] != 2)
    filled = np.zeros(piece.shape, np.uint8)
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled.view(bool)


def _find_few_outlines(mask: np.ndarray) -> list[np.ndarray] | None:
    """Returns the outlines of all pieces; None where these are many, or not to be told by outlines.

    Outlines are of 8-connected pieces. Without two pixels that touch by a corner alone these are
    the 4-connected ones. A piece in a hole of another would be painted over.
    """
    outlines, tree = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if tree is None:
        return []
    parents = tree[0, :, 3]
    is_outer = parents < 0
    is_inside = (parents >= 0) & ~is_outer[parents]  # in a hole
    if is_outer.sum() > _FEW or is_inside.any() or _touch_by_corners(mask):
        return None
    outer = [outline for outline, wanted in zip(outlines, is_outer, strict=True) if wanted]
    return sorted(outer, key=lambda points_Kx1x2: int((points_Kx1x2 @ (1, 2**16)).min()))


def _touch_by_corners(mask: np.ndarray) -> bool:
    upper, lower = mask[:-1], mask[1:]
    # Two pixels of four, and no two of them beside or above each other.
    apart = upper[:, :-1] != upper[:, 1:]
    apart &= upper[:, :-1] != lower[:, :-1]
    apart &= upper[:, :-1] == lower[:, 1:]
    return bool(apart.any())


def _fill_outlines(mask: np.ndarray, outlines: list[np.ndarray]) -> Pieces:
    index_HxW = np.zeros(mask.shape, np.uint8)
    boxes, sizes, centres = [(0, 0, 0, 0)], [0], [(0.0, 0.0)]
    for i, outline in enumerate(outlines, 1):
        left, top, width, height = box = cv2.boundingRect(outline)
        inside = slice_box(box)
        piece = np.zeros((height, width), np.uint8)
        cv2.drawContours(piece, [outline], 0, 1, cv2.FILLED, offset=(-left, -top))
        piece &= mask[inside]
        sums = cv2.moments(piece, binaryImage=True)
        size = round(sums["m00"])
        index_HxW[inside] += i * piece
        boxes.append((left, top, width, height))
        sizes.append(size)
        # As whole numbers, so that the quotient is that of `_label_all`, bit for bit.
        centres.append((_mean(sums["m01"], size, top), _mean(sums["m10"], size, left)))
    return Pieces(
        index_HxW, np.array(boxes, np.int32), np.array(sizes, np.int32), np.array(centres) + 0.5
    )


def _mean(total: float, count: int, start: int) -> float:
    return (round(total) + start * count) / count


def _label_all(mask: np.ndarray) -> Pieces:
    _, index_HxW, stats_Nx5, centres_Nx2 = cv2.connectedComponentsWithStats(mask, connectivity=4)
    return Pieces(
        index_HxW, stats_Nx5[:, :4], stats_Nx5[:, cv2.CC_STAT_AREA], centres_Nx2[:, ::-1] + 0.5
    )
