"""Meshes: the same training on any number of devices, however they are arranged."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import tiny
from jaxlung import metrics
from jaxlung.config import MeshConfig, parse_config
from jaxlung.data.canvases import make_canvases
from jaxlung.data.datasets import load_splits
from jaxlung.devices.mesh import local_rows, make_mesh, to_devices
from jaxlung.errors import InputError
from jaxlung.train import validation
from jaxlung.train.sigterm import Stop
from jaxlung.workdir.record import list_differences

ROOT = Path(__file__).parents[2]


def found_on_8_devices(*arguments):
    """What tests/helpers/mesh_runs.py prints."""
    command = [sys.executable, "-m", "tests.helpers.mesh_runs", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    # Without LLVM's optimisations sums of no meaning round otherwise on another mesh: those of
    # gradients that are all but zero, of which Adam makes whole steps.
    flags = environment["XLA_FLAGS"].replace("level=0", "level=1")
    environment["XLA_FLAGS"] = flags.replace("--xla_cpu_max_isa=AVX", "")
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def runs():
    return found_on_8_devices("equal", "mixed", "accumulated")


@pytest.fixture(scope="module")
def simpler_runs():
    return found_on_8_devices("equal", "data", "space", "fsdp")


def assert_equals_one_device(found):
    assert found["loss"] < 1e-5 and found["params"] < 1e-5
    assert found["moved"] > 0.01  # a step that is not finite leaves the parameters where they are
    assert found["probability"] < 1e-4  # of a picture of the validation


def test_training_is_that_of_one_device(runs):
    """With a batch, rows and channels split, and parameters over "model" and, by fsdp, "data"."""
    assert_equals_one_device(runs["mixed"])


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["data", "space", "fsdp"])
def test_training_is_that_of_one_device_on_simpler_meshes_too(simpler_runs, mesh):
    assert_equals_one_device(simpler_runs[mesh])
    share = simpler_runs[mesh]["share_of_state"]
    assert share < 0.25 if mesh == "fsdp" else share == 1  # of 8 parts; small arrays are whole


def test_accumulated_gradients_are_those_of_the_whole_batch(runs):
    found = runs["accumulated"]
    assert found["loss"] < 1e-5 and found["all_params"] < 1e-5 and found["moved"] > 0.01


def test_state_is_split_where_it_is_said_to_be(runs):
    share = {name: found["share_of_state"] for name, found in runs.items()}
    assert share["accumulated"] == 1
    assert share["mixed"] < 0.35  # of 4 parts; small arrays are whole


@pytest.mark.slow
def test_other_devices_go_on_alike(tmp_path):
    """The second epoch's loss after a checkpoint on 4 devices."""
    found = found_on_8_devices("resumed", str(tmp_path))
    for devices in ("1", "8"):
        np.testing.assert_allclose(found[devices], found["4"], rtol=1e-5)


def test_batch_that_does_not_divide_is_refused_with_the_numbers():
    with pytest.raises(InputError, match="train.batch_size=3 does not divide over 2 devices"):
        make_mesh(3)
    with pytest.raises(InputError, match="=4 does .* 2 devices in train.accumulate=4 parts; .* 8$"):
        make_mesh(4, accumulate=4)
    make_mesh(1, config=MeshConfig(space=2))


def test_axes_that_do_not_make_up_the_devices_are_refused():
    with pytest.raises(InputError, match="mesh.space=4 do not make up the 2 devices"):
        make_mesh(4, config=MeshConfig(space=4))
    with pytest.raises(InputError, match="mesh.data=1 x .* whose product is 2"):
        make_mesh(4, config=MeshConfig(data=1))


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("mesh", {"space": 16}, "data.size=32 does not split into mesh.space=16 .* multiple of 64"),
        ("mesh", {"model": 3}, "model.width=4 does not divide over mesh.model=3"),
        ("train", {"accumulate": 3}, "train.batch_size=4 does not divide into train.accumulate=3"),
    ],
)
def test_settings_that_do_not_divide_are_refused(section, values, message):
    config = tiny.get_config()
    config.update({section: values})
    with pytest.raises(InputError, match=message):
        parse_config(config)


def test_a_run_may_go_on_in_other_parts_where_images_are_apart():
    config = tiny.get_config()

    def differing():
        whole = parse_config(config)
        train = dataclasses.replace(whole.train, accumulate=2)
        return list_differences(whole, dataclasses.replace(whole, train=train))

    assert not differing()
    config.model.dropout = 0.1
    assert differing() == ["train.accumulate: 1 -> 2"]
    config.model.dropout, config.model.norm, config.train.ema = 0.0, "batch", 0.0
    assert differing() == ["train.accumulate: 1 -> 2"]


def test_validation_takes_no_more_images_at_once_than_a_step(monkeypatch):
    config = tiny.get_config()
    config.data.loader, config.train.accumulate = "memory", 2
    config = parse_config(config)
    canvases = make_canvases(load_splits(config.data)["validation"], size=32, fit="letterbox")
    mesh, seen = make_mesh(4, accumulate=2), []

    def evaluate(_, batch):
        seen.append(len(batch["image"]))
        zeros = np.zeros(len(batch["image"]))
        counts = metrics.Counts(*(zeros[:, None] + 1,) * 4)
        masks = np.zeros(batch["mask"].shape, bool)
        return {
            "loss": zeros,
            "counts": counts,
            "labelled": batch["labelled"],
            "valid": batch["valid"],
            "prediction": masks,
            "truth": masks,
        }

    def predict(_, image_BxSxS):
        seen.append(len(image_BxSxS))
        return np.zeros((*image_BxSxS.shape, 1), np.float32)

    validation.validate({}, evaluate, canvases, config, mesh, Stop())
    assert set(seen) == {2}
    seen.clear()
    monkeypatch.setattr(validation, "write_png", lambda *_: None)
    validation.write_overlays(Path(), {}, predict, canvases, config, mesh)
    assert set(seen) == {2}


def test_a_process_needs_the_rows_of_its_devices():
    """One process: all, in order; and what it is given lands in its row."""
    mesh = make_mesh(4)
    np.testing.assert_array_equal(local_rows(mesh, 4), np.arange(4))
    batch = {"image": np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2)}
    placed = to_devices(batch, mesh)["image"]
    np.testing.assert_array_equal(placed, batch["image"])
    assert placed.sharding.spec == jax.P("data") and len(placed.addressable_shards) == 2
