"""Which lung is which: from a mask of both lungs to each of them. Pure functions of numpy."""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from jaxlung.masks.pieces import Pieces, find_pieces, slice_box
from jaxlung.masks.shape import SECOND_LUNG

SIDES = {"right": 1, "left": 2}
"""The patient's sides, and their labels in masks. The right lung is on a picture's left."""

Lungs = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Prediction and truth, bool [H, W], for each of SIDES."""

_SMALL = 96  # longest side of the grid on which the two lungs are looked for
_LUNG = 0.05  # a lung, or the core of one, has at least this share of the mask's pixels
_WIDE = 0.75  # a piece that is less wide than this share of its height is not two lungs


class Halves(NamedTuple):
    """The pieces on the picture's left, and the one piece, if any, that lies on both sides."""

    on_left_N: np.ndarray  # bool
    divided: int = 0  # the piece that holds both lungs; 0: none does
    on_left_HxW: np.ndarray | None = None  # bool, of the pixels of that piece; None: none does


def label_sides(mask_HxW: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
    """Labels the patient's right and left lung in the mask of a frontal radiograph.

    Two pieces side by side are a lung each. If one piece holds both, it is eroded until two cores
    are left side by side, and a pixel belongs to the lung whose core is nearer. Further pieces
    belong to the lung that is nearer to their centroid. If two lungs never appear, a piece belongs
    to the side of the picture on which its centroid lies. Then the largest piece is cut at its
    narrowest column, if it is too wide for one lung and lies over the picture's middle.

    Args:
        mask_HxW: bool [H, W].
        mirrored: the picture's left is the patient's left; see `io.film.Film`.

    Returns:
        uint8 [H, W]: the labels of SIDES on the mask's pixels, 0 elsewhere. Which pixels share a
        label does not depend on `mirrored`, nor, ties aside, on a flip of the mask. All 0 for an
        empty mask.

    Example:
        >>> mask = np.array([[1, 1, 0, 0, 1, 1]] * 3, bool)
        >>> label_sides(mask)[0].tolist(), label_sides(mask, mirrored=True)[0].tolist()
        ([1, 1, 0, 0, 2, 2], [2, 2, 0, 0, 1, 1])
    """
    side_HxW = np.zeros(mask_HxW.shape, np.uint8)
    across, down, width, height = cv2.boundingRect(mask_HxW.view(np.uint8))
    if not width:
        return side_HxW
    box = slice_box((across, down, width, height))
    boxed_hxw = mask_HxW[box]
    pieces = find_pieces(boxed_hxw)
    cores = _cores(_reduced(boxed_hxw))
    if cores is None:
        halves = _by_place(pieces, mask_HxW.shape[1] / 2 - across)
    else:
        halves = _by_cores(pieces, *cores)
    left, right = SIDES["right"], SIDES["left"]
    if mirrored:
        left, right = right, left
    side_N = np.where(halves.on_left_N, left, right).astype(np.uint8)
    side_N[0] = 0
    side_hxw = _look_up(side_N, pieces.index_HxW)
    if halves.on_left_HxW is not None:
        is_divided_hxw = pieces.index_HxW == halves.divided
        side_hxw[is_divided_hxw & halves.on_left_HxW] = left
        side_hxw[is_divided_hxw & ~halves.on_left_HxW] = right
    side_HxW[box] = side_hxw
    return side_HxW


def _look_up(value_N: np.ndarray, index_HxW: np.ndarray) -> np.ndarray:
    if index_HxW.dtype != np.uint8:
        return np.asarray(value_N[index_HxW])
    table_256 = np.zeros(256, np.uint8)
    table_256[: len(value_N)] = value_N
    return np.asarray(cv2.LUT(index_HxW, table_256))


def _reduced(mask_HxW: np.ndarray) -> np.ndarray:
    """Shrinks a mask so that its longest side is at most _SMALL: bool [h, w]."""
    height, width = mask_HxW.shape
    scale = min(_SMALL / max(height, width), 1)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    share_hxw = cv2.resize(255 * mask_HxW.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    return share_hxw > 127


def _cores(mask_HxW: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Finds two pieces side by side, after the thinnest erosion that leaves such pieces.

    One is the largest piece, the other the largest of those beside it. Beside means that the boxes'
    centres are further apart sideways than half the wider box, as in `split_lungs`, and that both
    boxes share half the height of the less tall one. So the halves of a lung that an opacity
    divides, one above the other, are not taken for two lungs.

    Args:
        mask_HxW: bool [H, W].

    Returns:
        the piece on the picture's left and the one on its right, bool [H, W]; None if no erosion
        leaves two.
    """
    # Within a border, since the picture's edge is an outline too.
    framed = cv2.copyMakeBorder(mask_HxW.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth_HxW = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    enough = max(_LUNG * mask_HxW.sum(), 1)
    for depth in range(int(depth_HxW.max()) + 1):
        pieces = find_pieces(depth_HxW > depth)
        large_K = 1 + np.flatnonzero(pieces.sizes_N[1:] >= enough)
        if not len(large_K):
            break
        large_K = large_K[np.argsort(-pieces.sizes_N[large_K], kind="stable")]
        left_K, top_K, width_K, height_K = pieces.boxes_Nx4[large_K].T
        middle_K, bottom_K = left_K + width_K / 2, top_K + height_K
        apart_K = np.abs(middle_K - middle_K[0]) > np.maximum(width_K, width_K[0]) / 2
        shared_K = np.minimum(bottom_K, bottom_K[0]) - np.maximum(top_K, top_K[0])
        beside_K = apart_K & (shared_K >= np.minimum(height_K, height_K[0]) / 2)
        if beside_K.any():
            one, other = pieces.index_HxW == large_K[0], pieces.index_HxW == large_K[beside_K][0]
            return (one, other) if middle_K[0] < middle_K[beside_K][0] else (other, one)
    return None


def _by_cores(pieces: Pieces, left_hxw: np.ndarray, right_hxw: np.ndarray) -> Halves:
    """Sorts pieces by the cores that they hold or are near to; the cores' grid may be smaller."""
    small, full = np.array(left_hxw.shape), np.array(pieces.index_HxW.shape)
    rows, columns = (
        ((np.arange(n) + 0.5) * step).astype(int)
        for n, step in zip(small, full / small, strict=True)
    )
    index_hxw = pieces.index_HxW[np.ix_(rows, columns)]
    left, right = (int(np.bincount(index_hxw[core]).argmax()) for core in (left_hxw, right_hxw))
    nearer_hxw = _distance(left_hxw) - _distance(right_hxw)  # below 0: to the left core
    down_N, across_N = (pieces.centres_Nx2 * (small / full)).astype(int).T
    on_left_N = nearer_hxw[down_N, across_N] < 0
    on_left_N[left], on_left_N[right] = True, False
    if left != right:
        return Halves(on_left_N)
    nearer_HxW = cv2.resize(nearer_hxw, (int(full[1]), int(full[0])))
    # OpenCV's distances of equally near pixels differ by rounding, and not each time alike.
    return Halves(on_left_N, left, nearer_HxW < -1e-3)


def _distance(core_HxW: np.ndarray) -> np.ndarray:
    """Measures each pixel's distance to a core, in pixels: float32 [H, W]."""
    outside_HxW = (~core_HxW).astype(np.uint8)
    return cv2.distanceTransform(outside_HxW, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _by_place(pieces: Pieces, middle: float) -> Halves:
    """Sorts pieces by the side of the picture's middle column on which their centroids lie."""
    on_left_N = pieces.centres_Nx2[:, 1] < middle
    largest = int(1 + pieces.sizes_N[1:].argmax())
    left, _, width, height = pieces.boxes_Nx4[largest]
    nearer_end = min(middle - left, left + width - middle)
    if width < _WIDE * height or nearer_end < width / 4:
        return Halves(on_left_N)
    # Within the middle third; a column further from the middle has to be as much narrower.
    columns_K = np.arange(left + width // 3, left + width - width // 3)
    pixels_K = (pieces.index_HxW[:, columns_K] == largest).sum(0)
    cut = columns_K[np.argmin(pixels_K + np.abs(columns_K + 0.5 - (left + width / 2)))]
    return Halves(on_left_N, largest, np.arange(pieces.index_HxW.shape[1])[None] < cut)


def split_lungs(prediction_HxW: np.ndarray, truth_HxW: np.ndarray) -> Lungs | None:
    """Splits both masks into lungs: a pixel belongs to the lung of the truth that it is nearest to.

    So a prediction that joins both lungs, or is in pieces, is split where the truth's lungs are.
    The truth has two lungs if its two largest pieces (8-connected) both hold SECOND_LUNG (a tenth)
    of its pixels, and their boxes' centres lie further apart sideways than half the wider box. The
    right lung is the one on the picture's left.

    Args:
        prediction_HxW: bool [H, W].
        truth_HxW: bool [H, W].

    Returns:
        both masks for each side; None if the truth has not two lungs side by side.

    Example:
        >>> truth = np.array([[1, 1, 0, 0, 1, 1]], bool)
        >>> lungs = split_lungs(np.ones_like(truth), truth)
        >>> [prediction.astype(int).tolist() for prediction, _ in lungs.values()]
        [[[1, 1, 1, 0, 0, 0]], [[0, 0, 0, 1, 1, 1]]]
    """
    count, label_HxW, stats, _ = cv2.connectedComponentsWithStats(truth_HxW.astype(np.uint8))
    if count < 3:
        return None
    pieces = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:2]
    if stats[pieces[1], cv2.CC_STAT_AREA] < SECOND_LUNG * truth_HxW.sum():
        return None
    widths = stats[pieces, cv2.CC_STAT_WIDTH]
    centres = stats[pieces, cv2.CC_STAT_LEFT] + widths / 2
    if abs(centres[1] - centres[0]) <= widths.max() / 2:
        return None
    distances = [_distance(label_HxW == piece) for piece in pieces[np.argsort(centres)]]
    is_right_HxW = distances[0] <= distances[1]
    return {
        "right": (prediction_HxW & is_right_HxW, truth_HxW & is_right_HxW),
        "left": (prediction_HxW & ~is_right_HxW, truth_HxW & ~is_right_HxW),
    }


def lungs_from_labels(prediction_HxW: np.ndarray, truth_HxW: np.ndarray) -> Lungs:
    """Splits masks that hold the labels of SIDES.

    Args:
        prediction_HxW: uint8 [H, W], or [Z, H, W] of a volume, of 0, 1 (right) and 2 (left).
        truth_HxW: uint8 [H, W], likewise.

    Returns:
        both masks for each side, bool of the same shape.

    Example:
        >>> labels = np.array([[1, 0, 2]], np.uint8)
        >>> lungs_from_labels(labels, labels)["left"][0].tolist()
        [[False, False, True]]
    """
    return {side: (prediction_HxW == label, truth_HxW == label) for side, label in SIDES.items()}
