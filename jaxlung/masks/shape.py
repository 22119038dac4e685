"""Measures of a mask's shape, and what they say: inverted, one lung, crumbs, holes, unlikely sizes.

docs/reference/data_check.md has the evidence for the thresholds. Pure functions of numpy.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from jaxlung.io.masks import BORDER, measure_frame

SECOND_LUNG = 0.1  # a second lung has at least this share of the pixels it is compared with
ONE_LUNG = 0.12  # of the mask, in the emptier half of the picture: below it, a lung is missing
STRAY_SHARE, STRAY_PIECES = 0.001, 3  # beyond the two largest pieces
HOLES = 0.02  # of the filled mask
OUTLIER = 4.0  # robust z-scores


class MaskShape(NamedTuple):
    """The measures of a mask; all but `pieces` are shares or ratios. An empty mask has zeros."""

    coverage: float = 0.0  # of the image
    border: float = 0.0  # of the frame of one pixel about the image that is mask
    pieces: int = 0  # 8-connected
    second: float = 0.0  # of the mask, in the second largest piece
    stray: float = 0.0  # of the mask, beyond the two largest pieces
    holes: float = 0.0  # of the mask when filled
    lesser_half: float = 0.0  # of the mask, in the picture's half (left, right) that has less of it
    aspect: float = 0.0  # width over height of the box of the two largest pieces, in pixels
    contrast: float = 0.0  # as `measure_contrast` returns it


def measure_shape(mask_HxW: np.ndarray, contrast: float) -> MaskShape:
    """Measures a mask.

    Args:
        mask_HxW: bool [H, W].
        contrast: as `measure_contrast` returns it, which the result carries along.

    Returns:
        the measures; all but the contrast are 0 for an empty mask.

    Example:
        >>> mask = np.zeros((4, 8), bool)
        >>> mask[1:3, 1:3] = mask[1:3, 5:7] = True
        >>> shape = measure_shape(mask, contrast=1.0)
        >>> shape.pieces, shape.coverage, shape.second, shape.aspect
        (2, 0.25, 0.5, 3.0)
    """
    width = mask_HxW.shape[1]
    mask = mask_HxW.astype(np.uint8)
    area = int(np.count_nonzero(mask))
    if not area:
        return MaskShape(contrast=contrast)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:2]
    areas = stats[largest, cv2.CC_STAT_AREA]
    corner = stats[largest][:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
    box = (corner + stats[largest][:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]).max(0)
    box = box - corner.min(0)
    left = int(np.count_nonzero(mask[:, : width // 2]))
    holes = _count_hole_pixels(mask)
    return MaskShape(
        coverage=area / mask.size,
        border=measure_frame(mask),
        pieces=count - 1,
        second=float(areas[1] / area) if len(areas) > 1 else 0.0,
        stray=float(1 - areas.sum() / area),
        holes=holes / (area + holes),
        lesser_half=min(left, area - left) / area,
        aspect=float(box[0] / box[1]),
        contrast=contrast,
    )


def _count_hole_pixels(mask: np.ndarray) -> int:
    """Counts the pixels of the background that have no 4-connected way out."""
    outside = cv2.copyMakeBorder(1 - mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, label, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    free = label[0, 0]
    return int(stats[1:, cv2.CC_STAT_AREA].sum() - stats[free, cv2.CC_STAT_AREA])


def measure_contrast(grey_SxS: np.ndarray, mask_SxS: np.ndarray) -> float:
    """Measures how much darker an image is inside a mask than in a band about it.

    Args:
        grey_SxS: uint8 [S, S].
        mask_SxS: uint8 [S, S] of 0 and 1.

    Returns:
        the difference of the means, in standard deviations of the image: above 0 in a film whose
        air is dark. NaN if the image is flat, or if there is no inside or no band.

    Example:
        >>> mask = np.zeros((9, 9), np.uint8)
        >>> mask[3:6, 3:6] = 1
        >>> measure_contrast(200 - 100 * mask, mask) > 0
        True
    """
    reach = max(3, grey_SxS.shape[0] // 10) | 1  # about the thickness of a chest wall
    band = cv2.dilate(mask_SxS, np.ones((reach, reach), np.uint8)) != mask_SxS
    deviation = float(grey_SxS.std())
    if deviation == 0 or not band.any() or not mask_SxS.any():
        return float("nan")
    return float(grey_SxS[band].mean() - grey_SxS[mask_SxS > 0].mean()) / deviation


def is_inverted(shape: MaskShape) -> bool:
    """Decides whether 0 marks the lung: the mask holds the picture's frame, and is large or bright.

    Lungs seldom reach the frame (they cover 7 % of it at most in 704 radiographs), and their
    surroundings always do. A mask of the whole image is another fault.

    Example:
        >>> mask = np.ones((5, 9), bool)
        >>> mask[1:4, 1:4] = mask[1:4, 5:8] = False
        >>> is_inverted(measure_shape(mask, contrast=0.0)), is_inverted(measure_shape(~mask, 0.0))
        (True, False)
    """
    is_large_or_bright = shape.coverage > 0.5 or shape.contrast < 0
    return shape.border > BORDER and shape.coverage < 1 and is_large_or_bright


def has_one_lung(shape: MaskShape) -> bool:
    """Decides whether a lung is missing: one half of the picture has hardly any mask (ONE_LUNG).

    Example:
        >>> mask = np.zeros((4, 8), bool)
        >>> mask[1:3, 1:3] = True
        >>> has_one_lung(measure_shape(mask, contrast=0.0))
        True
    """
    return shape.lesser_half < ONE_LUNG


def lungs_joined(shape: MaskShape) -> bool:
    """Decides whether both lungs are in one piece, so that they cannot be scored apart.

    Example:
        >>> lungs_joined(measure_shape(np.ones((4, 8), bool), contrast=0.0))
        True
    """
    return shape.second < SECOND_LUNG and not has_one_lung(shape)


def strays(shape: MaskShape) -> float:
    """Weighs the pieces beyond two lungs, in units of what is worth a warning.

    Ten times the share adds one: shares span decades, and would outweigh every other check.

    Returns:
        at least 0; 1 for a share of STRAY_SHARE, or for STRAY_PIECES pieces more than two.

    Example:
        >>> shape = measure_shape(np.eye(2, dtype=bool), contrast=0.0)._replace(pieces=5)
        >>> strays(shape)
        1.0
    """
    share = 1 + math.log10(shape.stray / STRAY_SHARE) if shape.stray else 0.0
    return max(share, max(shape.pieces - 2, 0) / STRAY_PIECES)


def robust_z(values_N: np.ndarray) -> np.ndarray:
    """Measures each value's distance from the median in robust standard deviations.

    One such deviation is 1.4826 times the median distance from the median, which is the standard
    deviation of normal values (Rousseeuw and Croux 1993), and at least 0.02: among equal values
    rounding must not make outliers.

    Args:
        values_N: float [N], N at least 1.

    Returns:
        float [N].

    Example:
        >>> robust_z(np.array([1.0, 2.0, 3.0])).round(2).tolist()
        [-0.67, 0.0, 0.67]
    """
    away_N = values_N - np.median(values_N)
    return np.asarray(away_N / max(1.4826 * float(np.median(np.abs(away_N))), 0.02))


def outliers(shapes: Sequence[MaskShape]) -> tuple[np.ndarray, np.ndarray]:
    """Measures how far each mask's area and proportions are from those of the others.

    Args:
        shapes: of N masks, none of them empty.

    Returns:
        robust z-scores, float [N], of the logarithms of the odds of coverage and of the aspect.

    Example:
        >>> mask = np.zeros((4, 8), bool)
        >>> mask[1:3, 1:3] = True
        >>> coverage_N, aspect_N = outliers([measure_shape(mask, contrast=0.0)] * 3)
        >>> coverage_N.tolist(), aspect_N.tolist()
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    """
    coverage_N = np.clip([shape.coverage for shape in shapes], 1e-4, 1 - 1e-4)
    aspect_N = np.array([shape.aspect for shape in shapes])
    return robust_z(np.log(coverage_N / (1 - coverage_N))), robust_z(np.log(aspect_N))
