"""The report of an evaluation: metrics.json, per_image.csv and a self-contained report.html."""

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from jaxlung.evaluation import plots, tables
from jaxlung.io.drawing import draw_thumbnail
from jaxlung.io.page import encode_picture
from jaxlung.metrics.image import Tolerance
from jaxlung.metrics.set_scores import (
    SCHEMA,
    Scores,
    compare_models,
    describe_settings,
    summarize_scores,
    write_csv,
)
from jaxlung.metrics.statistics import MIN_PATIENTS
from jaxlung.system.files import write_json, write_text

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
    """Summarises, writes the three files into `out` and prints the tables.

    Args:
        results: of every model on every set.
        models: name to provenance.
        environment: as `environment.describe_environment` gives it.
        seconds: that the scoring took.

    Returns:
        what metrics.json holds.
    """
    evaluation = {
        "schema": SCHEMA,
        "settings": describe_settings(tolerance),
        "models": models,
        "results": [summarize_scores(scores) for scores in results],
        "comparisons": compare_models(results),
        "environment": environment,
        "seconds": round(seconds, 2),
    }
    page, rows = render(evaluation, results), write_csv(results)
    # Only now: three files of one evaluation, or none of them.
    write_json(out / "metrics.json", evaluation)
    write_text(out / "per_image.csv", rows)
    write_text(out / "report.html", page)
    print(tables.format_tables(evaluation))
    print(f"written: {out}/report.html, metrics.json, per_image.csv")
    return evaluation


def render(evaluation: Mapping[str, Any], results: Sequence[Scores]) -> str:
    """The HTML page: no file or address outside of it is needed to show it."""
    source = (
        importlib.resources.files("jaxlung.evaluation")
        .joinpath("report.html.j2")
        .read_text("utf-8")
    )
    page = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters["value"] = tables.format_value
    page.filters["interval"] = tables.format_interval
    page.filters["label"] = lambda name: tables.format_label(name, evaluation["settings"])
    sections = [
        _section(number, entry, scores)
        for number, (entry, scores) in enumerate(zip(evaluation["results"], results, strict=True))
    ]
    return page.from_string(source).render(
        evaluation=evaluation,
        sections=sections,
        matrix=tables.make_matrix(evaluation),
        rows=tables.metric_rows,
        volume_rows=tables.volume_rows,
        labels=tables.FLAG_LABELS,
        record=json.dumps(
            {name: evaluation[name] for name in ("settings", "models", "environment")}, indent=2
        ),
        shown=SHOWN,
        min_patients=MIN_PATIENTS,
    )


def _section(number: int, entry: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
    """What the template shows of one model on one set."""
    columns, dice_N = scores.grids["original"], scores.dice()
    cases = choose_cases(dice_N, columns["hd95_px"])
    drawn = {index for _, indices in cases for index in indices}
    shown = np.lexsort((-columns["hd95_px"], dice_N))[:SHOWN]
    order = np.r_[shown, np.setdiff1d(np.array(sorted(drawn)), shown)].astype(int)
    images = [
        {
            "id": scores.ids[i],
            "anchor": f"row-{number}-{i}",
            "case": f"case-{number}-{i}" if i in drawn else None,
            "flags": scores.flags[i],
            "columns": {name: values[i] for name, values in columns.items()},
        }
        for i in order
    ]
    by_index = {int(i): image for i, image in zip(order, images, strict=True)}
    return {
        "number": number,
        "entry": entry,
        "images": images,
        "cases": [
            (title, [{**by_index[i], "picture": _picture(scores, i)} for i in indices])
            for title, indices in cases
        ],
        "charts": _charts(number, entry, scores, by_index),
    }


def choose_cases(dice_N: np.ndarray, hd95_N: np.ndarray) -> list[tuple[str, list[int]]]:
    """Which images to draw, none of them twice: (heading, indices), empty groups left out."""
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
    columns = scores.grids["original"]
    pointed = list(images)
    overlap = {"Dice": "dice", "IoU": "iou", "NSD": "nsd_px"}
    distances = {"HD": "hd_px", "HD95": "hd95_px", "ASSD": "assd_px"}
    apart = {"Dice, right lung": "dice_right", "Dice, left lung": "dice_left"}
    overlap |= {k: v for k, v in apart.items() if not np.isnan(columns[v]).all()}
    charts = [
        plots.plot_strips(
            {label: columns[name] for label, name in overlap.items()},
            xlabel="",
            title="Overlap of each image",
            name=f"overlap-{number}",
        ),
        plots.plot_strips(
            {label: columns[name] for label, name in distances.items()},
            xlabel="pixels of the original grid",
            title="Distances of each image",
            name=f"distances-{number}",
            log=True,
        ),
        plots.plot_scatter(
            columns["dice"][pointed],
            columns["hd95_px"][pointed],
            [bool(scores.flags[i]) for i in pointed],
            [f"#{image['case'] or image['anchor']}" for image in images.values()],
            name=f"scatter-{number}",
        ),
    ]
    if entry["calibration"]:
        charts.append(plots.plot_reliability(entry["calibration"], name=f"calibration-{number}"))
    return charts


def _picture(scores: Scores, index: int) -> dict[str, Any]:
    return encode_picture(draw_thumbnail(*scores.picture(index)), scores.ids[index])
