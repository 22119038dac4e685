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


def test_a_large_split_of_which_the_run_kept_no_contents_is_known_by_content(
    workdir, shelf, monkeypatch
):
    run = jaxlung.load(workdir)
    by_files = dict.fromkeys(run.data.digests["train"], "100:200 bytes")
    data = run.data._replace(digests={**run.data.digests, "train": by_files})
    large = dataclasses.replace(run, data=data)
    monkeypatch.setattr(bundle_model, "load", lambda _: large)
    bundle_model.write(workdir, "large")
    assert jaxlung.load("large").data.digests == jaxlung.load("tiny").data.digests


def test_written_twice_it_is_the_same(workdir, shelf, tmp_path):
    bundle_model.write(workdir, "tiny", tmp_path / "again", license="CC-BY-4.0")
    first, again = (json.loads((f / "tiny.json").read_text()) for f in (shelf, tmp_path / "again"))
    assert first == again


def test_a_calibrated_model_s_confidence_is_on_the_fitted_line(model):
    """Below 0.9 it is a failure to warn of."""
    [(output, fitted)] = bundle_model.calibrate(model).items()
    assert output == "lung" and fitted.least == 0.9
    film = load_splits(model.config.data)["validation"].read(0).image
    plain = model.prediction(film).confidence
    found = dataclasses.replace(model, confidences={"lung": fitted}).prediction(film)
    assert found.confidence == pytest.approx(fitted.intercept + fitted.slope * plain)
    assert any("outlines are uncertain" in w for w in found.warnings) == (found.confidence < 0.9)


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


@pytest.mark.parametrize("name", ["cxr", "cxr-open"])
def test_models_of_x_rays_in_the_package_find_lungs(name):
    model = jaxlung.load(name)
    assert model.confidences["lung"].least
    images, masks = jaxlung.phantom.radiographs(jax.random.key(0), 1)
    prediction = model.predict(images[0])
    counts = jaxlung.count_pixels(prediction[None], np.asarray(masks[0])[None] > 0)
    assert jaxlung.dice(counts)[0] > 0.9


def test_the_default_model_marks_both_conventions_under_open_terms():
    model = bundled.read_model(bundled.DEFAULT)
    assert model.license == "CC-BY-4.0"
    assert set(model.config.model.outputs) == {"lung", "lung_and_heart"}
    assert all(confidence.least == 0.9 for confidence in model.confidences.values())
    images, _ = jaxlung.phantom.radiographs(jax.random.key(0), 1)
    lung, both = (jaxlung.load().predict(images[0], output=o) for o in ("lung", "lung_and_heart"))
    assert (lung & both).sum() > 0.9 * lung.sum() and both.sum() > 1.05 * lung.sum()


def test_every_bundled_model_has_a_card_and_terms():
    cards = (Path(__file__).parents[2] / "MODEL_CARD.md").read_text()
    for name in bundled.list_models():
        assert f"| `{name}`" in cards and bundled.read_model(name).license
    sizes = [path.stat().st_size for path in bundled.WEIGHTS.iterdir()]
    x_rays = [p.stat().st_size for p in bundled.WEIGHTS.iterdir() if not p.stem.startswith("ct")]
    assert sum(x_rays) <= 10e6 and sum(sizes) <= 14e6
