"""The scores of models on sets: from columns of per-image scores to metrics.json and per_image.csv.

docs/reference/evaluation.md describes the files, and a test compares it with them. Scans have
a file of their own, per_volume.csv, so that nobody takes a mean over slices for one over scans.
"""

import csv
import dataclasses
import functools
import io
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlung.metrics import calibration, statistics
from jaxlung.metrics.calibration import Reliability
from jaxlung.metrics.image import FLAGS, FOUND, LOW_DICE, Tolerance
from jaxlung.metrics.overlap import Counts
from jaxlung.metrics.records import overlap_metrics, score_columns, volume_columns
from jaxlung.structures import LUNG

SCHEMA = "jaxlung-evaluation-1"
COMPARED = ("dice", "hd95_px", "assd_px", "nsd_px")  # columns in which models are compared

Columns = Mapping[str, np.ndarray]
"""The scores of N images on one grid: the names of `image.score_masks` to float64 [N]."""


class Picture(NamedTuple):
    """What a report draws of one image, on its original grid."""

    image: np.ndarray | None  # as `to_canvas` takes it; None: the report draws on the truth
    prediction_HxW: np.ndarray
    truth_HxW: np.ndarray


class ImageScores(NamedTuple):
    """The scores of one image, and facts about it."""

    grids: Mapping[str, Mapping[str, float]]  # "original", perhaps "network": `image.score_masks`
    flags: Sequence[str]
    stray: Sequence[int]  # pieces and pixels, on the original grid
    size: Sequence[int]  # height and width of the original grid
    digest: str  # of the image's content
    confidence: float | None = (
        None  # the Dice to expect; None: the masks come without probabilities
    )


class VolumeScores(NamedTuple):
    """The scores of one scan: all of its slices together, as a body in three dimensions."""

    id: str
    patient: str
    size: tuple[int, ...]  # slices, height and width
    scores: Mapping[str, float]  # as `image.score_masks` returns them of the whole volume


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of one model on one set of N images."""

    model: str  # unique among a report's models
    data: str  # unique among its sets
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]  # subgroup column to the value of each image
    images: Sequence[ImageScores]
    reliability: Reliability | None  # None: the masks come without probabilities
    facts: Mapping[str, Any]  # for metrics.json: source, split, fingerprint, warnings, seconds
    pictures: Callable[[Sequence[int]], Iterator[Picture]]  # of these images, in this order
    output: str = LUNG  # the structure that the model marks
    volumes: Sequence[VolumeScores] | None = None  # whose slices the images are; None: X-rays

    @functools.cached_property
    def grids(self) -> Mapping[str, Columns]:
        """The columns on each grid of the images."""
        names = self.images[0].grids
        return {grid: to_columns([image.grids[grid] for image in self.images]) for grid in names}

    @property
    def contents(self) -> list[tuple[str, str]]:
        """The id and the digest of each image."""
        return [(name, image.digest) for name, image in zip(self.ids, self.images, strict=True)]

    @property
    def original(self) -> Columns:
        """The columns on the original grid."""
        return self.grids["original"]


def to_columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Makes columns of the scores of images.

    Args:
        rows: N of them, at least one, as `image.score_masks` returns them.

    Returns:
        name to float64 [N].

    Example:
        >>> to_columns([{"dice": 0.5}, {"dice": 1.0}])["dice"].tolist()
        [0.5, 1.0]
    """
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def summarize_scores(scores: Scores) -> dict[str, Any]:
    """Makes one of the `results` in metrics.json: docs/reference/evaluation.md has its keys."""
    return {
        "model": scores.model,
        "set": scores.data,
        "n": len(scores.ids),
        "patients": len(set(scores.patients)),
        **scores.facts,
        "grids": {
            grid: _summarize_grid(columns, scores.patients)
            for grid, columns in scores.grids.items()
        },
        "volumes": _summarize_volumes(scores),
        "flags": {flag: sum(flag in image.flags for image in scores.images) for flag in FLAGS},
        "flagged": sum(bool(image.flags) for image in scores.images),
        "subgroups": {
            name: {value: _summarize_subgroup(scores, name, value) for value in sorted(set(values))}
            for name, values in scores.groups.items()
        },
        "calibration": scores.reliability and calibration.reliability_curve(scores.reliability),
        "confidence": _summarize_confidence(scores),
    }


def _summarize_grid(columns: Columns, patients: Sequence[str]) -> dict[str, Any]:
    per_image = statistics.summarize({name: columns[name] for name in score_columns()}, patients)
    counts_Nx4 = np.stack([columns[name] for name in Counts._fields], axis=-1)
    metrics = overlap_metrics()

    def score(sums: np.ndarray) -> np.ndarray:
        counts = Counts(*np.moveaxis(sums, -1, 0))
        return np.stack([metric(counts) for metric in metrics.values()], axis=-1)

    values_K = score(counts_Nx4.sum(axis=0))
    intervals_Kx2 = statistics.bootstrap_intervals(counts_Nx4, patients, score)
    pooled = {
        name: {"value": float(value), "ci95": statistics.or_none(interval_2)}
        for name, value, interval_2 in zip(metrics, values_K, intervals_Kx2, strict=True)
    }
    return {"per_image": per_image, "pooled": pooled}


def _summarize_confidence(scores: Scores) -> dict[str, Any] | None:
    """Summarizes how near confidence is to Dice, and how well it finds failures: original grid."""
    confidence_N = np.array([image.confidence for image in scores.images], np.float64)
    if np.isnan(confidence_N).any():
        return None
    dice_N = scores.original["dice"]
    return {
        "mean": float(confidence_N.mean()),
        "mean_absolute_error": float(np.abs(confidence_N - dice_N).mean()),
        "failures": int((dice_N < LOW_DICE).sum()),
        "failure_auc": calibration.failure_auc(confidence_N, dice_N, LOW_DICE),
    }


def _summarize_volumes(scores: Scores) -> dict[str, Any] | None:
    """Summarises the scores of scans over scans."""
    if scores.volumes is None:
        return None
    columns = to_columns([volume.scores for volume in scores.volumes])
    patients = [volume.patient for volume in scores.volumes]
    values = {name: columns[name] for name in volume_columns()}
    return {
        "n": len(patients),
        "patients": len(set(patients)),
        "per_volume": statistics.summarize(values, patients),
    }


def _summarize_subgroup(scores: Scores, group: str, value: str) -> dict[str, Any]:
    chosen = [i for i, own in enumerate(scores.groups[group]) if own == value]
    patients = [scores.patients[i] for i in chosen]
    columns = {name: column[chosen] for name, column in scores.original.items()}
    return {
        "n": len(chosen),
        "patients": len(set(patients)),
        "flagged": sum(bool(scores.images[i].flags) for i in chosen),
        **_summarize_grid(columns, patients),
    }


def compare_models(results: Sequence[Scores]) -> list[dict[str, Any]]:
    """Compares every two models on every set that both were scored on, on the original grid.

    The comparison is of the images that both have: those of one id and one content. A difference is
    the second model's value less the first one's.

    Returns:
        the `comparisons` of metrics.json, with the metrics in COMPARED; [] if no image is common.
    """
    comparisons = []
    for a, b in itertools.combinations(results, 2):
        if (a.data, a.output) != (b.data, b.output):
            continue
        place = {content: i for i, content in enumerate(b.contents)}
        pairs = [(i, place[content]) for i, content in enumerate(a.contents) if content in place]
        of_a, of_b = [i for i, _ in pairs], [j for _, j in pairs]
        patients = [a.patients[i] for i in of_a]
        for metric in COMPARED if of_a else ():
            about = {"set": a.data, "metric": metric, "a": a.model, "b": b.model}
            values = a.original[metric][of_a], b.original[metric][of_b]
            comparisons.append({**about, **statistics.compare(*values, patients)})
    return comparisons


def describe_settings(tolerance: Tolerance) -> dict[str, Any]:
    """Returns the `settings` of metrics.json: what every figure of a report depends on."""
    return {
        "nsd_tolerance_px": tolerance.px,
        "nsd_tolerance_mm": tolerance.mm,
        "low_dice": LOW_DICE,
        "lung_missing_below_recall": FOUND,
        "confidence_level": statistics.LEVEL,
        "bootstrap_resamples": statistics.RESAMPLES,
        "bootstrap": "BCa with widened level, patients resampled; with fewer than "
        f"{statistics.FEW_PATIENTS} Hall's transformation instead",
    }


def write_csv(results: Sequence[Scores]) -> str:
    """Returns the text of per_image.csv: a row for each model, set and image."""
    groups = list(dict.fromkeys(name for scores in results for name in scores.groups))
    grids = list(dict.fromkeys(grid for scores in results for grid in scores.grids))
    columns = [(grid, name) for grid in grids for name in results[0].original]
    numbers = _number_patients(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["model", "set", "id", "patient", *groups]
    header += ["height", "width", "flags", "stray_pieces", "stray_pixels", "confidence"]
    writer.writerow([*header, *(f"{name}_{grid}" for grid, name in columns)])
    for scores in results:
        for i, image in enumerate(scores.images):
            row: list[Any] = [scores.model, scores.data, scores.ids[i]]
            row.append(numbers[scores.data][scores.patients[i]])
            row += [scores.groups[name][i] if name in scores.groups else "" for name in groups]
            row += [*image.size, " ".join(image.flags), *image.stray]
            row.append(_cell("confidence", image.confidence))
            row += [_cell(name, image.grids.get(grid, {}).get(name)) for grid, name in columns]
            writer.writerow(row)
    return text.getvalue()


def write_volumes_csv(results: Sequence[Scores]) -> str | None:
    """Returns the text of per_volume.csv: a row for each model, set and scan; None without any."""
    if all(scores.volumes is None for scores in results):
        return None
    numbers, columns = _number_patients(results), [*Counts._fields, *volume_columns()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "set", "id", "patient", "slices", "height", "width", *columns])
    for scores in results:
        for volume in scores.volumes or ():
            about = scores.model, scores.data, volume.id, numbers[scores.data][volume.patient]
            cells = (_cell(name, volume.scores[name]) for name in columns)
            writer.writerow([*about, *volume.size, *cells])
    return text.getvalue()


def _number_patients(results: Sequence[Scores]) -> dict[str, dict[str, int]]:
    """Numbers the patients of each set: enough to resample them, and no name leaves a hospital."""
    numbers: dict[str, dict[str, int]] = {}
    for scores in results:
        number = numbers.setdefault(scores.data, {})
        for patient in scores.patients:
            number.setdefault(patient, len(number))
    return numbers


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.0f}" if name in Counts._fields else f"{value:.6f}"
