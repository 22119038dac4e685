"""A film that is surely rotated is turned upright for the model, and its mask turned back."""

import csv
import json

import jax
import numpy as np
import pytest
from PIL import Image

import jaxlung
from jaxlung.data.splits import make_array_split
from jaxlung.evaluation.model_scores import Task, score_split
from jaxlung.gate.image import TURNED, WORDS, rotate
from jaxlung.io.film import Film
from jaxlung.phantom import radiographs
from jaxlung.predict import images
from tests.helpers.predict_command import predict


@pytest.fixture(scope="module")
def film():
    """Not square, so that a turned one has another shape; the gate is sure of it."""
    return np.asarray(radiographs(jax.random.key(77), 1, size=256)[0][0])[:240, 4:250]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_the_mask_is_that_of_the_upright_film_on_the_files_grid(model, film, degrees):
    upright, found = model.prediction(film), model.prediction(rotate(film, degrees))
    assert upright.degrees == 0 and upright.warnings == () and upright.mask.any()
    assert found.degrees == degrees and found.warnings == (TURNED[degrees],)
    assert found.sides_known and found.confidence == upright.confidence
    for name in ("image", "probability", "mask", "labels"):
        whole = rotate(getattr(upright, name), degrees)
        np.testing.assert_array_equal(getattr(found, name), whole, err_msg=name)


def test_it_is_only_warned_of_on_demand(workdir, film):
    model = jaxlung.load(workdir, turn=False)
    found = model.prediction(rotate(film, 90))
    assert found.degrees == 0 and found.warnings[0] == WORDS["turned 90"] and not found.sides_known


def test_a_header_of_a_film_on_its_head_is_not_of_a_mirrored_one(model, film, monkeypatch):
    """Rows that run to the patient's right are those of a film that is turned by half a circle."""
    headed = Film(rotate(film, 180), None, "CR", mirrored=True)
    monkeypatch.setattr(images, "read_film", lambda path: headed)
    labels = model.prediction("film.dcm").labels
    assert (rotate(labels, 180) == model.prediction(film).labels).all()


def test_the_command_tells_it_in_the_summary(workdir, film, tmp_path):
    for name, degrees in (("upright", 0), ("turned", 270)):
        Image.fromarray(rotate(film, degrees)).save(tmp_path / f"{name}.png")
    for out, flags in (("on", []), ("off", ["--no-turn"])):
        predict(
            *(tmp_path / "*.png", "--sides", "--model", workdir, "--out", tmp_path / out, *flags)
        )
    on = {
        row["name"]: row for row in json.loads((tmp_path / "on/summary.json").read_text())["images"]
    }
    assert on["upright"]["turned"] == 0 and on["turned"]["turned"] == 270
    assert on["turned"]["warnings"] == [TURNED[270]]
    assert on["turned"]["right_px"] == on["upright"]["right_px"] > 0
    masks = [np.asarray(Image.open(tmp_path / "on" / f"{n}.png")) for n in ("upright", "turned")]
    assert (rotate(masks[0], 270) == masks[1]).all()
    with (tmp_path / "off/summary.csv").open() as file:
        off = {row["name"]: row for row in csv.DictReader(file)}
    assert off["turned"]["turned"] == "0" and WORDS["turned 270"] in off["turned"]["warnings"]
    assert not off["turned"]["right_px"]


def test_evaluation_scores_what_predict_writes(model, film):
    """On both grids: the truth is turned with the film. The network's has 32 pixels a side."""
    mask = model.predict(film)
    scored = []
    for degrees in (0, 90):
        split = make_array_split("all", ["f"], [rotate(film, degrees)], [rotate(mask, degrees)])
        scored.append(score_split(Task("m", model, "d", "here", split, None)))
    upright, turned = scored
    for grid in ("network", "original"):
        assert turned.grids[grid]["dice"][0] == upright.grids[grid]["dice"][0] > 0.95
    note = "1 of these 1 films looked rotated and were turned upright, as `jaxlung predict` does"
    assert note in turned.facts["warnings"] and note not in upright.facts["warnings"]
