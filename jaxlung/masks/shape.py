"""What a mask's own shape says: inverted, empty, one lung, crumbs, holes, unlikely sizes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

BORDER = 0.5  # share of the frame that an inverted mask covers at least
ONE_LUNG = 0.12  # share of the mask in the emptier half of the picture, below which a lung is gone
SECOND_PIECE = 0.1  # share of the mask that the second lung has at least, as in `lungs_apart`
STRAY_SHARE, STRAY_PIECES = 0.001, 3  # beyond the two largest pieces
HOLES = 0.02  # share of the filled mask
OUTLIER = 4.0  # robust z-scores


class MaskShape(NamedTuple):
    """All but `pieces` are shares or ratios."""

    coverage: float  # of the image
    border: float  # of the frame of one pixel about the image that is mask
    pieces: int  # 8-connected
    second: float  # of the mask, in the second largest piece
    stray: float  # of the mask, beyond the two largest pieces
    holes: float  # of the mask when filled
    lesser_half: float  # of the mask, in the picture's half (left, right) that has less of it
    aspect: float  # width over height of the box that holds the two largest pieces, in pixels
    contrast: float  # `measure_contrast`


def measure_shape(mask_HxW: np.ndarray, contrast: float) -> MaskShape:
    """Measures a mask, bool [H, W]; of an empty one all but the contrast is 0."""
    height, width = mask_HxW.shape
    mask = mask_HxW.astype(np.uint8)
    area = int(np.count_nonzero(mask))
    if not area:
        return MaskShape(0, 0, 0, 0, 0, 0, 0, 0, contrast)
    frame = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:2]
    areas = stats[largest, cv2.CC_STAT_AREA]
    corner = stats[largest][:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
    box = (corner + stats[largest][:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]).max(0)
    box = box - corner.min(0)
    left = int(np.count_nonzero(mask[:, : width // 2]))
    holes = _hole_pixels(mask)
    return MaskShape(
        coverage=area / mask.size,
        border=float(frame.mean()),
        pieces=count - 1,
        second=float(areas[1] / area) if len(areas) > 1 else 0.0,
        stray=float(1 - areas.sum() / area),
        holes=holes / (area + holes),
        lesser_half=min(left, area - left) / area,
        aspect=float(box[0] / box[1]),
        contrast=contrast,
    )


def _hole_pixels(mask: np.ndarray) -> int:
    """Pixels of the background that no 4-connected way leads out of."""
    outside = cv2.copyMakeBorder(1 - mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, label, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    free = label[0, 0]
    return int(stats[1:, cv2.CC_STAT_AREA].sum() - stats[free, cv2.CC_STAT_AREA])


def measure_contrast(grey_SxS: np.ndarray, mask_SxS: np.ndarray) -> float:
    """How much darker the mask's inside is than a band about it, in standard deviations.

    Args:
        grey_SxS: uint8 [S, S].
        mask_SxS: uint8 [S, S] of 0 and 1.

    Returns:
        above 0 in a film with air dark; NaN where the image is flat or there is no inside or band.
    """
    reach = max(3, grey_SxS.shape[0] // 10) | 1  # about the thickness of a chest wall
    band = cv2.dilate(mask_SxS, np.ones((reach, reach), np.uint8)) != mask_SxS
    deviation = float(grey_SxS.std())
    if deviation == 0 or not band.any() or not mask_SxS.any():
        return float("nan")
    return float(grey_SxS[band].mean() - grey_SxS[mask_SxS > 0].mean()) / deviation


def is_inverted(shape: MaskShape) -> bool:
    """Whether 0 marks the lung: the mask holds the picture's frame, and is large or bright.

    Lungs seldom reach the frame (7 % of it at most in 704 radiographs), and what surrounds them
    always does; a mask on the whole image is another fault.
    """
    return (
        shape.border > BORDER
        and shape.coverage < 1
        and (shape.coverage > 0.5 or shape.contrast < 0)
    )


def has_one_lung(shape: MaskShape) -> bool:
    return shape.lesser_half < ONE_LUNG


def lungs_joined(shape: MaskShape) -> bool:
    """Both lungs in one piece, so that they cannot be told apart."""
    return shape.second < SECOND_PIECE and not has_one_lung(shape)


def strays(shape: MaskShape) -> float:
    """Pieces beyond two lungs, in units of what is worth a warning.

    Ten times the share adds one: it spans decades, and would outweigh every other check.
    """
    share = 1 + math.log10(shape.stray / STRAY_SHARE) if shape.stray else 0.0
    return max(share, max(shape.pieces - 2, 0) / STRAY_PIECES)


def robust_z(values_N: np.ndarray) -> np.ndarray:
    """Distance from the median in robust standard deviations (1.4826 times the median distance).

    The spread is at least 2 % of a unit, so that among equal values rounding is no outlier.
    """
    away = values_N - np.median(values_N)
    return away / max(1.4826 * float(np.median(np.abs(away))), 0.02)


def outliers(shapes: Sequence[MaskShape]) -> tuple[np.ndarray, np.ndarray]:
    """Robust z-scores, float [N], of the odds of coverage and of the aspect, both logarithmic."""
    coverage_N = np.clip([shape.coverage for shape in shapes], 1e-4, 1 - 1e-4)
    aspect_N = np.array([shape.aspect for shape in shapes])
    return robust_z(np.log(coverage_N / (1 - coverage_N))), robust_z(np.log(aspect_N))
