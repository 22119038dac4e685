"""Every score of one image or volume: a prediction against the truth, the lungs also apart.

On the host, for masks from any tool. `metrics.records` names the scores, and docs/metrics.md
explains them.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from jaxlung.errors import InputError
from jaxlung.masks.sides import Lungs
from jaxlung.metrics import overlap
from jaxlung.metrics.overlap import Counts
from jaxlung.metrics.records import Column, score_columns
from jaxlung.metrics.surface import SurfaceDistances, scale_distances, surface_distances

LOW_DICE = 0.9
FOUND = 0.1  # a lung of which less than this share is found is missing
FLAGS = {  # name to label
    "missing": "no prediction",
    "empty": "empty prediction",
    "lung_missing": "lung missing",
    "low_dice": f"Dice < {LOW_DICE}",
    "stray_pieces": "stray pieces",
}


class Tolerance(NamedTuple):
    """The distance up to which an outline counts as right, for NSD."""

    px: float = 2.0
    mm: float = 2.0


DEFAULT_TOLERANCE = Tolerance()


def check_tolerance(tolerance: Tolerance) -> None:
    """Checks that both tolerances are finite and not negative.

    Raises:
        InputError: one of them is not.

    Example:
        >>> check_tolerance(Tolerance(px=2.0, mm=0.0))
    """
    for unit, limit in tolerance._asdict().items():
        if not (np.isfinite(limit) and limit >= 0):
            raise InputError(f"tolerance of NSD is {limit:g} {unit}; expected 0 or more")


def score_masks(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    lungs: Lungs | None = None,
    spacing: tuple[float, ...] | None = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
) -> dict[str, float]:
    """Scores one image on one grid, or one volume as a whole.

    Args:
        prediction: bool [H, W] or [Z, H, W].
        truth: bool, of the same shape.
        lungs: both lungs apart, as `masks.sides.split_lungs` returns them. None: the scores of each
            lung are NaN.
        spacing: the sides of a pixel or voxel in mm, in the order of the axes. None: the scores in
            mm are NaN.
        tolerance: of NSD, in pixels and in mm.

    Returns:
        tp, fp, fn and tn, in pixels, then the columns of `records.score_columns`. An image whose
        masks are empty has the values that docs/metrics.md lists for each metric. The scores of
        a volume in pixels are NaN, as voxels are not cubes.

    Raises:
        ValueError: the shapes differ or have not two or three dimensions, or the spacing is not
            positive.

    Example:
        >>> truth = np.zeros((4, 4), bool)
        >>> truth[1:3] = True
        >>> scores = score_masks(np.roll(truth, 1, axis=0), truth, spacing=(0.5, 0.5))
        >>> scores["tp"], scores["dice"], scores["hd_px"], scores["hd_mm"]
        (4.0, 0.5, 1.0, 0.5)
    """
    regions = {"": (prediction, truth), **(lungs or {})}
    measured = {side: _measure(*masks, spacing) for side, masks in regions.items()}
    counts = measured[""].counts._asdict()
    return {name: float(count[0]) for name, count in counts.items()} | {
        name: measured[column.side].score(column, tolerance) if column.side in measured else np.nan
        for name, column in score_columns().items()
    }


class _Measured(NamedTuple):
    """What the metrics of a pair of masks are computed from."""

    counts: Counts  # [1]
    distances: dict[str, SurfaceDistances]  # by unit; without "mm" if no spacing is known

    def score(self, column: Column, tolerance: Tolerance) -> float:
        if not column.unit:
            return float(column.metric.compute(self.counts)[0])
        if column.unit not in self.distances:
            return np.nan
        limit = getattr(tolerance, column.unit)
        return float(column.metric.compute(self.distances[column.unit], limit))


def _measure(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...] | None
) -> _Measured:
    counts = overlap.count_pixels(prediction[None], truth[None])
    distances: dict[str, SurfaceDistances] = {}
    if truth.ndim == 2:
        distances["px"] = surface_distances(prediction, truth)
    if spacing and "px" in distances and spacing[0] == spacing[1]:
        distances["mm"] = scale_distances(distances["px"], spacing[0])  # half the work
    elif spacing:
        distances["mm"] = surface_distances(prediction, truth, spacing)
    return _Measured(counts, distances)


def score_missing(
    truth: np.ndarray,
    *,
    lungs: Lungs | None = None,
    spacing: tuple[float, ...] | None = None,
) -> dict[str, float]:
    """Scores an image or volume that has no prediction: the worst of every metric.

    An empty prediction is right for an empty truth. A missing one is a failure all the same.

    Args:
        truth: bool [H, W] or [Z, H, W].
        lungs: both lungs apart, the predictions empty; see `score_masks`.
        spacing: see `score_masks`.

    Returns:
        the names of `score_masks`. Counts are those of an empty prediction, distances are the
        image's diagonal, other metrics are 0. A score that is NaN there is NaN here.

    Example:
        >>> scores = score_missing(np.zeros((3, 4), bool))
        >>> scores["dice"], scores["accuracy"], scores["hd95_px"]
        (0.0, 0.0, 5.0)
    """
    empty = np.zeros_like(truth)
    scores = score_masks(empty, truth, lungs=lungs, spacing=spacing)
    sides = np.array(truth.shape, np.float64)
    diagonal = {"px": math.hypot(*sides), "mm": math.hypot(*(sides * (spacing or np.nan)))}
    for name, column in score_columns().items():
        if not np.isnan(scores[name]):
            is_distance = column.metric.kind == "distance"
            scores[name] = diagonal[column.unit] if is_distance else 0.0
    return scores


def count_stray_pieces(prediction_HxW: np.ndarray, truth_HxW: np.ndarray) -> tuple[int, int]:
    """Counts the pieces of the prediction (8-connected) that touch no pixel of the truth.

    Args:
        prediction_HxW: bool [H, W].
        truth_HxW: bool [H, W].

    Returns:
        the number of pieces, and their pixels together; (0, 0) for an empty prediction.

    Example:
        >>> prediction, truth = np.array([[[1, 0, 1, 1]], [[1, 0, 0, 0]]], bool)
        >>> count_stray_pieces(prediction, truth)
        (1, 2)
    """
    count, label_HxW, stats, _ = cv2.connectedComponentsWithStats(prediction_HxW.astype(np.uint8))
    touching = np.zeros(count, bool)
    touching[label_HxW[truth_HxW]] = True
    touching[0] = True  # the background
    return int((~touching).sum()), int(stats[~touching, cv2.CC_STAT_AREA].sum())


def flag_failures(
    prediction_HxW: np.ndarray,
    truth_HxW: np.ndarray,
    lungs: Lungs | None,
    *,
    missing: bool = False,
) -> tuple[str, ...]:
    """Finds what is wrong with a prediction.

    Args:
        prediction_HxW: bool [H, W].
        truth_HxW: bool [H, W].
        lungs: both lungs apart, as `masks.sides.split_lungs` returns them. None: no lung is
            reported as missing.
        missing: there is no prediction, and `prediction_HxW` is empty.

    Returns:
        names of FLAGS, in their order.
        missing: there is no prediction.
        empty: there is a prediction, it has no pixel, and the truth has some.
        lung_missing: something is predicted, but less than FOUND (10 %) of a lung is.
        low_dice: Dice is below LOW_DICE (0.9).
        stray_pieces: see `count_stray_pieces`.

    Example:
        >>> truth = np.array([[1, 1, 0, 0]], bool)
        >>> flag_failures(np.zeros_like(truth), truth, None)
        ('empty', 'low_dice')
    """
    is_predicted = bool(prediction_HxW.any())
    lung_missing = is_predicted and any(
        (prediction & truth).sum() < FOUND * truth.sum()
        for prediction, truth in (lungs or {}).values()
    )
    counts = overlap.count_pixels(prediction_HxW[None], truth_HxW[None])
    found = {
        "missing": missing,
        "empty": not missing and not is_predicted and bool(truth_HxW.any()),
        "lung_missing": lung_missing,
        "low_dice": overlap.dice(counts)[0] < LOW_DICE,
        "stray_pieces": count_stray_pieces(prediction_HxW, truth_HxW)[0] > 0,
    }
    return tuple(flag for flag in FLAGS if found[flag])
