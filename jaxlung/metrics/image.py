"""Every score of one image: a prediction against the truth, both lungs together and apart.

Plain numpy, for masks from any tool. What the names mean is in docs/evaluation.md.
"""

from typing import NamedTuple

import cv2
import numpy as np

from jaxlung.errors import InputError
from jaxlung.masks.sides import SIDES, Lungs
from jaxlung.metrics import overlap
from jaxlung.metrics.overlap import Counts
from jaxlung.metrics.surface import assd, hausdorff, nsd, scale_distances, surface_distances

OVERLAP = {
    "dice": overlap.dice,
    "iou": overlap.iou,
    "precision": overlap.precision,
    "recall": overlap.recall,
    "accuracy": overlap.accuracy,
}
DISTANCES = ("hd", "hd95", "assd", "nsd")
FLAGS = ("missing", "empty", "lung_missing", "low_dice", "stray_pieces")
LOW_DICE = 0.9
FOUND = 0.1  # a lung of which less than this share is found is missing


class Tolerance(NamedTuple):
    """Distance up to which an outline counts as right, for NSD."""

    px: float = 2.0
    mm: float = 2.0


DEFAULT_TOLERANCE = Tolerance()


def check_tolerance(tolerance: Tolerance) -> None:
    """Raises InputError unless both are finite and not negative."""
    for unit, limit in tolerance._asdict().items():
        if not (np.isfinite(limit) and limit >= 0):
            raise InputError(f"tolerance of NSD is {limit:g} {unit}; expected 0 or more")


def score_masks(
    prediction_HxW: np.ndarray,
    truth_HxW: np.ndarray,
    *,
    lungs: Lungs | None = None,
    spacing: tuple[float, float] | None = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
) -> dict[str, float]:
    """Scores one image on one grid.

    Args:
        prediction_HxW, truth_HxW: bool [H, W].
        lungs: both lungs apart: see `lungs_apart`. None: their own scores are NaN.
        spacing: height and width of a pixel in mm; None: scores in mm are NaN.

    Returns:
        in this order: tp, fp, fn, tn (pixels); the names in OVERLAP; each of DISTANCES as NAME_px
        and NAME_mm; then Dice and the distances of each lung with _right or _left at the end.
    """
    counts = overlap.count_pixels(prediction_HxW[None], truth_HxW[None])
    scores = {name: float(count[0]) for name, count in counts._asdict().items()}
    scores |= {name: float(metric(counts)[0]) for name, metric in OVERLAP.items()}
    scores |= _distances(prediction_HxW, truth_HxW, spacing, tolerance)
    for side in SIDES:
        if lungs is None:
            lung = dict.fromkeys(("dice", *_distance_names()), np.nan)
        else:
            lung = {"dice": _dice(*lungs[side]), **_distances(*lungs[side], spacing, tolerance)}
        scores |= {f"{name}_{side}": value for name, value in lung.items()}
    return scores


def score_missing(
    truth_HxW: np.ndarray,
    *,
    lungs: Lungs | None = None,
    spacing: tuple[float, float] | None = None,
) -> dict[str, float]:
    """`score_masks` of an image without prediction: the worst of everything, lung or no lung.

    An empty prediction of an empty truth is right; none at all is a failure.
    """
    empty_HxW = np.zeros_like(truth_HxW)
    scores = score_masks(empty_HxW, truth_HxW, lungs=lungs, spacing=spacing)
    sides = np.array(truth_HxW.shape, np.float64)
    worst = {"px": np.hypot(*sides), "mm": np.hypot(*(sides * spacing)) if spacing else np.nan}
    for name in scores:
        metric, *rest = name.split("_")
        if metric in Counts._fields or np.isnan(scores[name]):
            continue
        scores[name] = float(worst[rest[0]]) if metric in DISTANCES[:3] else 0.0
    return scores


def _dice(prediction_HxW: np.ndarray, truth_HxW: np.ndarray) -> float:
    return float(overlap.dice(overlap.count_pixels(prediction_HxW[None], truth_HxW[None]))[0])


def _distance_names() -> list[str]:
    return [f"{name}_{unit}" for unit in ("px", "mm") for name in DISTANCES]


def _distances(
    prediction_HxW: np.ndarray,
    truth_HxW: np.ndarray,
    spacing: tuple[float, float] | None,
    tolerance: Tolerance,
) -> dict[str, float]:
    scores: dict[str, float] = {}
    pixels = surface_distances(prediction_HxW, truth_HxW)
    for unit, limit in tolerance._asdict().items():
        if unit == "px":
            distances = pixels
        elif spacing is None:
            scores |= {f"{name}_{unit}": np.nan for name in DISTANCES}
            continue
        elif spacing[0] == spacing[1]:
            distances = scale_distances(pixels, spacing[0])  # half the work
        else:
            distances = surface_distances(prediction_HxW, truth_HxW, spacing)
        scores[f"hd_{unit}"] = hausdorff(distances)
        scores[f"hd95_{unit}"] = hausdorff(distances, 95)
        scores[f"assd_{unit}"] = assd(distances)
        scores[f"nsd_{unit}"] = nsd(distances, limit)
    return scores


def count_stray_pieces(prediction_HxW: np.ndarray, truth_HxW: np.ndarray) -> tuple[int, int]:
    """Pieces of the prediction (8-connected) that touch no pixel of the truth: (number, pixels)."""
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
    """Which of FLAGS an image carries.

    missing: there is no prediction. empty: nothing predicted where
    there is lung. lung_missing: of a lung less than FOUND is predicted, though something is.
    low_dice: below LOW_DICE. stray_pieces: see `count_stray_pieces`.
    """
    flags = ["missing"] if missing else []
    if not missing and truth_HxW.any() and not prediction_HxW.any():
        flags.append("empty")
    if lungs is not None:
        found = [(p & t).sum() >= FOUND * t.sum() for p, t in lungs.values()]
        if prediction_HxW.any() and not all(found):
            flags.append("lung_missing")
    if _dice(prediction_HxW, truth_HxW) < LOW_DICE:
        flags.append("low_dice")
    if count_stray_pieces(prediction_HxW, truth_HxW)[0]:
        flags.append("stray_pieces")
    return tuple(flags)
