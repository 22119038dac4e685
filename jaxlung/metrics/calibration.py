"""Calibration: whether a pixel's probability is the share of such pixels that are lung."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

BINS = 15
FAILURE = 0.9  # the Dice below which a mask is one


class Reliability(NamedTuple):
    """Sums over the pixels in each of K bins of equal width on [0, 1], float64 [K]."""

    pixels: np.ndarray  # how many
    probability: np.ndarray  # sum of their probabilities
    lung: np.ndarray  # how many of them are lung


def count_reliability(probability: np.ndarray, truth: np.ndarray, bins: int = BINS) -> Reliability:
    """Sorts pixels into bins by their probability.

    Args:
        probability: float in [0, 1], of any shape.
        truth: bool, of the same shape; True is lung.
        bins: how many, of equal width. A probability of 1 is in the last one.

    Returns:
        the sums; zeros if there is no pixel.

    Example:
        >>> truth = np.array([False, True, True])
        >>> sums = count_reliability(np.array([0.1, 0.9, 1.0]), truth, bins=2)
        >>> sums.pixels.tolist(), sums.lung.tolist()
        ([1.0, 2.0], [0.0, 2.0])
    """
    index = np.minimum((probability.ravel() * bins).astype(np.int64), bins - 1)
    return Reliability(
        np.bincount(index, minlength=bins).astype(np.float64),
        np.bincount(index, probability.ravel(), minlength=bins),
        np.bincount(index, truth.ravel(), minlength=bins),
    )


def expected_dice(probability: np.ndarray, mask: np.ndarray) -> float:
    """Estimates the Dice of a mask from the probabilities that it was cut from, without a truth.

    It is 2 sum(p m) / (sum(p) + sum(m)), the soft Dice (Milletari et al. 2016) with the mask in the
    place of the truth. If the probabilities are calibrated, the sums are those that the true mask
    is expected to have.

    Args:
        probability: float in [0, 1], of any shape.
        mask: bool, of the same shape.

    Returns:
        in [0, 1]; 0 for an empty mask, which nobody should trust.

    Example:
        >>> probability = np.array([1.0, 0.5, 0.0])
        >>> round(expected_dice(probability, probability >= 0.5), 4)
        0.8571
    """
    return ExpectedDice().add(probability, mask).value


class ExpectedDice(NamedTuple):
    """The sums behind `expected_dice`, added up over the parts of an image, such as slices."""

    both: float = 0.0  # probability in the mask
    probability: float = 0.0
    mask: int = 0  # pixels

    def add(self, probability: np.ndarray, mask: np.ndarray) -> "ExpectedDice":
        """Returns the sums with another part."""
        return ExpectedDice(
            self.both + float(probability[mask].sum(dtype=np.float64)),
            self.probability + float(probability.sum(dtype=np.float64)),
            self.mask + int(np.count_nonzero(mask)),
        )

    @property
    def value(self) -> float:
        """The expected Dice; 0 for an empty mask."""
        return 2 * self.both / (self.probability + self.mask) if self.both else 0.0


class Confidence(NamedTuple):
    """The line from a model's `expected_dice` to the Dice measured on films with known masks."""

    slope: float = 1.0
    intercept: float = 0.0
    least: float | None = None  # what good images reach; None: not known

    def calibrate(self, expected: float) -> float:
        """Returns the calibrated confidence, in [0, 1]; that of an empty mask stays 0.

        Example:
            >>> Confidence(slope=2.0, intercept=-1.0).calibrate(0.9), Confidence().calibrate(0.9)
            (0.8, 0.9)
        """
        return min(max(self.intercept + self.slope * expected, 0.0), 1.0) if expected else 0.0


def fit_confidence(expected_N: np.ndarray, dice_N: np.ndarray) -> Confidence:
    """Fits a line from `expected_dice` to the Dice that was measured, by least squares.

    Args:
        expected_N, dice_N: float [N], of masks that are not empty. Both should reach down to bad
            masks: good ones alone say little of the line.

    Returns:
        the line, without `least`. It is the identity where all `expected_N` are one.

    Example:
        >>> fitted = fit_confidence(np.array([0.8, 0.9]), np.array([0.6, 0.8]))
        >>> round(fitted.slope, 6), round(fitted.intercept, 6)
        (2.0, -1.0)
    """
    if np.ptp(expected_N) == 0:
        return Confidence()
    slope, intercept = np.polyfit(expected_N, dice_N, 1)
    return Confidence(float(slope), float(intercept))


def failure_auc(
    confidence_N: np.ndarray, dice_N: np.ndarray, below: float = FAILURE
) -> float | None:
    """Computes how well confidence tells failures: the area under the ROC curve.

    A pair is a failure, whose Dice is less than `below`, and another mask. The area is the share of
    pairs in which the failure has the lower confidence (Mann and Whitney 1947). Equal ones count
    half.

    Args:
        confidence_N, dice_N: float [N].
        below: the Dice from which a mask is no failure.

    Returns:
        in [0, 1], 0.5 by chance; None where all masks are failures, or none.

    Example:
        >>> failure_auc(np.array([0.5, 0.9, 0.95]), np.array([0.7, 0.95, 0.96]))
        1.0
    """
    failed_N = dice_N < below
    bad, good = confidence_N[failed_N], np.sort(confidence_N[~failed_N])
    if not bad.size or not good.size:
        return None
    ranks = [np.searchsorted(good, bad, side) for side in ("left", "right")]
    return float(1 - np.mean(ranks) / len(good))


def sum_reliability(parts: Sequence[Reliability]) -> Reliability:
    """Adds the sums of several images or sets, at least one, of one number of bins.

    Example:
        >>> part = count_reliability(np.array([0.9]), np.array([True]), bins=2)
        >>> sum_reliability([part, part]).pixels.tolist()
        [0.0, 2.0]
    """
    return Reliability(*(np.sum(part, axis=0) for part in zip(*parts, strict=True)))


def expected_calibration_error(sums: Reliability) -> float:
    """Computes the expected calibration error, ECE (Naeini et al. 2015; Guo et al. 2017).

    It is the mean over pixels of `|share of lung - mean probability|` in the pixel's bin.
    The probability is that of lung, not that of the predicted class. Most pixels are sure
    background, which keeps it small.

    Args:
        sums: as `count_reliability` returns them.

    Returns:
        in [0, 1]; 0 if there is no pixel.

    Example:
        >>> sums = count_reliability(np.full(4, 0.75), np.array([True, False, True, False]))
        >>> expected_calibration_error(sums)
        0.25
    """
    pixels = sums.pixels.sum()
    return float(np.abs(sums.lung - sums.probability).sum() / pixels) if pixels else 0.0


def reliability_curve(sums: Reliability) -> dict[str, Any]:
    """Makes the reliability diagram as plain numbers, for metrics.json.

    Args:
        sums: as `count_reliability` returns them.

    Returns:
        bins: how many.
        pixels: in each bin.
        mean_probability, lung_share: in each bin, in [0, 1]; None for an empty bin.
        ece: as `expected_calibration_error` returns it.

    Example:
        >>> curve = reliability_curve(count_reliability(np.array([1.0]), np.array([True]), bins=2))
        >>> curve["pixels"], curve["lung_share"], curve["ece"]
        ([0, 1], [None, 1.0], 0.0)
    """
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
