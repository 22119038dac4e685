"""Evaluation of trained runs: every image, every set, every model, and what is written of it."""

import csv
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxlung import metrics
from jaxlung.config import parse_config
from jaxlung.data.datasets import load_splits
from jaxlung.data.splits import make_array_split
from jaxlung.errors import InputError
from jaxlung.evaluation.choice import choose_split
from jaxlung.evaluation.evaluate import evaluate, short_names
from jaxlung.evaluation.model_scores import Task, score_split
from jaxlung.masks import sides
from jaxlung.metrics import image
from jaxlung.metrics.records import overlap_metrics
from jaxlung.metrics.set_scores import summarize_scores
from jaxlung.phantom import radiographs
from jaxlung.system.digests import digest_weights

ROOT = Path(__file__).parents[2]


def write_folder(directory, images, masks, metadata=None):
    for name, arrays in (("images", images), ("masks", masks)):
        (directory / name).mkdir(parents=True)
        for i, array in enumerate(arrays):
            pixels = np.asarray(array).astype(np.uint8) * (255 if name == "masks" else 1)
            Image.fromarray(pixels).save(directory / name / f"{i:02d}.png")
    if metadata:
        (directory / "metadata.csv").write_text(metadata)
    return directory


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another hospital: phantoms that the run has not seen, stretched to another shape."""
    images, masks = radiographs(jax.random.key(7), 6, size=32)
    stretch = np.ones((3, 2), np.uint8)
    rows = "\n".join(f"{i:02d},p{i // 2},{'PA' if i < 2 else 'AP'},0.5" for i in range(6))
    return write_folder(
        tmp_path_factory.mktemp("data") / "other",
        [np.kron(image, stretch) for image in images],
        [np.kron(mask, stretch) for mask in masks],
        f"id,patient,view,spacing_mm\n{rows}\n",
    )


@pytest.fixture(scope="module")
def report(workdir, other, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return evaluate(workdir, data=other, out=out), out


@pytest.fixture(scope="module")
def twin(workdir, tmp_path_factory):
    """The same run in another place: what differs between the two is noise alone."""
    copy = tmp_path_factory.mktemp("twin") / "twin"
    shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("eval"))
    return copy


def task(model, split, warning=None):
    return Task("model", model, "set", "somewhere", split, warning)


def test_scores_agree_with_single_predictions(model):
    """Batched, padded scoring gives what one image at a time gives, and drops none."""
    split = load_splits(model.config.data)["test"]
    scores = score_split(task(model, split))
    assert scores.ids == split.ids and len(scores.original["dice"]) == 3
    for i, picture in enumerate(scores.pictures(range(3))):
        example = split.read(i)
        prediction = model.predict(example.image)
        lungs = sides.split_lungs(prediction, example.mask)
        expected = image.score_masks(prediction, example.mask, lungs=lungs)
        found = {name: values[i] for name, values in scores.grids["original"].items()}
        assert found == pytest.approx(expected, abs=2e-2, nan_ok=True)
        assert (picture.prediction_HxW == prediction).all()


def test_any_shape_any_mask_none_is_dropped(model):
    """Blank images, empty and full masks, and lines one pixel wide: all are scored."""
    shapes = [(32, 32), (50, 70), (1, 300), (300, 1)]
    images = [np.arange(h * w).reshape(h, w).astype(np.uint8) for h, w in shapes]
    masks = [np.ones((32, 32)), np.zeros((50, 70)), np.ones((1, 300)), np.zeros((300, 1))]
    scores = score_split(task(model, make_array_split("x", list("abcd"), images, masks)))
    result = summarize_scores(scores)
    for grid in ("original", "network"):
        content = result["grids"][grid]
        for name in (*overlap_metrics(), "hd_px", "hd95_px", "assd_px", "nsd_px"):
            assert content["per_image"][name]["n"] == 4, name
            assert np.isfinite(content["per_image"][name]["mean"])
        assert content["per_image"]["hd_mm"]["n"] == 0
        assert 0 <= content["pooled"]["dice"]["value"] <= 1
        assert content["pooled"]["dice"]["ci95"] is None  # of four patients


def test_report_holds_what_it_says(report):
    result, out = report
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(result))
    [entry] = result["results"]
    assert (entry["model"], entry["set"], entry["split"]) == ("tiny", "other", "all")
    assert (entry["n"], entry["patients"], entry["warnings"]) == (6, 3, [])
    with (out / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and [row["patient"] for row in rows] == list("001122")
    for grid in ("original", "network"):
        for metric in ("dice", "hd95_px", "assd_mm", "nsd_mm_right"):
            values = [float(row[f"{metric}_{grid}"]) for row in rows]
            mean = entry["grids"][grid]["per_image"][metric]["mean"]
            assert mean == pytest.approx(np.mean(values), abs=1e-5)
        columns = [[int(row[f"{name}_{grid}"]) for row in rows] for name in metrics.Counts._fields]
        counts = metrics.Counts(*map(np.array, columns))
        pooled = metrics.dice(metrics.pool(counts))[0]
        assert entry["grids"][grid]["pooled"]["dice"]["value"] == pytest.approx(pooled)
    assert entry["subgroups"]["view"]["PA"]["n"] == 2 and entry["subgroups"]["view"]["AP"]["n"] == 4
    in_groups = sum(
        g["per_image"]["dice"]["mean"] * g["n"] for g in entry["subgroups"]["view"].values()
    )
    assert in_groups / 6 == pytest.approx(entry["grids"]["original"]["per_image"]["dice"]["mean"])
    assert sum(entry["calibration"]["pixels"]) == 6 * 32 * 21  # 96x64 in a square of 32


def test_millimetres_follow_the_spacing_on_both_grids(report):
    """96x64 pixels of 0.5 mm are a canvas 32 high: 1.5 mm of it is one pixel."""
    [entry] = report[0]["results"]
    for grid, side in (("original", 0.5), ("network", 1.5)):
        means = {name: row["mean"] for name, row in entry["grids"][grid]["per_image"].items()}
        assert means["hd_mm"] == pytest.approx(side * means["hd_px"], rel=0.03)  # 21 and not 21.33


def test_the_documentation_names_every_key(report, workdir, twin, tmp_path):
    """docs/reference/evaluation.md is the schema of metrics.json and per_image.csv."""
    pages = ("reference/evaluation.md", "metrics.md")
    document = "".join((ROOT / "docs" / page).read_text() for page in pages)
    named = set(re.findall(r"`([\w-]+)`", document))
    result = evaluate([workdir, twin], out=tmp_path / "out")
    [first, *_], [comparison, *_] = result["results"], result["comparisons"]
    summaries = first["grids"]["original"]
    keys = [
        result,
        first,
        comparison,
        result["settings"],
        result["environment"],
        result["models"]["tiny"],
        result["models"]["tiny"]["threshold"],
        first["calibration"],
        first["flags"],
        first["grids"],
        summaries,
        summaries["per_image"]["dice"],
        summaries["pooled"],
        summaries["pooled"]["dice"],
        report[0]["results"][0]["subgroups"]["view"]["PA"],
    ]
    for mapping in keys:
        assert set(mapping) <= named, set(mapping) - named
    assert {name.split("_")[0] for name in summaries["per_image"]} <= named
    header = (tmp_path / "out" / "per_image.csv").read_text().splitlines()[0].split(",")
    stripped = {
        re.sub(r"(_px|_mm)?(_right|_left)?_(original|network)$", "", name) for name in header
    }
    assert stripped <= named, stripped - named


def test_a_run_and_its_copy_do_not_differ(workdir, twin, other, tmp_path):
    result = evaluate([workdir, twin], data=other, out=tmp_path / "out")
    assert len(result["results"]) == 2 and len(result["comparisons"]) == 4
    for comparison in result["comparisons"]:
        assert comparison["n"] == comparison["equal"] == 6
        assert comparison["mean_difference"] == 0 and comparison["wilcoxon_p"] == 1
    hashes = {about["weights_sha256"] for about in result["models"].values()}
    assert len(hashes) == 1 and len(hashes.pop()) == 64


def test_matrix_of_models_and_sets(workdir, twin, other, tmp_path, capsys):
    second = write_folder(tmp_path / "deep" / "other", *radiographs(jax.random.key(8), 4, size=32))
    result = evaluate([workdir, twin], data=[other, second], out=tmp_path / "out")
    cells = [(entry["model"], entry["set"], entry["n"]) for entry in result["results"]]
    assert cells == [
        ("tiny", "data0/other", 6),
        ("tiny", "deep/other", 4),
        ("twin", "data0/other", 6),
        ("twin", "deep/other", 4),
    ]
    assert len(result["comparisons"]) == 2 * 4
    printed = capsys.readouterr().out
    mean = result["results"][3]["grids"]["original"]["per_image"]["dice"]["mean"]
    assert f"{mean:.4f}" in printed and "paired differences" in printed


def test_only_common_images_are_compared(workdir, tmp_path):
    """A model on its own test split and another on the whole folder meet in that split."""
    images, masks = radiographs(jax.random.key(5), 24, size=32)
    folder = write_folder(tmp_path / "home", images, masks)
    config = json.loads((workdir / "config.json").read_text())
    config["data"] |= {"name": "folder", "dir": str(folder), "test_fraction": 0.3}
    native = tmp_path / "native"
    shutil.copytree(workdir, native, ignore=shutil.ignore_patterns("eval"))
    (native / "config.json").write_text(json.dumps(config))
    (native / "data.json").unlink()  # of the phantoms
    result = evaluate([native, workdir], data=folder, out=tmp_path / "out")
    own, foreign = result["results"]
    assert own["split"] == "test" and foreign["split"] == "all"
    assert 0 < own["n"] < foreign["n"] == 24
    assert {comparison["n"] for comparison in result["comparisons"]} == {own["n"]}
    # Both are the same network: on the same image there is no difference, whatever its place.
    assert all(comparison["equal"] == own["n"] for comparison in result["comparisons"])
    with (tmp_path / "out" / "per_image.csv").open() as file:
        patients = {(row["id"], row["patient"]) for row in csv.DictReader(file)}
    assert len(patients) == 24  # one number a patient, whichever model
    everything = evaluate(native, data=folder, split="all", out=tmp_path / "all")["results"][0]
    assert everything["n"] == 24 and "trained on" in everything["warnings"][0]


def test_images_of_the_training_are_recognised_by_content(workdir, model, tmp_path):
    train = load_splits(model.config.data)["train"]
    examples = [train.read(i) for i in range(3)]
    fresh = radiographs(jax.random.key(99), 2, size=32)
    folder = write_folder(
        tmp_path / "leak",
        [*(e.image for e in examples), *fresh[0]],
        [*(e.mask for e in examples), *fresh[1]],
    )
    [entry] = evaluate(workdir, data=folder, out=tmp_path / "out")["results"]
    assert entry["warnings"] == ["3 of these 5 images were trained on, by content"]
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("eval"))
    digests = json.loads((copy / "data.json").read_text())
    # As of a split that is too large to be read before the first step.
    digests["train"] = dict.fromkeys(digests["train"], "1200:300 bytes")
    (copy / "data.json").write_text(json.dumps(digests))
    [entry] = evaluate(copy, data=folder, overwrite=True)["results"]
    assert len(entry["warnings"]) == 1 and "train images by their files" in entry["warnings"][0]
    (copy / "data.json").unlink()
    [entry] = evaluate(copy, data=folder, out=tmp_path / "out2")["results"]
    assert len(entry["warnings"]) == 1 and "data.json" in entry["warnings"][0]


def test_own_test_split_by_default(twin):
    entry = evaluate(twin)["results"][0]
    assert (entry["set"], entry["split"], entry["n"], entry["warnings"]) == (
        "phantom",
        "test",
        3,
        [],
    )
    assert {path.name for path in (twin / "eval" / "phantom_test").iterdir()} == {
        "metrics.json",
        "per_image.csv",
        "report.html",
    }
    [entry] = evaluate(twin, split="train")["results"]
    assert len(entry["warnings"]) == 2  # said by its name, and found by content


def test_nothing_is_overwritten(twin, other, tmp_path):
    out = tmp_path / "out"
    evaluate(twin, data=other, out=out)
    (out / "metrics.json").write_text("earlier")
    with pytest.raises(InputError, match="overwrite"):
        evaluate(twin, data=other, out=out)
    assert (out / "metrics.json").read_text() == "earlier"
    evaluate(twin, data=other, out=out, overwrite=True)
    assert (out / "metrics.json").read_text() != "earlier"


def test_weights_hash_names_the_weights(model):
    changed = jax.tree.map(lambda array: array, model.variables)
    leaves, tree = jax.tree.flatten(changed)
    other = jax.tree.unflatten(tree, [leaves[0] + 1e-6, *leaves[1:]])
    assert digest_weights(changed) == digest_weights(model.variables) != digest_weights(other)


def test_choose_split_refuses_what_makes_no_sense(model, tmp_path):
    data, elsewhere = model.config.data, tmp_path
    with pytest.raises(InputError, match="--split"):
        choose_split(data, None, "tests")
    with pytest.raises(InputError, match="--data"):
        choose_split(data, None, "all")
    with pytest.raises(InputError, match="own data"):
        choose_split(data, elsewhere, "test")
    with pytest.raises(InputError, match="images: no such folder"):
        choose_split(data, elsewhere, None)
    with pytest.raises(InputError, match="montgmery: no such folder.* mean montgomery"):
        choose_split(data, Path("montgmery"), None)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"workdir": []}, "--workdir"),
        ({"workdir": ["RUN", "TWIN"], "out": None}, "--out"),
        ({"data": ["OTHER", "TWIN"], "out": None}, "--out"),
        ({"workdir": ["RUN", "RUN"]}, "twice"),
        ({"data": ["OTHER", "OTHER"]}, "twice"),
        ({"data": ["nowhere"]}, "nowhere"),
        ({"workdir": ["nowhere"]}, "nowhere"),
    ],
)
def test_refusals_write_nothing(options, word, workdir, twin, other, tmp_path):
    paths = {"RUN": workdir, "TWIN": twin, "OTHER": other}
    out = tmp_path / "out"
    options = {"workdir": [workdir], "out": out, **options}
    for name in ("workdir", "data"):
        if name in options:
            options[name] = [paths.get(p, p) for p in options[name]]
    with pytest.raises(InputError, match=word):
        evaluate(**options)
    assert not out.exists()


def test_sets_of_one_name_are_not_one_set(workdir, tmp_path):
    """Two runs whose own folders are both called cxr, with the same ids: nothing to compare."""
    runs = []
    for i, site in enumerate("ab"):
        images, masks = radiographs(jax.random.key(20 + i), 24, size=32)
        folder = write_folder(tmp_path / site / "cxr", images, masks)
        config = json.loads((workdir / "config.json").read_text())
        config["data"] |= {"name": "folder", "dir": str(folder), "test_fraction": 0.3}
        runs.append(tmp_path / f"run_{site}")
        shutil.copytree(workdir, runs[-1], ignore=shutil.ignore_patterns("eval"))
        (runs[-1] / "config.json").write_text(json.dumps(config))
        (runs[-1] / "data.json").unlink()
    result = evaluate(runs, out=tmp_path / "out")
    assert [entry["set"] for entry in result["results"]] == ["a/cxr", "b/cxr"]
    assert result["comparisons"] == []


def test_own_split_that_has_changed_is_refused(workdir, tmp_path):
    images, masks = radiographs(jax.random.key(30), 24, size=32)
    folder = write_folder(tmp_path / "home", images, masks)
    config = json.loads((workdir / "config.json").read_text())
    config["data"] |= {"name": "folder", "dir": str(folder), "test_fraction": 0.3}
    run = tmp_path / "run"
    shutil.copytree(workdir, run, ignore=shutil.ignore_patterns("eval"))
    (run / "config.json").write_text(json.dumps(config))
    splits = load_splits(parse_config(config).data)
    digests = {name: dict.fromkeys(split.ids, "x:y") for name, split in splits.items()}
    (run / "data.json").write_text(json.dumps(digests))
    evaluate(run, out=tmp_path / "before")
    rows = "\n".join(f"{i:02d},p{i // 4}" for i in range(24))
    (folder / "metadata.csv").write_text(f"id,patient\n{rows}\n")  # so the split is another
    with pytest.raises(InputError, match="no longer that of the run"):
        evaluate(run, out=tmp_path / "after")


def test_an_image_that_cannot_be_drawn_leaves_nothing_behind(twin, other, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxlung.evaluation.report.draw_thumbnail", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(twin, data=other, out=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_short_names():
    paths = [Path(p) for p in ("/a/x/test", "/b/x/test", "/c/y")]
    assert short_names(paths) == ["a/x/test", "b/x/test", "y"]
    assert short_names([Path("/x"), Path("/a/x")]) == ["x", "a/x"]
    paths = [
        Path(p) for p in ("/q/a/b_c", "/s/z/b_c", "/r/a_b/c", "/t/y/c", "/x", "/a/x", "/b/a_x")
    ]
    assert len(set(short_names(paths))) == len(paths)
    assert short_names([Path("/a/b")]) == ["b"] and short_names([]) == []
