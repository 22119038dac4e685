"""eval.py scores and draws the masks that `jaxlung predict` writes, of inverted films too."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxlung import metrics, score
from jaxlung.cli.main import main
from jaxlung.data.splits import make_array_split
from jaxlung.evaluation.evaluate import evaluate
from jaxlung.evaluation.model_scores import Task, score_split
from jaxlung.gate import examine
from jaxlung.gate.image import rotate
from jaxlung.phantom import radiographs
from tests.helpers.predict_command import predict


def write_films(folder: Path, films: list[np.ndarray], masks: list[np.ndarray]) -> Path:
    for name, arrays in (("images", films), ("masks", masks)):
        (folder / name).mkdir(parents=True)
        for i, array in enumerate(arrays):
            Image.fromarray(array).save(folder / name / f"f{i}.png")
    return folder


def compare_both_ways(model, data: Path, work: Path, inverted: int) -> float:
    """Checks that eval.py and predict + score agree to the last digit; returns the mean Dice."""
    ours = evaluate(model, data=data, split="all", out=work / "eval")["results"][0]
    predict(data / "images", "--model", model, "--out", work / "pred")
    theirs = score(work / "pred", data / "masks", work / "score")["results"][0]
    for name in ("per_image", "pooled"):
        assert ours["grids"]["original"][name] == theirs["grids"]["original"][name]
    rows = []
    for out in ("eval", "score"):
        with (work / out / "per_image.csv").open() as file:
            rows.append([(row["id"], row["dice_original"]) for row in csv.DictReader(file)])
    assert rows[0] == rows[1] and len(rows[0]) == ours["n"]
    notes = [note for note in ours["warnings"] if "turned over" in note]
    assert notes == (
        [
            f"{inverted} of these {ours['n']} films looked inverted (air is bright) and were "
            f"turned over, as `jaxlung predict` does"
        ]
        if inverted
        else []
    )
    return ours["grids"]["original"]["per_image"]["dice"]["mean"]


@pytest.fixture(scope="module")
def phantoms():
    """Six films whose negatives the gate turns over, with their masks."""
    images, masks = radiographs(jax.random.key(77), 16, size=128)
    pairs = [
        (np.asarray(image), np.asarray(mask).astype(np.uint8) * 255)
        for image, mask in zip(images, masks, strict=True)
        if examine(255 - np.asarray(image)).inverted
    ][:6]
    assert len(pairs) == 6
    return zip(*pairs, strict=True)


def test_films_and_negatives_score_as_predicted(workdir, phantoms, tmp_path):
    films, masks = map(list, phantoms)
    upright = write_films(tmp_path / "upright", films, masks)
    negatives = write_films(tmp_path / "negatives", [255 - film for film in films], masks)
    dice = compare_both_ways(workdir, upright, tmp_path / "u", inverted=0)
    assert dice > 0.5
    assert compare_both_ways(workdir, negatives, tmp_path / "n", inverted=6) == dice


def test_a_rotated_film_is_scored_as_predicted_turned_or_not(workdir, tmp_path):
    films, masks = radiographs(jax.random.key(77), 1, size=256)
    place = np.s_[0, :240, 4:250]  # the gate is sure of it
    film, mask = np.asarray(films)[place], np.asarray(masks)[place].astype(np.uint8) * 255
    data = write_films(tmp_path / "data", [rotate(film, 90)], [rotate(mask, 90)])
    means = []
    for flag, turn in (("--turn", True), ("--no-turn", False)):
        work = tmp_path / flag
        out = str(work / "eval")
        main(["eval", "--workdir", str(workdir), "--data", str(data), "--out", out, flag])
        ours = json.loads((work / "eval" / "metrics.json").read_text())
        assert [model["turn"] for model in ours["models"].values()] == [turn]
        [entry] = ours["results"]
        assert any("looked rotated" in note for note in entry["warnings"]) == turn
        predict(data / "images", "--model", workdir, "--out", work / "pred", flag)
        theirs = score(work / "pred", data / "masks", work / "score")["results"][0]
        for name in ("per_image", "pooled"):
            assert entry["grids"]["original"][name] == theirs["grids"]["original"][name]
        means.append(entry["grids"]["original"]["per_image"]["dice"]["mean"])
    assert means[0] != means[1]


def test_the_picture_shows_the_mask_that_was_scored(model):
    """Of a film and of its negative: the same picture, and the score is of its outline."""
    images, masks = radiographs(jax.random.key(77), 8, size=128)
    film, mask = next(
        (np.asarray(image), np.asarray(mask) > 0)
        for image, mask in zip(images, masks, strict=True)
        if examine(255 - image).inverted
    )
    split = make_array_split("x", ["a", "b"], [film, 255 - film], [mask, mask])
    scores = score_split(Task("model", model, "set", "somewhere", split, None))
    seen = [model.prepare(split.read(i).image) for i in range(2)]
    assert [(one.inverted, one.degrees) for one in seen] == [(False, 0), (True, 0)]
    for i, shown in enumerate(scores.pictures([0, 1])):
        np.testing.assert_array_equal(shown.image, film)
        counts = metrics.count_pixels(shown.prediction_HxW[None], mask[None])
        assert float(metrics.dice(counts)[0]) == pytest.approx(scores.original["dice"][i], abs=1e-6)
        np.testing.assert_array_equal(shown.prediction_HxW, model.predict(255 - film))
        # The figures at the network's size are of the turned film too.
        assert scores.grids["network"]["dice"][i] == scores.grids["network"]["dice"][0]


@pytest.mark.slow  # the property holds for phantoms above
def test_montgomery_negatives(shared_data, tmp_path):
    names = sorted(path.name for path in (shared_data / "montgomery/images").iterdir())[:6]
    folder = shared_data / "montgomery"
    films = [np.array(Image.open(folder / "images" / name).convert("L")) for name in names]
    masks = [np.array(Image.open(folder / "masks" / name).convert("L")) for name in names]
    upright = write_films(tmp_path / "upright", films, masks)
    negatives = write_films(tmp_path / "negatives", [255 - film for film in films], masks)
    dice = compare_both_ways("cxr", upright, tmp_path / "u", inverted=0)
    assert dice > 0.96
    assert compare_both_ways("cxr", negatives, tmp_path / "n", inverted=6) == dice
