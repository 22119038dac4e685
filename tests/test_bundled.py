"""Bundled models: a run's predictions survive the way into the package, and damage is told."""

import json

import jax
import numpy as np
import pytest

import jaxlung
from jaxlung import bundled
from jaxlung.errors import InputError


@pytest.fixture
def shelf(workdir, tmp_path, monkeypatch):
    """A folder of bundled models that holds the tiny run as "tiny"."""
    monkeypatch.setattr(bundled.read, "__defaults__", (tmp_path / "shelf",))
    monkeypatch.setattr(bundled.names, "__defaults__", (tmp_path / "shelf",))
    bundled.write(workdir, "tiny", tmp_path / "shelf")
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
    assert found.step == model.step and found.data_digests == model.data_digests
    assert str(found.workdir) == "tiny"


def test_its_arrays_are_the_runs_rounded(model, shelf):
    def rounded(leaf):
        return np.asarray(leaf).astype(np.float16).astype(np.float32)

    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.map(rounded, model.variables),
        dict(jaxlung.load("tiny").variables),
    )


def test_written_twice_it_is_the_same(workdir, shelf, tmp_path):
    bundled.write(workdir, "tiny", tmp_path / "again")
    first, again = (json.loads((f / "tiny.json").read_text()) for f in (shelf, tmp_path / "again"))
    assert first == again


def test_damage_is_told(shelf):
    data = bytearray((shelf / "tiny.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (shelf / "tiny.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"tiny\.npz: is damaged"):
        jaxlung.load("tiny")
    (shelf / "tiny.json").write_text('{"schema": "jaxlung-model-0"}')
    with pytest.raises(InputError, match="another version"):
        jaxlung.load("tiny")
    (shelf / "tiny.npz").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        jaxlung.load("tiny")


def test_unknown_names_list_what_there_is(shelf, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there are: tiny"):
        jaxlung.load("tiney")
    with pytest.raises(InputError, match="there are: tiny"):
        bundled.read("tiney")


def test_a_folder_of_that_name_is_meant_with_a_dot(shelf, workdir, tmp_path, monkeypatch):
    (tmp_path / "tiny").symlink_to(workdir)
    monkeypatch.chdir(tmp_path)
    assert jaxlung.load("./tiny").workdir.resolve() == workdir.resolve()
    assert str(jaxlung.load("tiny").workdir) == "tiny"
    assert jaxlung.load("tiny").variables is not None


def test_evaluation_of_a_bundled_model_names_its_data(shelf, tmp_path):
    with pytest.raises(InputError, match="needs --data and --out"):
        jaxlung.evaluate("tiny")


def test_models_in_the_package_load_and_find_lungs():
    assert bundled.names() == ["cxr"]
    model = jaxlung.load("cxr")
    images, masks = jaxlung.phantom.radiographs(jax.random.key(0), 1)
    prediction = model.predict(images[0])
    counts = jaxlung.count_pixels(prediction[None], np.asarray(masks[0])[None] > 0)
    assert jaxlung.dice(counts)[0] > 0.9
    sizes = [path.stat().st_size for path in bundled.WEIGHTS.iterdir()]
    assert sum(sizes) <= 8 * 2**20
