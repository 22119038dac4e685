"""Bundled models: a run's predictions survive the way into the package, and damage is told."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxlung
from jaxlung.data.datasets import load_splits
from jaxlung.errors import InputError
from jaxlung.io.images import write_png
from jaxlung.metrics.calibration import Confidence
from jaxlung.weights import bundled
from tools import bundle_model


@pytest.fixture
def shelf(workdir, tmp_path, monkeypatch):
    """A folder of bundled models that holds the tiny run as "tiny"."""
    monkeypatch.setattr(bundled, "WEIGHTS", tmp_path / "shelf")
    bundle_model.write(workdir, "tiny", license="CC-BY-4.0")
    return tmp_path / "shelf"


def radiograph():
    images, _ = jaxlung.phantom.radiographs(jax.random.key(3), 1, size=64)
    return images[0]


def test_bundled_model_predicts_as_its_run_to_half_precision(model, shelf):
    found = jaxlung.load("tiny")
    np.testing.assert_allclose(
        found.predict_proba(radiograph()), model.predict_proba(radiograph()), atol=5e-3
    )
    assert found.predict(radiograph()).any()
    assert found.step == model.step
    for split, digests in model.data.digests.items():
        assert list(found.data.digests[split].values()) == list(digests.values())
        assert not set(found.data.digests[split]) & set(digests)  # the images' names stay at home
    assert str(found.workdir) == "tiny"


def test_its_arrays_are_the_runs_rounded(model, shelf):
    def rounded(leaf):
        return np.asarray(leaf).astype(np.float16).astype(np.float32)

    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.map(rounded, model.variables),
        dict(jaxlung.load("tiny").variables),
    )


def test_its_terms_and_a_name_with_a_hyphen_survive(workdir, shelf):
    assert bundled.read_model("tiny").license == "CC-BY-4.0"
    bundle_model.write(workdir, "tiny-open")
    assert jaxlung.load("tiny-open").step == jaxlung.load("tiny").step


def test_an_image_that_training_repeats_is_known_once(workdir, shelf, monkeypatch):
    digests = jaxlung.load("tiny").data.digests["train"]
    found = jaxlung.load(workdir)
    twice = {**found.data.digests["train"]}
    twice |= {f"{name}-2": digest for name, digest in twice.items()}
    data = found.data._replace(digests={**found.data.digests, "train": twice})
    repeated = dataclasses.replace(found, data=data)
    monkeypatch.setattr(bundle_model, "load", lambda _: repeated)
    bundle_model.write(workdir, "again")
    assert jaxlung.load("again").data.digests["train"] == digests


def test_written_twice_it_is_the_same(workdir, shelf, tmp_path):
    bundle_model.write(workdir, "tiny", tmp_path / "again", license="CC-BY-4.0")
    first, again = (json.loads((f / "tiny.json").read_text()) for f in (shelf, tmp_path / "again"))
    assert first == again


def test_calibrated_confidence_is_the_dice_of_validation_films(model):
    """On average, of films as they are and spoilt ones; below 0.9 it is a failure to warn of."""
    [(output, fitted)] = bundle_model.calibrate(model).items()
    assert output == "lung" and fitted.least == 0.9
    split = load_splits(model.config.data)["validation"]
    calibrated = dataclasses.replace(model, confidences={"lung": fitted})
    confidences, dice = [], []
    for i in range(len(split.ids)):
        example = split.read(i)
        found = calibrated.prediction(example.image)
        confidences.append(found.confidence)
        counts = jaxlung.count_pixels(found.mask[None], example.mask[None])
        dice.append(float(jaxlung.dice(counts)[0]))
    assert abs(np.mean(confidences) - np.mean(dice)) < 0.05


def test_the_limit_of_confidence_is_the_models_own(workdir, model, shelf):
    """A run and an ensemble have none; the package's own model has what was measured of it."""

    def warns(predictor):
        return any(
            "outlines are uncertain" in w for w in predictor.prediction(radiograph()).warnings
        )

    assert not model.confidences and not warns(model)
    assert not jaxlung.load("tiny").confidences and not warns(jaxlung.load("tiny"))
    known = {"lung": Confidence(slope=0.5, intercept=0.4, least=0.9999)}
    bundle_model.write(workdir, "tiny", confidences=known)
    assert jaxlung.load("tiny").confidences == known and warns(jaxlung.load("tiny"))
    assert not jaxlung.load(["tiny", "tiny"]).confidences
    assert jaxlung.load(["tiny"]).confidences == known


def test_damage_is_told(shelf):
    data = bytearray((shelf / "tiny.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (shelf / "tiny.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"tiny\.json: is damaged .*SHA-256 of tiny\.npz"):
        jaxlung.load("tiny")
    (shelf / "tiny.npz").unlink()
    with pytest.raises(InputError, match="is damaged .*No such file"):
        jaxlung.load("tiny")
    for text in ("[]", "{}", '{"schema": "jaxlung-model-0"}', "{"):
        (shelf / "tiny.json").write_text(text)
        with pytest.raises(InputError, match=r"tiny\.json: is damaged"):
            jaxlung.load("tiny")


def test_what_cannot_be_bundled_is_refused(shelf, workdir, monkeypatch):
    with pytest.raises(InputError, match="plain word"):
        bundle_model.write(workdir, "../outside")
    monkeypatch.setattr(bundled.np, "abs", lambda array: np.full(array.shape, 1e5))
    with pytest.raises(InputError, match="too large for float16"):
        bundle_model.write(workdir, "large")
    assert bundled.list_models() == ["tiny"]


def test_unknown_names_list_what_there_is(shelf):
    with pytest.raises(InputError, match="there are: tiny"):
        jaxlung.load("tiney")
    with pytest.raises(InputError, match="there are: tiny"):
        bundled.read_model("tiney")


def test_a_folder_of_that_name_is_meant_with_a_dot_or_a_path(shelf, workdir, tmp_path, monkeypatch):
    (tmp_path / "tiny").symlink_to(workdir)
    monkeypatch.chdir(tmp_path)
    assert jaxlung.load("tiny").bundled
    for folder in ("./tiny", Path("tiny"), Path("./tiny")):
        assert not jaxlung.load(folder).bundled


def pairs(folder):
    images, masks = jaxlung.phantom.radiographs(jax.random.key(5), 2, size=32)
    for i in range(2):
        for kind, array in (("images", images[i]), ("masks", np.asarray(masks[i]) * 255)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_png(folder / kind / f"x{i}.png", np.asarray(array, np.uint8))
    return folder


def test_evaluation_beside_a_run_and_in_a_folder_of_its_datas_name(
    shelf, workdir, tmp_path, monkeypatch
):
    """What lies here under the name of the model's own data is not taken for them."""
    about = json.loads((shelf / "tiny.json").read_text())
    about["config"]["data"] |= {"name": "folder", "dir": "mine"}
    (shelf / "tiny.json").write_text(json.dumps(about))
    (tmp_path / "tiny").symlink_to(workdir)
    monkeypatch.chdir(tmp_path)
    pairs(tmp_path / "mine")
    report = jaxlung.evaluate(["tiny", "./tiny"], data="mine", out="report", tta=True)
    assert [result["n"] for result in report["results"]] == [2, 2]
    assert [result["split"] for result in report["results"]] == ["all", "all"]
    names = {result["model"] for result in report["results"]}
    assert set(report["models"]) == names and len(names) == 2 and "shelf/tiny" in names
    assert all(m["tta"] for m in report["models"].values())
    left, right = (r["grids"]["original"]["per_image"]["dice"] for r in report["results"])
    assert left["mean"] == pytest.approx(right["mean"], abs=5e-3)


def test_evaluation_of_a_bundled_model_names_its_data(shelf):
    with pytest.raises(InputError, match="needs --data and --out"):
        jaxlung.evaluate("tiny")


def test_models_in_the_package_load_and_find_lungs():
    assert bundled.list_models() == ["cxr"]
    assert bundled.DEFAULT in bundled.list_models()
    model = jaxlung.load("cxr")
    assert model.confidences == {"lung": Confidence(least=0.94)}
    images, masks = jaxlung.phantom.radiographs(jax.random.key(0), 1)
    prediction = model.predict(images[0])
    counts = jaxlung.count_pixels(prediction[None], np.asarray(masks[0])[None] > 0)
    assert jaxlung.dice(counts)[0] > 0.9
    sizes = [path.stat().st_size for path in bundled.WEIGHTS.iterdir()]
    assert sum(sizes) <= 8 * 2**20
