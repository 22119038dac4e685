"""Calibrates the confidence of a bundled model of CT, and writes it into its record:

    python -m tools.calibrate_ct ct --scans DIR --runs RUNS

DIR holds images/ and masks/ with whole scans, RUNS the trainings of `tools.make_ct
--leave-one-out`, so that each scan is predicted by the model that has not seen it. Without --runs
the bundled model predicts scans that it may have learned from, and its confidence will be too high.

A line is fitted from the Dice that the probabilities of a whole scan let expect to the Dice of its
cleaned-up mask. There are few scans, and good ones alone say little of the line, so that each is
taken as it is and spoilt in the ways in which scans go wrong: noise of a low dose, coarse pixels,
thick slices, a field that cuts the lungs, values on another scale, a wrong turn, exchanged axes.
Lung that is filled is not among them: the model is surely wrong there, and no confidence shows it.
`jaxlung predict` warns of scans of which it expects a Dice below 0.9, as of films.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jaxlung.data.ct_folder import find_volumes
from jaxlung.errors import InputError, one_line_errors
from jaxlung.io.ct.hounsfield import read_scan
from jaxlung.io.ct.labels import check_same_grid, read_label_volume
from jaxlung.io.ct.rounding import to_int16
from jaxlung.metrics.calibration import FAILURE, Confidence, failure_auc, fit_confidence
from jaxlung.predict.load import load
from jaxlung.predict.predictor import Predictor
from jaxlung.predict.volumes import predict_scan
from jaxlung.system.files import write_json
from jaxlung.weights import bundled

Scan = tuple[np.ndarray, np.ndarray]  # Hounsfield units int16 and lungs bool, both [Z, H, W]
_GOOD = 0.95  # Dice of a good mask


def _tone(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Scan], Scan]:
    """Makes a fault of a change of values, slice by slice; the mask stays."""
    return lambda scan: (np.stack([to_int16(change(one)) for one in scan[0]]), scan[1])


def _moved(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Scan], Scan]:
    """Makes a fault of a change of places, which moves the mask too."""
    return lambda scan: (change(scan[0]), change(scan[1]))


def _noise(sd: float) -> Callable[[Scan], Scan]:
    rng = np.random.default_rng(0)
    return _tone(lambda hu_HxW: hu_HxW + rng.normal(0, sd, hu_HxW.shape))


def _coarse(factor: int) -> Callable[[Scan], Scan]:
    """Shrinks the slices and brings them back to their size."""

    def change(hu_HxW: np.ndarray) -> np.ndarray:
        size = hu_HxW.shape[1] // factor, hu_HxW.shape[0] // factor
        small = cv2.resize(hu_HxW.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, hu_HxW.shape[::-1], interpolation=cv2.INTER_LINEAR)

    return _tone(change)


def _thick(count: int) -> Callable[[Scan], Scan]:
    """Takes the mean of neighbouring slices."""

    def fault(scan: Scan) -> Scan:
        hu_ZxHxW, lungs_ZxHxW = scan
        last = len(hu_ZxHxW) - 1
        slabs = [
            hu_ZxHxW[max(0, z - count // 2) : min(last, z + count // 2) + 1].mean(0)
            for z in range(len(hu_ZxHxW))
        ]
        return np.stack([to_int16(slab) for slab in slabs]), lungs_ZxHxW

    return fault


def _field(share: float) -> Callable[[Scan], Scan]:
    """Cuts the middle of the slices."""

    def cut(one: np.ndarray) -> np.ndarray:
        _, height, width = one.shape
        top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
        return one[:, top : height - top, left : width - left]

    return _moved(cut)


FAULTS: dict[str, Callable[[Scan], Scan]] = {
    "as it is": lambda scan: scan,
    "noise of 150 HU": _noise(150),
    "noise of 500 HU": _noise(500),
    "pixels 4 times as coarse": _coarse(4),
    "pixels 12 times as coarse": _coarse(12),
    "slices 7 times as thick": _thick(7),
    "field of 0.6": _field(0.6),
    "field of 0.4": _field(0.4),
    "300 HU too high": _tone(lambda hu: hu + 300.0),
    "half of the range": _tone(lambda hu: 0.5 * hu),
    "soft tissue's window": _tone(lambda hu: np.clip(hu, -160, 240)),
    "turned by 90 degrees": _moved(lambda one: np.rot90(one, 1, (1, 2))),
    "axes exchanged": _moved(lambda one: one.transpose(1, 0, 2)),
}


class Point(NamedTuple):
    """A scan with a fault, predicted."""

    scan: str
    fault: str
    expected: float  # Dice, by the probabilities
    dice: float


def measure(model: Predictor, image: Path, mask: Path, step: int) -> list[Point]:
    """Predicts a scan with each of FAULTS.

    Args:
        step: take every Nth slice once the fault is there. Dice and its expectation are of sums
            over slices, so that a part of them tells both.

    Raises:
        InputError: the mask lies on another grid.
    """
    volume, labels = read_scan(image), read_label_volume(mask)
    check_same_grid(labels.grid, mask, volume.grid, image)
    raw = dataclasses.replace(model, confidences={})
    scan, points = (volume.voxels_ZxHxW, labels.voxels_ZxHxW > 0), []
    for name, fault in FAULTS.items():
        hu, lungs = (np.ascontiguousarray(one[::step]) for one in fault(scan))
        found = predict_scan(raw, volume._replace(voxels_ZxHxW=hu))
        both = int(np.count_nonzero(found.mask_ZxHxW & lungs))
        pixels = int(np.count_nonzero(found.mask_ZxHxW)) + int(np.count_nonzero(lungs))
        point = Point(image.name, name, found.confidence, 2 * both / max(pixels, 1))
        print(f"{image.name:16} {name:26} expected {point.expected:.4f}, Dice {point.dice:.4f}")
        points.append(point)
    return points


def fit(points: Sequence[Point]) -> Confidence:
    """Fits the line; empty masks, whose confidence is 0 anyway, say nothing of it."""
    drawn = [point for point in points if point.expected > 0]
    expected, dice = (np.array([getattr(p, name) for p in drawn]) for name in ("expected", "dice"))
    return fit_confidence(expected, dice)._replace(least=FAILURE)


def report(points: Sequence[Point]) -> str:
    """Says how far the confidence is from Dice, on each scan by a line fitted to the others."""
    confidences, dice = [], []
    for scan in dict.fromkeys(point.scan for point in points):
        line = fit([p for p in points if p.scan != scan])
        own = [point for point in points if point.scan == scan]
        confidences += [line.calibrate(point.expected) for point in own]
        dice += [point.dice for point in own]
    confidence_N, dice_N = np.array(confidences), np.array(dice)
    failed_N, warned_N = dice_N < FAILURE, confidence_N < FAILURE
    auc = failure_auc(confidence_N, dice_N)
    apart_N = np.abs(confidence_N - dice_N)
    good_N = apart_N[dice_N >= _GOOD]
    of_good = f"{good_N.mean():.4f}, n {len(good_N)}" if len(good_N) else "there is none"
    return (
        f"{len(dice_N)} scans with and without faults, each by a line of the other scans: mean "
        f"|confidence - Dice| {apart_N.mean():.4f} (of Dice from {_GOOD} on: {of_good}); Dice "
        f"below {FAILURE}: {failed_N.sum()}, warned of {(failed_N & warned_N).sum()}; of the "
        f"others {(~failed_N & warned_N).sum()} of {(~failed_N).sum()} are; AUC "
        f"{'undefined' if auc is None else f'{auc:.3f}'}"
    )


def write(name: str, confidence: Confidence, output: str) -> Path:
    """Writes the confidence of an output into a bundled model's record."""
    path = bundled.WEIGHTS / f"{name}.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    about["confidences"][output] = confidence._asdict()
    write_json(path, about)
    return path


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.calibrate_ct",
        description="Calibrates the confidence of a bundled model of CT on whole scans.",
    )
    parser.add_argument("name", help="of the bundled model")
    parser.add_argument("--scans", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--runs", type=Path, help="of `tools.make_ct --leave-one-out`: models that miss a scan each"
    )
    parser.add_argument("--step", type=int, default=4, help="take every Nth slice (default 4)")
    arguments = parser.parse_args(argv)
    if arguments.name not in bundled.list_models():
        raise InputError(f"{arguments.name}: no bundled model; make it by tools.bundle_model first")
    model = load(arguments.name)
    if model.config.modality != "ct":
        raise InputError(f"{arguments.name}: is of X-rays; pass --calibrate to tools.bundle_model")
    points: list[Point] = []
    for stem, pair in find_volumes(arguments.scans).items():
        unseen = load(arguments.runs / f"without_{stem}") if arguments.runs else model
        points += measure(unseen, *pair, arguments.step)
    if not arguments.runs:
        print("these scans may be those that the model learned from; pass --runs for unseen ones")
    print(report(points))
    print(write(arguments.name, confidence := fit(points), model.output), confidence)


if __name__ == "__main__":
    main()
