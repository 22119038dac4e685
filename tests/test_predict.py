"""Prediction and evaluation of a trained run, from files to files."""

import csv
import json
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jaxlung
from configs import tiny
from jaxlung import cli, metrics
from jaxlung.datasets import load_splits
from jaxlung.errors import InputError
from jaxlung.evaluation import choose_split, evaluate, score_split, summary
from jaxlung.images import read_image
from jaxlung.preprocess import preprocess_image
from jaxlung.splits import array_split
from jaxlung.train import train_and_evaluate

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    config = tiny.get_config()
    config.data.loader = "memory"
    config.data.phantom_train = 16
    config.train.num_epochs = 15
    config.augment.flip = 0.0
    config.optim.learning_rate = 1e-2
    path = tmp_path_factory.mktemp("runs") / "tiny"
    train_and_evaluate(config, path)
    return path


@pytest.fixture(scope="module")
def model(workdir):
    return jaxlung.load(workdir)


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
    np.testing.assert_array_equal(mask, probability >= 0.5)


def test_same_image_by_path_and_as_an_array(model, radiograph, tmp_path):
    Image.fromarray(radiograph).save(tmp_path / "a.png")
    Image.fromarray(radiograph.astype(np.uint16) * 257).save(tmp_path / "b.png")
    expected = model.predict_proba(radiograph)
    np.testing.assert_array_equal(model.predict_proba(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(model.predict_proba(str(tmp_path / "a.png")), expected)
    rgb = np.repeat(radiograph[..., None], 3, axis=-1)
    np.testing.assert_array_equal(model.predict_proba(rgb), expected)


def test_training_and_prediction_feed_the_network_alike(model, radiograph):
    """The network's input of `predict` is `preprocess_image`'s, and that of the train step."""
    image_SxS, _, _ = preprocess_image(radiograph, size=32, fit="letterbox")
    unet = jaxlung.model.build_model(model.config.model)
    logits = unet.apply(model.variables, image_SxS[None, ..., None])
    expected = jax.nn.sigmoid(logits[0, ..., 0])
    np.testing.assert_allclose(model.predict_proba(radiograph), expected, atol=1e-5)


def test_brightness_and_contrast_hardly_matter(model, radiograph):
    darker = np.rint(radiograph * 0.5 + 20).astype(np.uint8)
    difference = model.predict_proba(darker) - model.predict_proba(radiograph)
    assert np.abs(difference).mean() < 0.02


def test_scores_agree_with_single_predictions(model):
    """Batched, padded scoring gives what one image at a time gives, and drops none."""
    split = load_splits(model.config.data)["test"]
    scores = score_split(model, split)
    assert scores.ids == split.ids and len(scores.original.tp) == 3
    for i in range(3):
        example = split.read(i)
        counts = metrics.count_pixels(model.predict(example.image)[None], example.mask[None])
        assert metrics.dice(counts)[0] == pytest.approx(metrics.dice(scores.original)[i], abs=1e-3)


def test_summary_is_of_images_and_pooled_of_pixels(model):
    images = [np.zeros((32, 32), np.uint8), np.full((50, 70), 9, np.uint8)]
    masks = [np.ones((32, 32)), np.zeros((50, 70))]
    result = summary(score_split(model, array_split("x", ["a", "b"], images, masks)))
    row = result["original"]["dice"]
    assert row["per_image"]["n"] == 2
    assert row["per_image"]["min"] <= row["per_image"]["mean"]
    assert 0 <= row["pooled"] <= 1


def test_evaluate_writes_what_it_prints(workdir, capsys):
    result = evaluate(workdir)
    out = workdir / "eval" / "phantom_test"
    saved = json.loads((out / "metrics.json").read_text())
    assert saved["original"]["dice"] == result["original"]["dice"]
    with (out / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 == result["data"]["n"]
    mean = np.mean([float(row["dice_original"]) for row in rows])
    assert mean == pytest.approx(result["original"]["dice"]["per_image"]["mean"], abs=1e-5)
    assert read_image(out / "overlays.png").shape[1] == 4 * 320
    assert f"{mean:.4f}" in capsys.readouterr().out


def test_evaluate_another_folder(workdir, model, tmp_path):
    splits = load_splits(model.config.data)
    for name in ("images", "masks"):
        (tmp_path / "other" / name).mkdir(parents=True)
    for i in range(3):
        example = splits["test"].read(i)
        big = np.kron(example.image, np.ones((3, 2), np.uint8))
        Image.fromarray(big).save(tmp_path / "other" / "images" / f"{i}.png")
        mask = np.kron(example.mask, np.ones((3, 2), bool)).astype(np.uint8) * 255
        Image.fromarray(mask).save(tmp_path / "other" / "masks" / f"{i}_mask.png")
    result = evaluate(workdir, data=str(tmp_path / "other"), out=tmp_path / "report")
    assert result["data"]["name"] == "other_all" and result["data"]["n"] == 3
    assert (tmp_path / "report" / "metrics.json").exists()


def test_choose_split_refuses_what_makes_no_sense(model):
    with pytest.raises(InputError, match="--split"):
        choose_split(model.config.data, None, "tests")
    with pytest.raises(InputError, match="--data"):
        choose_split(model.config.data, None, "all")
    with pytest.raises(InputError, match="own data"):
        choose_split(model.config.data, "elsewhere", "test")
    with pytest.raises(InputError, match="elsewhere"):
        choose_split(model.config.data, "elsewhere", None)


def predict(*arguments):
    cli.main(["predict", *map(str, arguments)])


def test_command_writes_masks_and_overlays(workdir, model, radiograph, tmp_path):
    Image.fromarray(radiograph).resize((70, 50)).save(tmp_path / "a.png")
    Image.fromarray(radiograph).save(tmp_path / "b.tif")
    predict(tmp_path / "a.png", tmp_path / "b.tif", "--workdir", workdir, "--out", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.png", "a_overlay.png", "b.png", "b_overlay.png"]
    mask = read_image(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(mask, model.predict(tmp_path / "a.png") * np.uint8(255))
    assert read_image(tmp_path / "out" / "a_overlay.png").shape == (50, 70, 3)


def test_command_reports_bad_files_and_goes_on(workdir, radiograph, tmp_path, capsys):
    Image.fromarray(radiograph).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("not an image")
    with pytest.raises(SystemExit) as stop:
        predict(tmp_path / "bad.png", tmp_path / "good.png", "--workdir", workdir,
                "--out", tmp_path / "out")  # fmt: skip
    assert stop.value.code == 1
    assert (tmp_path / "out" / "good.png").exists()
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and "bad.png" in errors[0]


def test_command_overwrites_nothing(workdir, radiograph, tmp_path, capsys):
    Image.fromarray(radiograph).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for out in (tmp_path, tmp_path / "out"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "a.png").write_bytes(b"mine")
        with pytest.raises(SystemExit) as stop:
            predict(tmp_path / "a.png", "--workdir", workdir, "--out", out)
        assert stop.value.code == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (tmp_path / "a.png").read_bytes() == before
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    predict(tmp_path / "a.png", "--workdir", workdir, "--out", tmp_path / "out", "--overwrite")
    assert read_image(tmp_path / "out" / "a.png").shape == (32, 32)


def test_command_refuses_two_images_with_one_output(workdir, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        Image.new("L", (32, 32)).save(tmp_path / name / "same.png")
    with pytest.raises(SystemExit) as stop:
        predict(tmp_path / "x" / "same.png", tmp_path / "y" / "same.png", "--workdir", workdir,
                "--out", tmp_path / "out")  # fmt: skip
    assert stop.value.code == 2 and not (tmp_path / "out").exists()


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
    np.testing.assert_array_equal(model.predict(radiograph.tolist()), model.predict(
        radiograph.astype(np.int64)))  # fmt: skip


def test_commands_of_a_real_run_say_one_line(workdir, radiograph, tmp_path):
    """Whole processes: nothing of Orbax or JAX joins the one line on stderr."""
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
        result = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, text=True,
                                capture_output=True, timeout=120)  # fmt: skip
        lines = result.stderr.strip().splitlines()
        assert result.returncode == code, result.stderr
        assert len(lines) == 1 and word in lines[0], result.stderr
