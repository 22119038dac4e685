"""The tables of a report, for the console and for the page: their rows, and how numbers look."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxlung.metrics.image import FLAGS
from jaxlung.metrics.records import Column, score_columns
from jaxlung.metrics.set_scores import Scores, VolumeScores
from jaxlung.metrics.statistics import FEW_COVERAGE, FEW_PATIENTS, MIN_PATIENTS


def metric_rows(grid: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Makes the rows of a table: the metrics of a grid that have a value, in order.

    Args:
        grid: `grids[...]` of an entry of metrics.json.
        settings: its `settings`.

    Yields:
        column: a `records.Column`.
        label: of the column.
        per_image: its summary.
        pooled: value and interval, or None.
        tail, worst: the bad end of the distribution, its last 5 % and its extreme.
    """
    columns = score_columns()
    for name, per_image in grid["per_image"].items():
        if per_image["n"]:
            column = columns[name]
            tail, worst = ("p95", "max") if column.metric.bad_end == "high" else ("p5", "min")
            yield {
                "column": column,
                "label": column.label(settings),
                "per_image": per_image,
                "pooled": grid["pooled"].get(name),
                "tail": per_image[tail],
                "worst": per_image[worst],
            }


def volume_rows(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Makes `metric_rows` of the volumes of an entry of metrics.json that has volumes."""
    return metric_rows({"per_image": entry["volumes"]["per_volume"], "pooled": {}}, settings)


def list_volumes(scores: Scores) -> list[VolumeScores]:
    """Returns the scans of a set, the worst by Dice first."""
    return sorted(scores.volumes or (), key=lambda volume: volume.scores["dice"])


def format_interval(ends: Sequence[float] | None, column: Column) -> str:
    """Writes "LOW to HIGH", or a dash where there is no interval."""
    if ends is None:
        return column.format(None)
    low, high = ends
    return f"{column.format(low)} to {column.format(high)}"


def make_matrix(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Arranges the results as models by sets.

    Returns:
        sets: their names.
        models: for each, its name and its entries of metrics.json by set, None where it has none.
    """
    results = evaluation["results"]
    sets = list(dict.fromkeys(entry["set"] for entry in results))
    cells = {(entry["model"], entry["set"]): entry for entry in results}
    return {
        "sets": sets,
        "models": [(m, [cells.get((m, s)) for s in sets]) for m in evaluation["models"]],
    }


def format_tables(evaluation: Mapping[str, Any]) -> str:
    """Writes all tables for the console."""
    lines: list[str] = []
    settings = evaluation["settings"]
    for entry in evaluation["results"]:
        model = evaluation["models"][entry["model"]]
        lines += ["", *_heading(entry, model)]
        for grid, content in entry["grids"].items():
            size = model.get("network_size")
            title = f"network {size}x{size}" if grid == "network" else "original grid"
            rows = metric_rows(content, settings)
            # Of one lung the overlap alone: its distances would double the table.
            rows = (row for row in rows if not (row["column"].side and row["column"].unit))
            lines += _table(f"{title}, slices" if entry["volumes"] else title, rows)
        if entry["volumes"]:
            title = f"whole volumes, {entry['volumes']['n']}"
            lines += _table(title, volume_rows(entry, settings))
        flags = [f"{count} {FLAGS[flag]}" for flag, count in entry["flags"].items() if count]
        counts = f" ({', '.join(flags)})" if flags else ""
        lines.append(f"flagged: {entry['flagged']} of {entry['n']}{counts}")
    if evaluation["comparisons"]:
        lines += ["", "paired differences on the same images, original grid:"]
        lines += [_comparison(comparison, settings) for comparison in evaluation["comparisons"]]
    return "\n".join(lines).strip("\n")


def list_notes(entry: Mapping[str, Any]) -> list[str]:
    """Lists what has to be said beside the figures of an entry of metrics.json."""
    notes, patients = list(entry["warnings"]), entry["patients"]
    if patients < MIN_PATIENTS:
        notes.append(f"{patients} patients: intervals need at least {MIN_PATIENTS}")
    elif patients < FEW_PATIENTS:
        notes.append(
            f"{patients} patients: with fewer than {FEW_PATIENTS} the 95 % intervals of Dice hold "
            f"the true mean in {FEW_COVERAGE} of cases"
        )
    return notes


def _heading(entry: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    about = f"{entry['model']} on {entry['set']}, split {entry['split']}"
    if "threshold" in model:
        about += f", model of step {model['step']}, threshold {model['threshold']['value']:g}"
    return [about, *(f"note: {note}" for note in list_notes(entry))]


def _table(title: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    head = (
        f"{title:26}{'n':>5} {'mean':>8} {'95 % CI of mean':>18} {'SD':>8} {'median':>8} "
        f"{'worst 5%':>9} {'worst':>8} {'pooled':>8}"
    )
    return [head, *map(_line, rows)]


def _line(row: Mapping[str, Any]) -> str:
    per_image, column = row["per_image"], row["column"]
    cells = (per_image["mean"], per_image["sd"], per_image["median"], row["tail"], row["worst"])
    mean, sd, median, tail, worst = map(column.format, cells)
    pooled = "" if row["pooled"] is None else column.format(row["pooled"]["value"])
    return (
        f"  {row['label']:24}{per_image['n']:>5} {mean:>8} "
        f"{format_interval(per_image['ci95'], column):>18} {sd:>8} {median:>8} {tail:>9} "
        f"{worst:>8} {pooled:>8}"
    )


def _comparison(comparison: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    column = score_columns()[comparison["metric"]]
    return (
        f"  {comparison['set']}, {column.label(settings)}: {comparison['b']} less "
        f"{comparison['a']} {column.format(comparison['mean_difference'])} "
        f"[{format_interval(comparison['ci95'], column)}], n {comparison['n']}, "
        f"Wilcoxon p {comparison['wilcoxon_p']:.2g}"
    )
