"""The scores of models on sets: from per-image columns to metrics.json and per_image.csv.

docs/evaluation.md describes both files; a test holds it to what is written here.
"""

import csv
import dataclasses
import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlung.metrics import calibration
from jaxlung.metrics.calibration import Reliability
from jaxlung.metrics.image import FLAGS, FOUND, LOW_DICE, OVERLAP, Tolerance
from jaxlung.metrics.overlap import Counts
from jaxlung.metrics.statistics import (
    LEVEL,
    RESAMPLES,
    bootstrap_intervals,
    compare,
    or_none,
    summarize,
)

SCHEMA = "jaxlung-evaluation-1"
COMPARED = ("dice", "hd95_px", "assd_px", "nsd_px")


class Picture(NamedTuple):
    """What a report draws of one image, on its original grid."""

    image: np.ndarray | None  # as `to_canvas` takes it; None: not at hand
    prediction_HxW: np.ndarray
    truth_HxW: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scores:
    """One model's scores on one set, N images."""

    model: str  # unique among a report's models
    data: str  # unique among its sets
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    grids: Mapping[str, Mapping[str, np.ndarray]]
    """Grid ("original", "network") to the columns of `image.score_masks`, float64 [N]."""
    flags: tuple[tuple[str, ...], ...]
    stray: tuple[tuple[int, int], ...]  # pieces and pixels, on the original grid
    sizes: tuple[tuple[int, int], ...]  # height and width of the original grid
    digests: tuple[str, ...]  # of each image's content
    reliability: Reliability | None  # None: the masks come without probabilities
    facts: Mapping[str, Any]  # for metrics.json: source, split, fingerprint, warnings, seconds
    picture: Callable[[int], Picture]
    volumes: tuple[str, ...] | None = None  # which scan each image is a slice of; None: no slices

    def dice(self) -> np.ndarray:
        """On the original grid, [N]."""
        return self.grids["original"]["dice"]


def to_columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Rows of `image.score_masks` as columns."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def summarize_scores(scores: Scores) -> dict[str, Any]:
    """One entry of metrics.json's `results`."""
    return {
        "model": scores.model,
        "set": scores.data,
        "n": len(scores.ids),
        "patients": len(set(scores.patients)),
        **scores.facts,
        "grids": {
            grid: _of_grid(columns, scores.patients) for grid, columns in scores.grids.items()
        },
        "volumes": _of_volumes(scores),
        "flags": {flag: sum(flag in flags for flags in scores.flags) for flag in FLAGS},
        "flagged": sum(map(bool, scores.flags)),
        "subgroups": {
            name: {value: _subgroup(scores, values, value) for value in sorted(set(values))}
            for name, values in scores.groups.items()
        },
        "calibration": scores.reliability and calibration.reliability_curve(scores.reliability),
    }


def _of_grid(columns: Mapping[str, np.ndarray], patients: Sequence[str]) -> dict[str, Any]:
    metrics = {name: values for name, values in columns.items() if name not in Counts._fields}
    return {"per_image": summarize(metrics, patients), "pooled": _pooled(columns, patients)}


def _pooled(
    columns: Mapping[str, np.ndarray], patients: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The overlap metrics of all images' pixels together, with their intervals."""
    counts_Nx4 = np.stack([columns[name] for name in Counts._fields], axis=-1)

    def overlap(sums: np.ndarray) -> np.ndarray:
        counts = Counts(*np.moveaxis(sums, -1, 0))
        return np.stack([metric(counts) for metric in OVERLAP.values()], axis=-1)

    values_K = overlap(counts_Nx4.sum(axis=0))
    intervals_Kx2 = bootstrap_intervals(counts_Nx4, patients, overlap)
    return {
        name: {"value": float(value), "ci95": or_none(interval_2)}
        for name, value, interval_2 in zip(OVERLAP, values_K, intervals_Kx2, strict=True)
    }


def _of_volumes(scores: Scores) -> dict[str, Any] | None:
    """The overlap metrics of each scan, of its slices' voxels together, on the original grid."""
    if scores.volumes is None:
        return None
    names, first_V, volume_N = np.unique(scores.volumes, return_index=True, return_inverse=True)
    columns = scores.grids["original"]
    counts = Counts(*(np.bincount(volume_N, columns[name]) for name in Counts._fields))
    values = {name: metric(counts) for name, metric in OVERLAP.items()}
    patients = [scores.patients[i] for i in first_V]
    return {"n": len(names), "per_volume": summarize(values, patients)}


def _subgroup(scores: Scores, values: Sequence[str], value: str) -> dict[str, Any]:
    chosen = np.flatnonzero([v == value for v in values])
    patients = [scores.patients[i] for i in chosen]
    columns = {name: column[chosen] for name, column in scores.grids["original"].items()}
    return {
        "n": len(chosen),
        "patients": len(set(patients)),
        "flagged": sum(bool(scores.flags[i]) for i in chosen),
        **_of_grid(columns, patients),
    }


def compare_models(results: Sequence[Scores]) -> list[dict[str, Any]]:
    """Every two models on every set that both were scored on: the images that both have.

    An image is the same if its id and its content are. On the original grid; a difference is the
    second model's value less the first one's.
    """
    found = []
    for a, b in itertools.combinations(results, 2):
        if a.data != b.data:
            continue
        place = {image: i for i, image in enumerate(zip(b.ids, b.digests, strict=True))}
        images = list(zip(a.ids, a.digests, strict=True))
        common = [i for i, image in enumerate(images) if image in place]
        if not common:
            continue
        others = [place[images[i]] for i in common]
        patients = [a.patients[i] for i in common]
        for metric in COMPARED:
            of_a, of_b = (s.grids["original"][metric] for s in (a, b))
            found.append(
                {
                    "set": a.data,
                    "metric": metric,
                    "a": a.model,
                    "b": b.model,
                    **compare(of_a[common], of_b[others], patients),
                }
            )
    return found


def describe_settings(tolerance: Tolerance) -> dict[str, Any]:
    """What every figure of a report depends on."""
    return {
        "nsd_tolerance_px": tolerance.px,
        "nsd_tolerance_mm": tolerance.mm,
        "low_dice": LOW_DICE,
        "lung_missing_below_recall": FOUND,
        "confidence_level": LEVEL,
        "bootstrap_resamples": RESAMPLES,
        "bootstrap": "BCa with widened level, patients resampled",
    }


def write_csv(results: Sequence[Scores]) -> str:
    """The text of per_image.csv: one row for each model, set and image."""
    grids = list(dict.fromkeys(grid for scores in results for grid in scores.grids))
    groups = list(dict.fromkeys(name for scores in results for name in scores.groups))
    names = list(results[0].grids["original"])
    # Patients as numbers, of a set: enough to resample them, and no name leaves the hospital.
    numbers: dict[str, dict[str, int]] = {}
    for scores in results:
        number = numbers.setdefault(scores.data, {})
        for patient in scores.patients:
            number.setdefault(patient, len(number))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "model",
            "set",
            "id",
            "patient",
            *groups,
            "height",
            "width",
            "flags",
            "stray_pieces",
            "stray_pixels",
        ]
        + [f"{name}_{grid}" for grid in grids for name in names]
    )
    for scores in results:
        for i, image_id in enumerate(scores.ids):
            row: list[Any] = [scores.model, scores.data, image_id]
            row.append(numbers[scores.data][scores.patients[i]])
            row += [scores.groups[name][i] if name in scores.groups else "" for name in groups]
            row += [*scores.sizes[i], " ".join(scores.flags[i]), *scores.stray[i]]
            for grid in grids:
                columns = scores.grids.get(grid)
                row += [_cell(columns, name, i) for name in names]
            writer.writerow(row)
    return text.getvalue()


def _cell(columns: Mapping[str, np.ndarray] | None, name: str, i: int) -> str:
    if columns is None or math.isnan(columns[name][i]):
        return ""
    return f"{columns[name][i]:.0f}" if name in Counts._fields else f"{columns[name][i]:.6f}"
