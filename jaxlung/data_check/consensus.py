"""Expects a mask for each image from the other pairs of a set, and measures how far its own is off.

A ridge regression leads from an image's appearance to its mask. It is fitted to all other pairs of
the set. Leaving each pair out has a closed form (Allen's PRESS, 1974), so one solution serves all
pairs. It needs no trained model, and knows only what the set itself shows: it comes to expect a
fault that all masks share.
"""

from typing import NamedTuple

import cv2
import numpy as np

APPEARANCE, GRID = 32, 64  # sides of what is regressed from and to, pixels
RIDGE = 0.4  # of the mean squared length of an appearance
TRUSTED = 0.85  # share of the pairs that the second fit uses
MIN_PAIRS = 24  # fewer cannot say what to expect
REACH = 16  # the largest shift that is tried, pixels of GRID
CANDIDATES = 2000  # pairs, those that agree least, whose masks are tried on one another
# What is worth a warning; docs/reference/data_check.md has the evidence.
REGION = 0.08  # of the mask's area
SHIFT, SHIFT_GAIN = 0.04, 0.06  # of the side; Dice
MIRROR_GAIN = 0.05
SWAP_GAIN = 0.1  # both Dice together
USUAL = 0.92  # median Dice with what is expected: below it, the thresholds rise (`measure_slack`)
FOLLOWS = 0.75  # median Dice with what is expected, below which images do not explain the masks
_ROWS = 512  # pairs worked on at a time: bounds the memory


class Disagreement(NamedTuple):
    """The differences of a mask from the expected one: shares of the mask, of the side, or Dice."""

    agreement: float  # Dice with what is expected
    region: float  # the largest compact region that only one of the two has, over the mask's area
    region_is_extra: bool  # the mask has it, and nothing is expected there
    region_y: float  # its centre
    region_x: float
    shift_gain: float  # Dice gained by the best shift
    shift_y: float  # the shift that the mask seems to have, towards larger y and x
    shift_x: float
    mirror_gain: float  # Dice gained by mirroring the mask left to right (may be negative)
    flip_gain: float  # likewise upside down


class Swap(NamedTuple):
    """Two masks that each fit the other's image better."""

    first: int
    second: int
    gain: float  # of both Dice together


def describe_appearance(standardised_SxS: np.ndarray) -> np.ndarray:
    """Shrinks an image, as `duplicates.standardise` returns it, to float16 [1024]."""
    side = (APPEARANCE, APPEARANCE)
    return cv2.resize(standardised_SxS, side, interpolation=cv2.INTER_AREA).ravel().astype("f2")


def shrink_mask(mask_SxS: np.ndarray) -> np.ndarray:
    """Shrinks a mask, [S, S] of 0 and 1, to uint8 [GRID, GRID]: the mask's share of each cell."""
    share = cv2.resize(mask_SxS.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
    return np.rint(share * 255).astype(np.uint8)


def expected_masks(appearances_NxD: np.ndarray, masks_NxGxG: np.ndarray) -> np.ndarray:
    """Expects a mask for each image from all other pairs.

    The regression is fitted twice: the second time without the pairs that the first fit agrees with
    least.

    Args:
        appearances_NxD: float [N, D], N at least 2.
        masks_NxGxG: uint8 [N, G, G], as `shrink_mask` returns them.

    Returns:
        uint8 [N, G, G]: the share of lung that is expected in each cell, 0 to 255.
    """
    count, size = appearances_NxD.shape
    if count < size:  # the same fit in the few dimensions that the appearances span
        centred_NxD = appearances_NxD - appearances_NxD.mean(0, dtype=float)
        # Their principal components, by the products of images: N x N instead of N x D.
        variances_N, vectors_NxN = np.linalg.eigh(centred_NxD @ centred_NxD.T)
        appearances_NxD = vectors_NxN * np.sqrt(np.maximum(variances_N, 0))
    trust_N = np.ones(count)
    expected = _leave_one_out(appearances_NxD, masks_NxGxG, trust_N)
    agreement_N = dice(masks_NxGxG > 127, expected > 127)
    trusted = agreement_N >= np.quantile(agreement_N, 1 - TRUSTED)
    return _leave_one_out(appearances_NxD, masks_NxGxG, trusted.astype(float))


def _leave_one_out(
    appearances_NxD: np.ndarray, masks_NxGxG: np.ndarray, weights_N: np.ndarray
) -> np.ndarray:
    count, size = appearances_NxD.shape
    masks_NxP = masks_NxGxG.reshape(count, -1)
    pixels = masks_NxP.shape[1]
    total = float(weights_N.sum())
    rows = [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]
    mean_D, mean_P = np.zeros(size), np.zeros(pixels)
    for r in rows:
        mean_D += weights_N[r] @ appearances_NxD[r].astype(float) / total
        mean_P += weights_N[r] @ masks_NxP[r].astype(float) / total
    scatter_DxD, products_DxP = np.zeros((size, size)), np.zeros((size, pixels))
    for r in rows:
        x = appearances_NxD[r] - mean_D
        weighted = weights_N[r, None] * x
        scatter_DxD += weighted.T @ x
        products_DxP += weighted.T @ (masks_NxP[r] - mean_P)
    ridge = RIDGE * np.trace(scatter_DxD) / total
    inverse_DxD = np.linalg.inv(scatter_DxD + max(ridge, 1e-9) * np.eye(size))
    slopes_DxP = inverse_DxD @ products_DxP
    expected = np.empty_like(masks_NxP)
    for r in rows:
        x = appearances_NxD[r] - mean_D
        leverage = weights_N[r] * (((x @ inverse_DxD) * x).sum(1) + 1 / total)
        residual = masks_NxP[r] - mean_P - x @ slopes_DxP
        left_out = masks_NxP[r] - residual / np.maximum(1 - leverage, 1e-6)[:, None]
        expected[r] = np.rint(np.clip(left_out, 0, 255))
    return expected.reshape(masks_NxGxG.shape)


def dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Computes Dice of bool [..., G, G]: float [...]; 1 where both are empty."""
    both = 2.0 * np.count_nonzero(first & second, axis=(-2, -1))
    total = np.count_nonzero(first, axis=(-2, -1)) + np.count_nonzero(second, axis=(-2, -1))
    return np.where(total == 0, 1.0, both / np.maximum(total, 1))


def measure_disagreement(mask_GxG: np.ndarray, expected_GxG: np.ndarray) -> Disagreement:
    """Compares a mask with the expected one, both uint8 [G, G], 0 to 255."""
    mask, expected = mask_GxG > 127, expected_GxG > 127
    own = float(dice(mask, expected))
    # Clear differences alone (below 0.4 where there is mask, above 0.6 where there is none).
    extra = _largest_region(mask & (expected_GxG < 0.4 * 255))
    missing = _largest_region(~mask & (expected_GxG > 0.6 * 255))
    pixels, region_y, region_x = max(extra, missing)
    region = pixels / max(1, int(mask.sum()))
    gain, shift_y, shift_x = _best_shift(mask, expected)
    mirror, flip = (float(dice(way, expected)) - own for way in (mask[:, ::-1], mask[::-1]))
    place = (region_y, region_x, gain - own, shift_y, shift_x)
    return Disagreement(own, region, extra >= missing, *place, mirror, flip)


def _largest_region(different_GxG: np.ndarray) -> tuple[int, float, float]:
    """Finds the largest region after an opening: pixels, and centre (y, x), shares of the side."""
    opened = cv2.morphologyEx(
        different_GxG.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    count, _, stats, centres = cv2.connectedComponentsWithStats(opened)
    if count == 1:
        return 0, 0.0, 0.0
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    x, y = (centres[largest] + 0.5) / different_GxG.shape[0]
    return int(stats[largest, cv2.CC_STAT_AREA]), float(y), float(x)


def _best_shift(mask: np.ndarray, expected: np.ndarray) -> tuple[float, float, float]:
    """Finds the highest Dice of any shift up to REACH, and the shift that it takes back (y, x)."""
    padded = np.pad(expected.astype(np.float32), REACH)
    both = cv2.matchTemplate(padded, mask.astype(np.float32), cv2.TM_CCORR)
    total = max(1, int(mask.sum()) + int(expected.sum()))
    y, x = np.unravel_index(np.argmax(both), both.shape)
    side = mask.shape[0]
    return float(2 * both[y, x] / total), (REACH - int(y)) / side, (REACH - int(x)) / side


def measure_slack(median: float) -> float:
    """Computes the factor of the thresholds, at least 1: few pairs say less of what to expect.

    Args:
        median: of the Dice between masks and what is expected.
    """
    return max(1.0, (1 - median) / (1 - USUAL))


def find_swaps(
    masks_NxGxG: np.ndarray, expected_NxGxG: np.ndarray, least: float = SWAP_GAIN
) -> list[Swap]:
    """Finds pairs of masks whose exchange gains at least `least`, and something in each.

    The largest gain comes first, and each mask is in one pair only. Of more than CANDIDATES masks,
    only those that agree least with the expected ones are tried.
    """
    own_N = dice(masks_NxGxG > 127, expected_NxGxG > 127)
    tried = np.sort(np.argsort(own_N, kind="stable")[:CANDIDATES])
    masks = (masks_NxGxG[tried] > 127).reshape(len(tried), -1).astype(np.float32)
    expected = (expected_NxGxG[tried] > 127).reshape(len(tried), -1).astype(np.float32)
    total = masks.sum(1)[:, None] + expected.sum(1)[None, :]
    gain_MxM = 2 * (masks @ expected.T) / np.maximum(total, 1) - own_N[tried][:, None]
    both_MxM = np.triu(gain_MxM + gain_MxM.T, 1)
    both_MxM[np.minimum(gain_MxM, gain_MxM.T) <= 0] = 0
    found: list[Swap] = []
    taken: set[int] = set()
    firsts, seconds = np.nonzero(both_MxM >= least)
    for k in np.argsort(-both_MxM[firsts, seconds], kind="stable"):
        first, second = int(tried[firsts[k]]), int(tried[seconds[k]])
        if not taken & {first, second}:
            taken |= {first, second}
            found.append(Swap(first, second, float(both_MxM[firsts[k], seconds[k]])))
    return found


def weigh_evidence(d: Disagreement, slack: float = 1.0) -> dict[str, float]:
    """Weighs each kind of disagreement in units of what is worth a warning at that slack."""
    is_moved = np.hypot(d.shift_y, d.shift_x) >= SHIFT and d.shift_gain >= SHIFT_GAIN * slack
    mirrored = max(0.0, d.mirror_gain, d.flip_gain)
    if is_moved and d.shift_gain >= mirrored:
        mirrored = 0.0  # the shift explains it better
    return {
        "unexpected_outline": d.region / (REGION * slack),
        "misaligned_mask": d.shift_gain / (SHIFT_GAIN * slack) if is_moved else 0.0,
        "mirrored_mask": mirrored / (MIRROR_GAIN * slack),
    }
