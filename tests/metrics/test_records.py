"""One record makes a metric known to the scores, the files, the console, the page and the docs."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from jaxlung.evaluation import plots, tables
from jaxlung.evaluation.report import render
from jaxlung.metrics import records
from jaxlung.metrics.image import Tolerance, score_masks, score_missing
from jaxlung.metrics.records import METRICS, Metric, score_columns
from jaxlung.metrics.set_scores import (
    ImageScores,
    Picture,
    Scores,
    VolumeScores,
    describe_settings,
    summarize_scores,
    write_csv,
)

TRUTH = np.zeros((8, 8), bool)
TRUTH[2:6, 1:3], TRUTH[2:6, 5:7] = True, True


def specificity(counts):
    return counts.tn / (counts.tn + counts.fp)


@pytest.fixture
def with_specificity(monkeypatch):
    """An overlap metric that the package has not, added as a contributor would add it."""
    metric = Metric("specificity", "Specificity", "overlap", specificity, by_lung=True)
    monkeypatch.setattr(records, "METRICS", (*METRICS, metric))


def test_an_added_metric_appears_everywhere(with_specificity, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "plot_strips", lambda columns, **_: drawn.append(columns) or "")
    prediction = np.roll(TRUTH, 1, axis=0)
    lungs = {"right": (prediction, TRUTH), "left": (prediction, TRUTH)}
    row = score_masks(prediction, TRUTH, lungs=lungs)
    value = 44 / 48
    names = ("specificity", "specificity_right", "specificity_left")
    assert [row[name] for name in names] == pytest.approx([value] * 3)
    assert score_missing(TRUTH)["specificity"] == 0
    scores = Scores(
        model="m",
        data="d",
        ids=("a",),
        patients=("a",),
        groups={},
        images=[ImageScores({"original": row}, (), (0, 0), (8, 8), "")],
        reliability=None,
        facts={"source": "x", "split": "all", "fingerprint": "0", "warnings": [], "seconds": 1.0},
        pictures=lambda indices: iter([Picture(None, prediction, TRUTH) for _ in indices]),
        volumes=[VolumeScores("a", "a", (1, 8, 8), row)],
    )
    entry = summarize_scores(scores)
    original = entry["grids"]["original"]
    assert original["per_image"]["specificity"]["mean"] == pytest.approx(value)
    assert original["pooled"]["specificity"]["value"] == pytest.approx(value)
    assert entry["volumes"]["per_volume"]["specificity"]["mean"] == pytest.approx(value)
    [line] = csv.DictReader(io.StringIO(write_csv([scores])))
    assert float(line["specificity_original"]) == pytest.approx(value, abs=1e-6)
    evaluation = {
        "settings": describe_settings(Tolerance()),
        "results": [entry],
        "models": {"m": {"masks": "x", "masks_sha256": "0"}},
        "comparisons": [],
        "environment": {"time": "now", "packages": {"jaxlung": "1"}},
    }
    console = tables.format_tables(evaluation)
    assert "  Specificity   " in console and "  Specificity, left lung" in console
    page = render(evaluation, [scores])
    assert f'<th scope="row">Specificity</th><td>1</td><td><strong>{value:.4f}</strong>' in page
    assert "Specificity, right lung" in page
    assert "Specificity" in drawn[0] and "Specificity, right lung" in drawn[0]


def test_columns_have_names_of_their_own_and_every_metric():
    columns = score_columns()
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert [column.name for column in columns.values()] == list(columns)
    assert {column.metric for column in columns.values()} == set(METRICS)


def test_the_bad_end_is_that_of_a_missing_prediction():
    scores, missing = score_masks(TRUTH, TRUTH), score_missing(TRUTH)
    for metric in METRICS:
        name = metric.name if metric.kind == "overlap" else f"{metric.name}_px"
        assert (missing[name] > scores[name]) == (metric.bad_end == "high")


def test_values_are_shares_with_four_decimals_and_distances_with_two():
    columns = score_columns()
    for name, number, text in (
        ("dice", 0.5, "0.5000"),
        ("nsd_px_left", 1.0, "1.0000"),
        ("assd_mm", 1.234, "1.23"),
        ("hd_px", None, "\N{EN DASH}"),
        ("iou", float("nan"), "\N{EN DASH}"),
    ):
        assert columns[name].format(number) == text


def test_the_documents_table_has_a_row_for_each_metric_with_its_values_for_empty_masks():
    document = Path(__file__).parents[2] / "docs" / "metrics.md"
    lines = document.read_text().splitlines()
    start = lines.index("| name | formula | both masks empty | only one empty |") + 2
    rows = [line.strip("| ").split(" | ") for line in lines[start : lines.index("", start)]]
    assert [row[0] for row in rows] == [f"`{metric.name}`" for metric in METRICS]
    empty = np.zeros_like(TRUTH)
    both = score_masks(empty, empty)
    one = [score_masks(TRUTH, empty), score_masks(empty, TRUTH)]
    diagonal = pytest.approx(np.hypot(*TRUTH.shape))
    for metric, (_, _, both_empty, one_empty) in zip(METRICS, rows, strict=True):
        name = metric.name if metric.kind == "overlap" else f"{metric.name}_px"
        assert both[name] == float(both_empty)
        if one_empty != "by formula":
            expected = diagonal if one_empty == "the image's diagonal" else float(one_empty)
            assert [scores[name] for scores in one] == [expected, expected]
