"""Each mistake ends in one line that names the file or field, before training, nothing written."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import tiny
from jaxlung.errors import InputError
from jaxlung.train.loop import train_and_evaluate
from tests.helpers.forked_commands import run
from tests.helpers.tiny_runs import no_steps

ROOT = Path(__file__).parents[2]


def write_pairs(directory):
    """24 good pairs of 40x48 pixels, enough for every split by hash."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (directory / name).mkdir(parents=True)
    for i in range(24):
        mask = np.zeros((40, 48), np.uint8)
        mask[8:30, 6:20] = mask[8:30, 28:42] = 255
        image = rng.integers(0, 200, (40, 48), np.uint8)
        Image.fromarray(image).save(directory / "images" / f"case{i:02d}.png")
        Image.fromarray(mask).save(directory / "masks" / f"case{i:02d}.png")
    return directory


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path / "data")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A good folder, and a run that was trained on it for an epoch; a test leaves both alone."""
    root = tmp_path_factory.mktemp("trained")
    config = folder_config(write_pairs(root / "data"))
    with no_steps():
        state = train_and_evaluate(config, root / "run")
    assert int(state.step) > 0
    return root


def folder_config(folder):
    config = tiny.get_config()
    config.data.loader = "memory"
    config.data.name = "folder"
    config.data.dir = str(folder)
    config.train.num_epochs = 1
    return config


def assert_refused(config, workdir, *words):
    with pytest.raises(InputError) as caught:
        train_and_evaluate(config, workdir)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert not workdir.exists()


def test_good_folder_trains(trained):
    assert (trained / "run" / "metrics.jsonl").exists()


def test_missing_folder(tmp_path):
    assert_refused(folder_config(tmp_path / "nowhere"), tmp_path / "run", "nowhere")


def test_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(folder_config(tmp_path / "empty"), tmp_path / "run", "empty")
    (tmp_path / "empty" / "images").mkdir()
    (tmp_path / "empty" / "masks").mkdir()
    assert_refused(folder_config(tmp_path / "empty"), tmp_path / "run", "images")


def test_image_without_mask(folder, tmp_path):
    (folder / "masks" / "case03.png").unlink()
    assert_refused(folder_config(folder), tmp_path / "run", "case03.png", "no mask")


@pytest.mark.parametrize("half", ["images", "masks"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "zero bytes"])
def test_corrupt_file(folder, tmp_path, half, damage):
    path = folder / half / "case05.png"
    data = path.read_bytes()
    path.write_bytes(
        {"truncated": data[: len(data) * 2 // 3], "garbage": b"\x01" * 500, "zero bytes": b""}[
            damage
        ]
    )
    assert_refused(folder_config(folder), tmp_path / "run", f"{half}/case05.png")


def test_mask_of_another_size(folder, tmp_path):
    Image.fromarray(np.full((40, 47), 255, np.uint8)).save(folder / "masks" / "case07.png")
    assert_refused(folder_config(folder), tmp_path / "run", "case07.png", "40x47", "40x48")


def test_all_empty_mask_in_training_data(folder, tmp_path):
    (tmp_path / "lists.json").write_text(
        '{"train": ["case00", "case01", "case02", "case03", "case09"],'
        ' "validation": ["case10"], "test": ["case11"]}'
    )
    config = folder_config(folder)
    config.data.split_file = str(tmp_path / "lists.json")
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "masks" / "case09.png")
    assert_refused(config, tmp_path / "run", "masks/case09.png", "empty")


def test_fewer_images_than_a_batch(folder, tmp_path):
    config = folder_config(folder)
    config.train.batch_size = 64
    assert_refused(config, tmp_path / "run", "train.batch_size=64")


def test_value_out_of_range(tmp_path):
    config = tiny.get_config()
    config.optim.learning_rate = -1.0
    assert_refused(config, tmp_path / "run", "optim.learning_rate")


def snapshot(directory):
    return {p: p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_workdir_of_another_model_is_left_alone(trained):
    config = folder_config(trained / "data")
    before = snapshot(trained / "run")
    config.model.width = 8
    with pytest.raises(InputError, match=r"model\.width: 4 -> 8"):
        train_and_evaluate(config, trained / "run")
    assert snapshot(trained / "run") == before


def test_changed_data_are_not_resumed_on(trained):
    before = snapshot(trained / "run")
    changed = trained / "data" / "images" / "case01.png"
    data = changed.read_bytes()
    shutil.copy(trained / "data" / "images" / "case00.png", changed)
    try:
        with pytest.raises(InputError, match="data have changed"):
            train_and_evaluate(folder_config(trained / "data"), trained / "run")
    finally:
        changed.write_bytes(data)
    assert snapshot(trained / "run") == before


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--config.optim.lerning_rate=1"], "lerning_rate"),
        (["--config.optim.learning_rate=-1"], "optim.learning_rate"),
        (["--config.train.batch_size=many"], "config.train.batch_size"),
        (["--config.data.name=folder", "--config.data.dir=no/such/place"], "no/such/place"),
        (["--config=configs/none.py"], "configs/none.py: no such recipe; name one of ct, cxr"),
        (["--config.train.init_from=cxr"], "train.init_from=cxr: its network is another (model.wi"),
        (
            ["--config.train.init_from=nope"],
            "nope: no such workdir, nor a bundled model (there are",
        ),
        (["--config.data.fit=stretch"], "data.fit='stretch' has no effect with"),
        (["--config.data.name=folder", "--config.data.dir=~/none"], str(Path.home() / "none")),
        (["--processes=two"], "--processes: invalid int value: 'two'; see jaxlung train --help"),
        (["--worker=1"], "--worker is no flag"),
        (["stray"], "stray"),
    ],
)
def test_command_line_says_one_line_and_fails(tmp_path, flags, word):
    workdir = tmp_path / "run"
    result = run("train.py", "--config=configs/tiny.py", f"--workdir={workdir}", *flags)
    assert result.returncode != 0
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and word in lines[0], result.stderr
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("script", "flag", "example"),
    [("train.py", "--config", "unet"), ("eval.py", "--workdir", "runs/unet")],
)
def test_a_flag_that_is_left_out_is_named_with_an_example(script, flag, example):
    result = run(script)
    assert result.returncode == 2 and result.stdout == ""
    command = f"jaxlung {script.removesuffix('.py')}"
    words = f"{flag} is needed, as in {flag} {example}; see {command} --help"
    assert result.stderr == f"error: {words}\n"


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_help_is_no_error(script):
    """A real start of each script: whatever it prints beside its help would show."""
    result = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0 and result.stderr == ""
    assert f"jaxlung {script.removesuffix('.py')} --" in result.stdout
    for flag in ("--workdir", "--coordinator", "--processes", "--process"):
        assert flag in result.stdout


def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    command = f"{sys.executable} -m jaxlung data list --data-dir {tmp_path} | head -0"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stderr == ""


def test_predict_on_no_image_and_eval_of_no_run(tmp_path):
    (tmp_path / "notes.png").write_text("not an image")
    result = run(
        "-m",
        "jaxlung",
        "predict",
        tmp_path / "notes.png",
        "--workdir",
        tmp_path,
        "--out",
        tmp_path / "out",
    )
    assert result.returncode != 0 and len(result.stderr.strip().splitlines()) == 1
    assert "config.json" in result.stderr
    result = run("eval.py", f"--workdir={tmp_path}")
    assert result.returncode != 0 and len(result.stderr.strip().splitlines()) == 1
    assert "config.json" in result.stderr
    assert not (tmp_path / "out").exists()
