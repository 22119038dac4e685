"""The tables of a report, for the console and for the page: which rows, and how numbers look."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxlung.metrics.image import LOW_DICE
from jaxlung.metrics.statistics import MIN_PATIENTS

FLAG_LABELS = {
    "missing": "no prediction",
    "empty": "empty prediction",
    "lung_missing": "lung missing",
    "low_dice": f"Dice < {LOW_DICE}",
    "stray_pieces": "stray pieces",
}
_LABELS = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "Precision",
    "recall": "Recall",
    "accuracy": "Accuracy",
    "hd": "HD",
    "hd95": "HD95",
    "assd": "ASSD",
    "nsd": "NSD",
}
_DISTANCES = ("hd", "hd95", "assd")
_BOTH_LUNGS = (*_LABELS, *(f"{m}_{unit}" for unit in ("px", "mm") for m in (*_DISTANCES, "nsd")))


def metric_rows(
    grid: Mapping[str, Any], settings: Mapping[str, Any], names: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """The metrics of one grid that have a value, in order, with what a table says of them.

    Args:
        grid: `grids[...]` of an entry of metrics.json.
        settings: its `settings`.
        names: only these.

    Yields:
        name; label; per_image; pooled (value and interval) or None; tail and worst: the bad end of
        the distribution, its last 5 % and its extreme.
    """
    for name, per_image in grid["per_image"].items():
        if not per_image["n"] or (names and name not in names):
            continue
        distance = name.split("_")[0] in _DISTANCES
        yield {
            "name": name,
            "label": format_label(name, settings),
            "per_image": per_image,
            "pooled": grid["pooled"].get(name),
            "tail": per_image["p95" if distance else "p5"],
            "worst": per_image["max" if distance else "min"],
        }


def volume_rows(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """`metric_rows` of the volumes of an entry of metrics.json that has some."""
    return metric_rows({"per_image": entry["volumes"]["per_volume"], "pooled": {}}, settings)


def format_label(name: str, settings: Mapping[str, Any]) -> str:
    """hd95_px_right as "HD95 (px), right lung"."""
    metric, *rest = name.split("_")
    unit = next((part for part in rest if part in ("px", "mm")), None)
    side = next((part for part in rest if part in ("right", "left")), None)
    text = _LABELS[metric]
    if metric == "nsd":
        text += f" at {settings[f'nsd_tolerance_{unit}']:g} {unit}"
    elif unit:
        text += f" ({unit})"
    return text + (f", {side} lung" if side else "")


def format_value(number: float | None, name: str) -> str:
    """A share with four decimals, a distance with two, and a dash for what is not defined."""
    if number is None or math.isnan(number):
        return "\N{EN DASH}"
    return f"{number:.2f}" if name.split("_")[0] in _DISTANCES else f"{number:.4f}"


def format_interval(ends: Sequence[float] | None, name: str) -> str:
    if ends is None:
        return "\N{EN DASH}"
    return f"{format_value(ends[0], name)} to {format_value(ends[1], name)}"


def make_matrix(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Models by sets: `sets`, and for each model its row of entries of metrics.json, or None."""
    results = evaluation["results"]
    sets = list(dict.fromkeys(entry["set"] for entry in results))
    cells = {(entry["model"], entry["set"]): entry for entry in results}
    return {
        "sets": sets,
        "models": [(m, [cells.get((m, s)) for s in sets]) for m in evaluation["models"]],
    }


def format_tables(evaluation: Mapping[str, Any]) -> str:
    """All tables for the console."""
    lines: list[str] = []
    for entry in evaluation["results"]:
        lines += ["", *_heading(entry, evaluation["models"][entry["model"]])]
        for grid, content in entry["grids"].items():
            lines.append(
                f"{_grid_title(grid, evaluation['models'][entry['model']]):26}{'n':>5} "
                f"{'mean':>8} {'95 % CI of mean':>18} {'SD':>8} {'median':>8} {'worst 5%':>9} "
                f"{'worst':>8} {'pooled':>8}"
            )
            lines += [
                _line(row)
                for row in metric_rows(content, evaluation["settings"])
                if row["name"] in _BOTH_LUNGS or row["name"].startswith("dice")
            ]
        if entry["volumes"]:
            lines.append(f"whole volumes, {entry['volumes']['n']}: the voxels of all their slices")
            lines += [_line(row) for row in volume_rows(entry, evaluation["settings"])]
        counts = ", ".join(
            f"{count} {FLAG_LABELS[flag]}" for flag, count in entry["flags"].items() if count
        )
        lines.append(
            f"flagged: {entry['flagged']} of {entry['n']}" + (f" ({counts})" * bool(counts))
        )
    if evaluation["comparisons"]:
        lines += ["", "paired differences on the same images, original grid:"]
        lines += [_comparison(c, evaluation["settings"]) for c in evaluation["comparisons"]]
    return "\n".join(lines).strip("\n")


def _heading(entry: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    threshold = model.get("threshold")
    about = f"{entry['model']} on {entry['set']}, split {entry['split']}"
    if threshold:
        about += f", model of step {model['step']}, threshold {threshold['value']:g}"
    notes = list(entry["warnings"])
    if entry["patients"] < MIN_PATIENTS:
        notes.append(f"{entry['patients']} patients: intervals need at least {MIN_PATIENTS}")
    return [about, *(f"note: {note}" for note in notes)]


def _grid_title(grid: str, model: Mapping[str, Any]) -> str:
    size = model.get("network_size")
    return f"network {size}x{size}" if grid == "network" else "original grid"


def _line(row: Mapping[str, Any]) -> str:
    per_image, name = row["per_image"], row["name"]
    cells = (per_image["sd"], per_image["median"], row["tail"], row["worst"])
    sd, median, tail, worst = (format_value(cell, name) for cell in cells)
    pooled = "" if row["pooled"] is None else format_value(row["pooled"]["value"], name)
    return (
        f"  {row['label']:24}{per_image['n']:>5} {format_value(per_image['mean'], name):>8} "
        f"{format_interval(per_image['ci95'], name):>18} {sd:>8} {median:>8} {tail:>9} {worst:>8} "
        f"{pooled:>8}"
    )


def _comparison(c: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    name = c["metric"]
    return (
        f"  {c['set']}, {format_label(name, settings)}: {c['b']} less {c['a']} "
        f"{format_value(c['mean_difference'], name)} "
        f"[{format_interval(c['ci95'], name)}], n {c['n']}, Wilcoxon p {c['wilcoxon_p']:.2g}"
    )
