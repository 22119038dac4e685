"""Prediction by a trained run, from files to files."""

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jaxlung
from jaxlung.data.datasets import load_splits
from jaxlung.errors import InputError
from jaxlung.io.images import read_image
from jaxlung.masks.postprocess import keep_lungs
from jaxlung.preprocess import preprocess_image
from jaxlung.system.threads import largest_divisor
from tests.helpers.forked_commands import run
from tests.helpers.predict_command import predict

ROOT = Path(__file__).parents[2]


@pytest.fixture
def radiograph(model):
    return load_splits(model.config.data)["test"].read(0).image


@pytest.mark.parametrize("shape", [(32, 32), (97, 61), (40, 200), (20, 12)])
def test_mask_has_the_images_own_size(model, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    mask, probability = model.predict(image), model.predict_proba(image)
    assert mask.shape == probability.shape == shape
    assert mask.dtype == bool and probability.dtype == np.float32
    assert 0 <= probability.min() and probability.max() <= 1
    np.testing.assert_array_equal(mask, keep_lungs(probability >= 0.5))


def test_same_image_by_path_and_as_an_array(model, radiograph, tmp_path):
    Image.fromarray(radiograph).save(tmp_path / "a.png")
    Image.fromarray(radiograph.astype(np.uint16) * 257).save(tmp_path / "b.png")
    expected = model.predict_proba(radiograph)
    np.testing.assert_array_equal(model.predict_proba(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(model.predict_proba(str(tmp_path / "a.png")), expected)
    rgb = np.repeat(radiograph[..., None], 3, axis=-1)
    np.testing.assert_array_equal(model.predict_proba(rgb)[..., 0], expected)


def test_an_array_with_a_channel_axis_gives_one(model, radiograph, tmp_path):
    """`model.predict(image.reshape(1, 256, 256, 1))[0, :, :, 0]`, as with Keras."""
    Image.fromarray(np.dstack([radiograph] * 3)).save(tmp_path / "rgb.png")
    height, width = radiograph.shape
    for infer in (model.predict, model.predict_proba):
        expected = infer(radiograph)
        assert expected.shape == (height, width)
        for channels in (1, 3):
            image_HxWxC = np.repeat(radiograph[..., None], channels, axis=-1)
            np.testing.assert_array_equal(infer(image_HxWxC), expected[..., None])
            [first] = infer(image_HxWxC[None])
            np.testing.assert_array_equal(first, expected[..., None])
            found = infer(np.stack([image_HxWxC] * 2))
            assert found.shape == (2, height, width, 1)
        assert infer(np.stack([radiograph] * 2)).shape == (2, height, width)
        assert infer(tmp_path / "rgb.png").shape == (height, width)
        shapes = [one.shape for one in infer([tmp_path / "rgb.png", image_HxWxC, radiograph])]
        assert shapes == [(height, width), (height, width, 1), (height, width)]
    as_float = (radiograph / np.float32(255)).reshape(1, height, width, 1)
    assert model.predict(as_float)[0, :, :, 0].shape == (height, width)


def test_models_of_one_network_compile_once(model, workdir, radiograph, caplog):
    expected = model.predict_proba(radiograph)
    with jax.log_compiles():
        np.testing.assert_array_equal(jaxlung.load(workdir).predict_proba(radiograph), expected)
        assert "predict_step" not in caplog.text
        jaxlung.load(workdir, tta=False).predict_proba(np.zeros((2, 40, 40), np.uint8))
        assert "predict_step" in caplog.text  # as it would have been above


def test_training_and_prediction_feed_the_network_alike(model, workdir, radiograph):
    """The network's input of `predict` is `preprocess_image`'s, and that of the train step."""
    image_SxS, _ = preprocess_image(radiograph, size=32, fit="letterbox")
    unet = jaxlung.model.build_model(model.config.model)
    logits = unet.apply(model.variables, image_SxS[None, ..., None])
    expected = jax.nn.sigmoid(logits[0, ..., 0])
    once = jaxlung.load(workdir, tta=False)
    np.testing.assert_allclose(once.predict_proba(radiograph), expected, atol=1e-5)


def test_brightness_and_contrast_hardly_matter(model, radiograph):
    darker = np.rint(radiograph * 0.5 + 20).astype(np.uint8)
    difference = model.predict_proba(darker) - model.predict_proba(radiograph)
    assert np.abs(difference).mean() < 0.02


def test_with_the_mirror_image_a_flip_flips_the_prediction(workdir, radiograph):
    """Exactly what test-time augmentation is for, and without it is not so."""
    flipped = np.ascontiguousarray(radiograph[:, ::-1])
    for tta in (True, False):
        model = jaxlung.load(workdir, tta=tta)
        there, back = model.predict_proba(radiograph), model.predict_proba(flipped)[:, ::-1]
        assert (np.abs(there - back).max() < 1e-5) == tta


def test_prediction_with_the_mirror_image_is_the_mean(workdir, radiograph):
    plain, both = (jaxlung.load(workdir, tta=tta) for tta in (False, True))
    flipped = np.ascontiguousarray(radiograph[:, ::-1])
    mean = (plain.predict_proba(radiograph) + plain.predict_proba(flipped)[:, ::-1]) / 2
    np.testing.assert_allclose(both.predict_proba(radiograph), mean, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_batches_of_any_size_are_predicted_as_one_by_one(model, count):
    rng = np.random.default_rng(0)
    size = model.config.data.size
    canvases = rng.integers(0, 256, (count, size, size), np.uint8)
    alone = np.concatenate([model.predict_canvases(canvas[None]) for canvas in canvases])
    np.testing.assert_allclose(model.predict_canvases(canvases), alone, atol=1e-5)


def test_postprocessing_is_of_xrays_and_can_be_left_out(model):
    probability = np.zeros((20, 20), np.float32)
    for start in (0, 6, 12):
        probability[start : start + 4, 2:9] = 0.9
    counts = {}
    for name, postprocess, data in (
        ("xray", True, "phantom"),
        ("raw", False, "phantom"),
        ("ct", True, "ct"),
    ):
        config = dataclasses.replace(
            model.config,
            train=dataclasses.replace(model.config.train, postprocess=postprocess),
            data=dataclasses.replace(model.config.data, name=data),
        )
        counts[name] = dataclasses.replace(model, config=config).to_mask(probability).sum()
    assert counts == {"xray": 56, "raw": 84, "ct": 84}


def test_most_that_divide():
    assert [largest_divisor(*pair) for pair in ((6, 4), (7, 4), (16, 6), (1, 8), (8, 2))] == [
        3,
        1,
        4,
        1,
        2,
    ]


def test_command_writes_masks_and_overlays(workdir, model, radiograph, tmp_path):
    Image.fromarray(radiograph).resize((70, 50)).save(tmp_path / "a.png")
    Image.fromarray(radiograph).save(tmp_path / "b.tif")
    predict(tmp_path / "a.png", tmp_path / "b.tif", "--workdir", workdir, "--out", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "a.png",
        "a_overlay.png",
        "b.png",
        "b_overlay.png",
        "summary.csv",
        "summary.json",
    ]
    mask = read_image(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(mask, model.predict(tmp_path / "a.png") * np.uint8(255))
    assert read_image(tmp_path / "out" / "a_overlay.png").shape == (50, 70, 3)


def test_command_reports_bad_files_and_goes_on(workdir, radiograph, tmp_path, capsys):
    Image.fromarray(radiograph).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not an image")
    paths = (tmp_path / "bad.png", tmp_path / "good.png")
    predict(*paths, "--workdir", workdir, "--out", tmp_path / "out", code=1)
    assert (tmp_path / "out" / "good.png").exists()
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and "bad.png" in errors[0]


def test_command_overwrites_nothing(workdir, radiograph, tmp_path, capsys):
    Image.fromarray(radiograph).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for out in (tmp_path, tmp_path / "out"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "a.png").write_bytes(b"mine")
        predict(tmp_path / "a.png", "--workdir", workdir, "--out", out, code=2)
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (tmp_path / "a.png").read_bytes() == before
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    predict(tmp_path / "a.png", "--workdir", workdir, "--out", tmp_path / "out", "--overwrite")
    assert read_image(tmp_path / "out" / "a.png").shape == (32, 32)


def test_command_refuses_two_images_with_one_output(workdir, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        Image.new("L", (32, 32)).save(tmp_path / name / "same.png")
    paths = (tmp_path / "x" / "same.png", tmp_path / "y" / "same.png")
    predict(*paths, "--workdir", workdir, "--out", tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()


def test_load_of_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        jaxlung.load(tmp_path)


def test_loading_unpickles_nothing(workdir, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    jaxlung.load(workdir)


def test_arrays_of_other_kinds(model, radiograph):
    expected = model.predict(radiograph)
    np.testing.assert_array_equal(model.predict(jax.numpy.asarray(radiograph)), expected)
    np.testing.assert_array_equal(
        model.predict(radiograph.tolist()), model.predict(radiograph.astype(np.int64))
    )


def test_commands_of_a_real_run_say_one_line(workdir, radiograph, tmp_path):
    """Whole processes: nothing of Orbax or JAX joins the one line on stderr.

    One is started anew, the others are forked.
    """
    (tmp_path / "notes.png").write_text("not an image")
    (tmp_path / "file").write_text("")
    Image.fromarray(radiograph).save(tmp_path / "good.png")
    predict = ["-m", "jaxlung", "predict", "--workdir", workdir, "--out"]
    for command, code, word in (
        ([*predict, tmp_path / "out", tmp_path / "notes.png"], 1, "notes.png"),
        ([*predict, tmp_path / "file", tmp_path / "good.png"], 2, "file"),
        (["eval.py", f"--workdir={workdir}", f"--out={tmp_path / 'file'}"], 2, "file"),
        (["eval.py", f"--workdir={workdir}", "--data=no/such/place"], 2, "no/such/place"),
    ):
        result = run(*command)
        if "notes.png" in word:
            anew = [sys.executable, *map(str, [*command, "--overwrite"])]
            whole = subprocess.run(anew, cwd=ROOT, text=True, capture_output=True, timeout=120)
            assert (whole.returncode, whole.stderr) == (result.returncode, result.stderr)
        lines = result.stderr.strip().splitlines()
        assert result.returncode == code, result.stderr
        assert len(lines) == 1 and word in lines[0], result.stderr
