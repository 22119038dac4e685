"""The report of an evaluation: metrics.json, per_image.csv and a self-contained report.html.

Of CT there is per_volume.csv, too.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.evaluation import plots, tables
from jaxlung.io.page import encode_picture, render_page
from jaxlung.io.viewers.drawing import draw_thumbnail
from jaxlung.metrics import set_scores, statistics
from jaxlung.metrics.image import FLAGS, Tolerance
from jaxlung.metrics.records import score_columns
from jaxlung.metrics.set_scores import Scores
from jaxlung.system.files import write_json, write_text

OUTPUTS = ("metrics.json", "per_image.csv", "per_volume.csv", "report.html")
WORST, TYPICAL = 12, 4  # how many cases are drawn: worst by Dice; by HD95, median and best
SHOWN = 1000  # images in the page's table and scatter: a browser is slow with many more


def write_report(
    out: Path,
    results: Sequence[Scores],
    models: Mapping[str, Mapping[str, Any]],
    tolerance: Tolerance,
    environment: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Summarises the scores, writes OUTPUTS into a folder and prints the tables.

    Args:
        out: the folder, which exists.
        results: the scores of every model on every set.
        models: name to provenance.
        tolerance: of NSD, that the scores were computed with.
        environment: as `environment.describe_environment` returns it.
        seconds: that the scoring took.

    Returns:
        the content of metrics.json.
    """
    evaluation = {
        "schema": set_scores.SCHEMA,
        "settings": set_scores.describe_settings(tolerance),
        "models": models,
        "results": [set_scores.summarize_scores(scores) for scores in results],
        "comparisons": set_scores.compare_models(results),
        "environment": environment,
        "seconds": round(seconds, 2),
    }
    texts = {
        "report.html": render(evaluation, results),
        "per_image.csv": set_scores.write_csv(results),
        "per_volume.csv": set_scores.write_volumes_csv(results),
    }
    # Only now: all files of one evaluation, or none of them.
    write_json(out / "metrics.json", evaluation)
    for name, text in texts.items():
        if text is None:
            (out / name).unlink(missing_ok=True)  # an earlier report's
        else:
            write_text(out / name, text)
    print(tables.format_tables(evaluation))
    csvs = ", ".join(name for name, text in texts.items() if text and name.endswith(".csv"))
    print(f"written: {out}/report.html, metrics.json, {csvs}")
    return evaluation


def render(evaluation: Mapping[str, Any], results: Sequence[Scores]) -> str:
    """Makes the HTML page, which needs no file and no address outside of it."""
    columns, settings = score_columns(), evaluation["settings"]
    entries = zip(evaluation["results"], results, strict=True)
    about = {name: evaluation[name] for name in ("settings", "models", "environment")}
    return render_page(
        "jaxlung.evaluation",
        "report.html.j2",
        filters={
            "value": lambda number, name: columns[name].format(number),
            "interval": lambda ends, name: tables.format_interval(ends, columns[name]),
            "label": lambda name: columns[name].label(settings),
        },
        evaluation=evaluation,
        sections=[_section(n, entry, scores) for n, (entry, scores) in enumerate(entries)],
        matrix=tables.make_matrix(evaluation),
        rows=tables.metric_rows,
        volume_rows=tables.volume_rows,
        list_volumes=lambda number: tables.list_volumes(results[number]),
        flag_labels=FLAGS,
        record=json.dumps(about, indent=2),
        shown=SHOWN,
        list_notes=tables.list_notes,
        min_patients=statistics.MIN_PATIENTS,
        few_patients=statistics.FEW_PATIENTS,
        few_coverage=statistics.FEW_COVERAGE,
    )


def _section(number: int, entry: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
    """Collects what the template shows of one model on one set."""
    columns = scores.original
    cases = choose_cases(columns["dice"], columns["hd95_px"])
    drawn = [index for _, indices in cases for index in indices]
    shown = np.lexsort((-columns["hd95_px"], columns["dice"]))[:SHOWN]
    order = [*shown.tolist(), *sorted(set(drawn) - set(shown.tolist()))]
    images = {
        i: {
            "id": scores.ids[i],
            "anchor": f"row-{number}-{i}",
            "case": f"case-{number}-{i}" if i in drawn else None,
            "flags": scores.images[i].flags,
            "columns": scores.images[i].grids["original"],
        }
        for i in order
    }
    pictures = {
        i: encode_picture(draw_thumbnail(*picture), scores.ids[i])
        for i, picture in zip(drawn, scores.pictures(drawn), strict=True)
    }
    return {
        "number": number,
        "entry": entry,
        "images": list(images.values()),
        "cases": [
            (title, [{**images[i], "picture": pictures[i]} for i in indices])
            for title, indices in cases
        ],
        "charts": _charts(number, entry, scores, images),
    }


def choose_cases(dice_N: np.ndarray, hd95_N: np.ndarray) -> list[tuple[str, list[int]]]:
    """Chooses the images to draw, none of them twice.

    Args:
        dice_N: Dice of each image.
        hd95_N: HD95 of each image, in pixels.

    Returns:
        (heading, indices) of each group that has images.
    """
    by_dice = [int(i) for i in np.lexsort((-hd95_N, dice_N))]
    by_hd95 = [int(i) for i in np.lexsort((dice_N, -hd95_N))]
    nearest = [int(i) for i in np.argsort(np.abs(dice_N - np.median(dice_N)), kind="stable")]
    groups: list[tuple[str, list[int]]] = []
    taken: set[int] = set()
    for title, candidates, count in (
        ("Worst by Dice", by_dice, WORST),
        ("Largest HD95 among the others", by_hd95, TYPICAL),
        ("Median by Dice", nearest, TYPICAL),
        ("Best by Dice", by_dice[::-1], TYPICAL),
    ):
        chosen = [i for i in candidates if i not in taken][:count]
        if title.startswith("Worst"):  # half of a small set at most: the rest shows what is usual
            chosen = chosen[: max(1, len(dice_N) // 2)]
        taken.update(chosen)
        if chosen:
            groups.append((title, chosen))
    return groups


def _charts(
    number: int, entry: Mapping[str, Any], scores: Scores, images: Mapping[int, Mapping[str, Any]]
) -> list[str]:
    """Draws every charted metric of both lungs, the overlap of each lung, and Dice against HD95."""
    shares: dict[str, np.ndarray] = {}
    distances: dict[str, np.ndarray] = {}
    for name, column in score_columns().items():
        values, is_distance = scores.original[name], column.metric.kind == "distance"
        if not column.metric.charted or column.unit == "mm" or column.side and column.unit:
            continue
        if not column.side or not np.isnan(values).all():
            (distances if is_distance else shares)[column.metric.label + column.of_lung] = values
    pointed = list(images)
    charts = [
        plots.plot_strips(
            shares, xlabel="", title="Overlap of each image", name=f"overlap-{number}"
        ),
        plots.plot_strips(
            distances,
            xlabel="pixels of the original grid",
            title="Distances of each image",
            name=f"distances-{number}",
            log=True,
        ),
        plots.plot_scatter(
            scores.original["dice"][pointed],
            scores.original["hd95_px"][pointed],
            [bool(scores.images[i].flags) for i in pointed],
            [f"#{image['case'] or image['anchor']}" for image in images.values()],
            name=f"scatter-{number}",
        ),
    ]
    if entry["calibration"]:
        curve, name = entry["calibration"], f"calibration-{number}"
        charts.append(plots.plot_reliability(curve, name=name, structure=scores.output))
    return charts
