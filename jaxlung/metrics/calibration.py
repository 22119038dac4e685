"""Do the probabilities mean what they say: reliability of pixels, and its expected error."""

from typing import Any, NamedTuple

import numpy as np

BINS = 15


class Reliability(NamedTuple):
    """Sums over pixels in bins of equal width on [0, 1], [bins]; those of two sets may be added."""

    pixels: np.ndarray
    probability: np.ndarray
    lung: np.ndarray


def count_reliability(probability: np.ndarray, truth: np.ndarray, bins: int = BINS) -> Reliability:
    """Sorts pixels by their probability.

    Args:
        probability: float in [0, 1], of any shape.
        truth: bool, of the same shape.
    """
    index = np.minimum((probability.ravel() * bins).astype(np.int64), bins - 1)
    return Reliability(
        np.bincount(index, minlength=bins).astype(np.float64),
        np.bincount(index, probability.ravel(), minlength=bins),
        np.bincount(index, truth.ravel(), minlength=bins),
    )


def expected_dice(probability: np.ndarray, mask: np.ndarray) -> float:
    """The Dice that a mask may be expected to have, if the probabilities mean what they say.

    2 sum(p m) / (sum(p) + sum(m)): the soft Dice of the mask and the probabilities it was cut
    from, in the place of a truth that is not known. In [0, 1]; 0 of an empty mask, which no one
    should trust.

    Args:
        probability: float in [0, 1], of any shape.
        mask: bool, of the same shape.
    """
    both = float(probability[mask].sum(dtype=np.float64))
    return (
        2 * both / (float(probability.sum(dtype=np.float64)) + float(mask.sum())) if both else 0.0
    )


def sum_reliability(parts: list[Reliability]) -> Reliability:
    """The sums over all parts."""
    return Reliability(*(np.sum(part, axis=0) for part in zip(*parts, strict=True)))


def expected_calibration_error(sums: Reliability) -> float:
    """ECE: mean over pixels of |lung's share - mean probability| of the pixel's bin.

    In [0, 1]; 0 without pixels (Guo et al. 2017, with the lung's probability in the place of the
    predicted class's: most pixels are sure background, which keeps it small).
    """
    pixels = sums.pixels.sum()
    return float(np.abs(sums.lung - sums.probability).sum() / pixels) if pixels else 0.0


def reliability_curve(sums: Reliability) -> dict[str, Any]:
    """Plain numbers for a report: of each bin, None where it is empty."""
    occupied = np.maximum(sums.pixels, 1)
    return {
        "bins": len(sums.pixels),
        "pixels": [int(count) for count in sums.pixels],
        "mean_probability": _or_none(sums.probability / occupied, sums.pixels),
        "lung_share": _or_none(sums.lung / occupied, sums.pixels),
        "ece": expected_calibration_error(sums),
    }


def _or_none(values: np.ndarray, pixels: np.ndarray) -> list[float | None]:
    return [float(v) if count else None for v, count in zip(values, pixels, strict=True)]
