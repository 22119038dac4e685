"""Warns of predicted masks that two lungs rarely have."""

import cv2
import numpy as np

from jaxlung.masks.shape import has_one_lung, measure_shape
from jaxlung.structures import LUNG

SHAPE_SIDE = 256  # pixels: enough to measure a mask's shape, and faster than the whole mask
# In 468 training masks (Shenzhen 381, Montgomery 87) the lungs take 10 % to 41 % of the picture.
# Bars and wide fields leave less, so the limits are far from these.
SMALL_LUNGS, LARGE_LUNGS = 0.04, 0.5
LUNG_RATIO = 3.6  # larger over smaller lung: at most 3.56 in those masks, 2.6 in 99.5 % of them


def check_mask(
    mask_HxW: np.ndarray,
    confidence: float,
    least_confidence: float | None = None,
    structure: str = LUNG,
) -> tuple[str, ...]:
    """Finds what is odd about a predicted mask, without looking at the image.

    Args:
        mask_HxW: bool [H, W], the lungs as they will be written.
        confidence: the Dice to expect, by `calibration.expected_dice`.
        least_confidence: what the model's confidence reaches on good images; None: not known, so
            that no confidence is too low.
        structure: what the mask marks. Of another than the lungs only emptiness and confidence
            tell.

    Returns:
        A sentence for each fault; none for two lungs of likely sizes with certain outlines.

    Example:
        >>> check_mask(np.zeros((100, 100), bool), confidence=1.0)
        ('no lung was found: check that the image shows a chest',)
    """
    if not mask_HxW.any():
        return (f"no {structure} was found: check that the image shows a chest",)
    warnings = _check_lungs(mask_HxW) if structure == LUNG else []
    return (*warnings, *check_confidence(confidence, least_confidence))


def check_confidence(confidence: float, least: float | None) -> list[str]:
    """Warns of a confidence below what the model reaches on good images; None: not known."""
    if least is None or confidence >= least:
        return []
    return [f"the outlines are uncertain (expected Dice {confidence:.2f}): check the mask"]


def _check_lungs(mask_HxW: np.ndarray) -> list[str]:
    """Finds what is odd about the sizes of two lungs."""
    scale = min(1.0, SHAPE_SIDE / max(mask_HxW.shape))
    height, width = (max(1, round(side * scale)) for side in mask_HxW.shape)
    grey = mask_HxW.astype(np.uint8) * 255
    cover = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    shape = measure_shape(cover > 127, float("nan"))
    warnings = []
    if shape.pieces == 1 and has_one_lung(shape):
        warnings.append("only one lung was found: check the other side")
    if not SMALL_LUNGS <= shape.coverage <= LARGE_LUNGS:
        size = "small" if shape.coverage < SMALL_LUNGS else "large"
        warnings.append(f"the lungs are implausibly {size} for the picture: check the mask")
    first, second = 1 - shape.second - shape.stray, shape.second
    if second and first > LUNG_RATIO * second:
        warnings.append(f"one lung is {first / second:.1f} times the other's size: check the mask")
    return warnings
