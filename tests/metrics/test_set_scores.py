"""From columns to summaries, comparisons and tables: every figure is that of its images."""

import csv
import dataclasses
import io
import re

import numpy as np
import pytest

from jaxlung.evaluation import tables
from jaxlung.metrics.image import FLAGS, Tolerance, score_masks
from jaxlung.metrics.records import score_columns
from jaxlung.metrics.set_scores import (
    ImageScores,
    Picture,
    Scores,
    VolumeScores,
    compare_models,
    describe_settings,
    summarize_scores,
    write_csv,
    write_volumes_csv,
)
from jaxlung.metrics.statistics import compare

N = 12


def example_scores(model="m", data="d", seed=0, order=None):
    """Twelve images, three of a patient; `order` scores the same images in another order."""
    rng = np.random.default_rng(seed)
    empty = np.zeros((4, 4), bool)
    names = list(score_masks(empty, empty))
    columns = {name: rng.random(N) for name in names}
    columns |= {name: rng.integers(1, 99, N).astype(float) for name in names[:4]}
    order = np.arange(N) if order is None else np.asarray(order)
    flags = [("low_dice",) if i % 5 == 0 else () for i in range(N)]
    images = [
        ImageScores(
            {"original": {name: column[i] for name, column in columns.items()}},
            flags[i],
            (0, 0),
            (4, 4),
            f"content {i}",
        )
        for i in order
    ]
    return Scores(
        model=model,
        data=data,
        ids=tuple(f"i{i}" for i in order),
        patients=tuple(f"p{i // 3}" for i in order),
        groups={"view": tuple("AP" if i < 7 else "PA" for i in order)},
        images=images,
        reliability=None,
        facts={"source": "x", "split": "all", "fingerprint": "0", "warnings": [], "seconds": 1.0},
        pictures=lambda indices: iter([Picture(None, empty, empty) for _ in indices]),
    )


def test_images_are_compared_with_themselves_in_whatever_order():
    a = example_scores("a", seed=1)
    shuffled = example_scores("b", seed=2, order=np.random.default_rng(0).permutation(N))
    straight = example_scores("b", seed=2)
    found, expected = compare_models([a, shuffled]), compare_models([a, straight])
    assert [c["metric"] for c in found] == ["dice", "hd95_px", "assd_px", "nsd_px"]
    for c, e in zip(found, expected, strict=True):
        assert c == pytest.approx(e)
    dice = [s.grids["original"]["dice"] for s in (a, straight)]
    assert found[0] == {"set": "d", "metric": "dice", "a": "a", "b": "b"} | compare(
        *dice, a.patients
    )
    # By patient and not by image: the test is of four values.
    assert found[0]["wilcoxon_p"] != compare(*dice, a.ids)["wilcoxon_p"]


def test_images_of_one_id_and_another_content_are_not_compared():
    a, b = example_scores("a", seed=1), example_scores("b", seed=2)
    other = [image._replace(digest="else") for image in b.images]
    half = dataclasses.replace(b, images=[*b.images[:6], *other[6:]])
    [dice, *_] = compare_models([a, half])
    assert dice["n"] == 6
    assert compare_models([a, dataclasses.replace(b, images=other)]) == []
    assert compare_models([a, example_scores("b", data="other")]) == []


def test_subgroups_are_of_their_images():
    scores = example_scores()
    entry = summarize_scores(scores)
    dice = scores.grids["original"]["dice"]
    for view, chosen, patients in (("AP", np.arange(7), 3), ("PA", np.arange(7, N), 2)):
        group = entry["subgroups"]["view"][view]
        assert (group["n"], group["patients"]) == (len(chosen), patients)
        assert group["flagged"] == sum(bool(scores.images[i].flags) for i in chosen)
        assert group["per_image"]["dice"]["mean"] == pytest.approx(dice[chosen].mean())
        tp, fp, fn, _ = (
            scores.grids["original"][n][chosen].sum() for n in ("tp", "fp", "fn", "tn")
        )
        assert group["pooled"]["dice"]["value"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert entry["flagged"] == entry["flags"]["low_dice"] == 3
    assert set(entry["flags"]) == set(FLAGS)


def test_tables_show_the_bad_end_of_each_distribution():
    """For a share the lowest values, for a distance the highest."""
    scores = example_scores()
    entry = summarize_scores(scores)
    found = {
        row["column"].name: row
        for row in tables.metric_rows(entry["grids"]["original"], describe_settings(Tolerance()))
    }
    for name, values in scores.grids["original"].items():
        if name in ("tp", "fp", "fn", "tn"):
            continue
        distance = name.startswith(("hd", "assd"))
        assert found[name]["worst"] == (values.max() if distance else values.min())
        assert found[name]["tail"] == pytest.approx(np.quantile(values, 0.95 if distance else 0.05))
        assert found[name]["per_image"]["mean"] == pytest.approx(values.mean())
    known = describe_settings(Tolerance())
    text = tables.format_tables(
        {"results": [entry], "models": {"m": {}}, "comparisons": [], "settings": known}
    )
    [line] = [line for line in text.splitlines() if line.strip().startswith("Dice ")]
    dice = scores.grids["original"]["dice"]
    for number in (dice.mean(), dice.std(ddof=1), np.median(dice), dice.min()):
        assert f"{number:.4f}" in line


def test_labels():
    known = describe_settings(Tolerance(2.0, 1.5))
    for name, label in (
        ("dice", "Dice"),
        ("hd95_px_right", "HD95 (px), right lung"),
        ("nsd_mm", "NSD at 1.5 mm"),
        ("nsd_px_left", "NSD at 2 px, left lung"),
        ("assd_mm", "ASSD (mm)"),
    ):
        assert score_columns()[name].label(known) == label


def test_csv_numbers_a_patient_once_for_all_models_of_a_set():
    a = example_scores("a")
    b = example_scores("b", order=np.arange(N)[::-1])
    rows = list(csv.DictReader(io.StringIO(write_csv([a, b]))))
    assert len(rows) == 2 * N
    numbers = {(row["id"], row["patient"]) for row in rows}
    assert len(numbers) == N and len({patient for _, patient in numbers}) == 4
    for row in rows:
        i = int(row["id"][1:])
        assert float(row["dice_original"]) == pytest.approx(
            a.grids["original"]["dice"][i], abs=1e-6
        )
        assert row["view"] == ("AP" if i < 7 else "PA")


def test_volumes_by_hand():
    """Voxels and surfaces of each scan; neither a mean of slices nor the pool of all."""
    scores = example_scores()
    truth = np.zeros((4, 8, 8), bool)
    truth[1:3, 2:6, 2:6] = True
    half, empty = truth.copy(), np.zeros_like(truth)
    half[1] = False
    pairs = [(truth, truth), (half, truth), *[(empty, empty)] * 8]
    patients = ("p0", "p0", *"cdefghij")
    volumes = [
        VolumeScores(f"v{i}", patients[i], truth.shape, score_masks(*pair, spacing=(3.0, 1.0, 1.0)))
        for i, pair in enumerate(pairs)
    ]
    scans = dataclasses.replace(scores, volumes=volumes, patients=(*patients, "k", "l"))
    entry = summarize_scores(scans)
    found = entry["volumes"]
    assert (found["n"], found["patients"]) == (10, 9)
    values = {
        "dice": [1, 2 / 3] + [1] * 8,
        "iou": [1, 1 / 2] + [1] * 8,
        "recall": [1, 1 / 2] + [1] * 8,
        "hd_mm": [0, 3] + [0] * 8,
        "hd95_mm": [0, 3] + [0] * 8,
    }
    for name, of_volume in values.items():
        figures = found["per_volume"][name]
        assert figures["n"] == 10 and figures["mean"] == pytest.approx(np.mean(of_volume))
        assert figures["sd"] == pytest.approx(np.std(of_volume, ddof=1))
        assert figures["ci95"] is None  # nine patients: one has two volumes
    assert not any("px" in name for name in found["per_volume"])
    evaluation = {
        "results": [entry],
        "settings": describe_settings(Tolerance(2.0, 2.0)),
        "comparisons": [],
        "models": {"m": {"masks": "x"}},
    }
    text = tables.format_tables(evaluation)
    assert "original grid, slices" in text
    whole = text.partition("whole volumes, 10")[2]
    for line in (r"  Dice +10 +0.9667", r"  HD95 \(mm\) +10 +0.30", r"  NSD at 2 mm +10 +0\.9"):
        assert re.search(line, whole), whole
    assert summarize_scores(scores)["volumes"] is None
    [first, second, *_] = csv.DictReader(io.StringIO(write_volumes_csv([scores, scans])))
    assert (first["id"], first["patient"], first["slices"]) == ("v0", "0", "4")
    assert (second["patient"], second["tp"], second["hd95_mm"]) == ("0", "16", "3.000000")
    assert write_volumes_csv([scores]) is None
