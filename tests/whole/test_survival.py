"""Nothing is lost: kills, SIGTERM, damaged checkpoints, full disks and vanished files."""

import gc
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time

import jax
import numpy as np
import pytest
from PIL import Image

from jaxlung.config import parse_config
from jaxlung.devices import mesh
from jaxlung.errors import InputError, Stopped, TrainingError, one_line_errors
from jaxlung.predict.load import load
from jaxlung.train import log, loop, validation
from jaxlung.train.compiled import compile_steps
from jaxlung.train.loop import train_and_evaluate
from jaxlung.workdir import checkpoints
from jaxlung.workdir.integrity import (
    DIGESTS,
    describe_latest,
    find_damage,
    list_checkpoints,
    set_damaged_aside,
)
from tests.helpers import forked_runs
from tests.helpers.tiny_runs import after_each_step, assert_trees_equal, tiny_config


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An uninterrupted run's final state, and its workdir with the interim checkpoints kept."""
    workdir = tmp_path_factory.mktemp("runs") / "straight"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxlung.workdir.checkpoints.delete_interim", lambda managers: None)
        return train_and_evaluate(tiny_config(train__checkpoint_steps=1), workdir), workdir


def records(workdir):
    """What a run logged, without what depends on its speed."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def assert_goes_on_as(straight, workdir, **changes):
    state, other = straight
    assert_trees_equal(train_and_evaluate(tiny_config(**changes), workdir), state)
    assert records(workdir) == records(other)
    assert list((workdir / "interim").iterdir()) == []


@pytest.mark.parametrize("step", [3, 4, 5])  # in mid-epoch, at an end, in the last epoch
def test_resumed_at_any_step_equals_uninterrupted(straight, tmp_path, step):
    workdir = tmp_path / "run"
    shutil.copytree(straight[1], workdir)
    for path in list_checkpoints(workdir):
        if int(path.name) > step:
            shutil.rmtree(path)
    assert int(list_checkpoints(workdir)[0].name) == step
    assert_goes_on_as(straight, workdir)


def terminate(at):
    """Steps that are sent SIGTERM after one of them."""

    def change(state, metrics):
        if int(state.step) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return state, metrics

    return after_each_step(change)


def test_sigterm_in_an_epoch_or_its_validation_saves_and_leaves(straight, tmp_path, monkeypatch):
    config, workdir = tiny_config(), tmp_path / "run"
    validate = validation.validate

    def terminated(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*args)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", terminated)
        with pytest.raises(Stopped, match="step 2 is saved in .*the same command goes on"):
            train_and_evaluate(config, workdir)
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(InputError, match="first validation"):  # none of it is a model
        load(workdir)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "compile_steps", terminate(5))
        with pytest.raises(Stopped, match="step 5 is saved"):
            train_and_evaluate(config, workdir)
    assert [path.name for path in list_checkpoints(workdir)][:2] == ["5", "4"]
    assert load(workdir).step in (2, 4)
    assert_goes_on_as(straight, workdir)


def test_damage_to_any_file_is_seen(straight, tmp_path):
    checkpoint = straight[1] / "checkpoints" / "6"
    files = [path.relative_to(checkpoint) for path in checkpoint.glob("*/**/*") if path.is_file()]
    copy = tmp_path / "6"
    shutil.copytree(checkpoint, copy)
    assert len(files) > 15 and find_damage(copy) == ""
    for name in files:
        whole = (copy / name).read_bytes()
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        for data in (whole[: len(whole) // 2], flipped, None):
            (copy / name).unlink()
            if data is not None:
                (copy / name).write_bytes(data)
            assert find_damage(copy) == str(name)
            (copy / name).write_bytes(whole)
    (copy / DIGESTS).write_text("{")
    assert find_damage(copy) == DIGESTS
    (copy / DIGESTS).unlink()
    assert find_damage(copy) == DIGESTS


def spoil(path):
    """Changes one bit of a checkpoint's largest file: of its arrays."""
    largest = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 4
    largest.write_bytes(data)


def test_damaged_latest_checkpoints_give_way_to_the_one_before(straight, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(straight[1], workdir)
    spoil(workdir / "checkpoints" / "6")
    metrics = workdir / "interim" / "5" / "progress" / "metadata"
    metrics.write_bytes(metrics.read_bytes()[:9])
    assert_goes_on_as(straight, workdir)
    said = [line for line in capsys.readouterr().out.splitlines() if "is damaged" in line]
    assert len(said) == 2 and all(line.startswith("warning: ") for line in said)
    assert sorted(path.name for path in (workdir / "damaged").iterdir()) == ["5", "6"]
    for path in list_checkpoints(workdir):
        spoil(path)
    before = list_checkpoints(workdir)
    with pytest.raises(InputError, match="no other checkpoint is whole"):
        train_and_evaluate(tiny_config(), workdir)
    assert list_checkpoints(workdir) == before
    for path in (workdir / "checkpoints").glob("*/model"):
        spoil(path)
    with pytest.raises(InputError, match="checkpoints/.* cannot be read .*is damaged"):
        load(workdir)


def test_metrics_of_an_earlier_checkpoint_may_be_damaged_or_gone(straight, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(straight[1], workdir)
    shutil.rmtree(workdir / "checkpoints" / "4" / "metrics")  # killed while it was deleted
    assert set_damaged_aside(workdir) == []
    (workdir / "checkpoints" / "4" / "metrics").mkdir()
    (workdir / "checkpoints" / "4" / "metrics" / "metrics").write_text("{")
    with pytest.raises(InputError, match="metrics cannot be read"):
        load(workdir)
    assert len(set_damaged_aside(workdir)) == 1
    assert load(workdir)


def test_last_words_name_the_last_members_step_beside_any_other_file(tmp_path):
    assert describe_latest(tmp_path) == "none was saved"
    for member, step in (("9", 4), ("10", 2)):
        (tmp_path / "members" / member / "checkpoints" / str(step)).mkdir(parents=True)
    (tmp_path / "members" / ".DS_Store").touch()
    assert describe_latest(tmp_path) == "the last checkpoint is step 2"


@pytest.fixture
def disk(tmp_path):
    """A file system of 3 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no permission to mount a small file system")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk):
    with open(disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
        for size in (65536, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
        raise OSError


# Orbax drops the coroutines of a save that fails halfway: Python closes them when it collects them,
# and warns that their event loop is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", ["checkpoints.save", "log.RunLog.record"])
def test_full_disk(straight, disk, monkeypatch, capsys, place):
    """In the second epoch: one line, and what was saved is whole."""
    target, name = (checkpoints, "save") if place == "checkpoints.save" else (log.RunLog, "record")
    original, calls, workdir = getattr(target, name), itertools.count(), disk / "run"

    def faulty(*args, **kwargs):
        if next(calls) == 1:
            end = time.monotonic() + 60  # the first save is written in the background
            while not (workdir / "checkpoints" / "2").is_dir() and time.monotonic() < end:
                time.sleep(0.05)
            fill(disk)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(target, name, faulty)
        one_line_errors(train_and_evaluate)(tiny_config(), workdir)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert stop.value.code == 2 and len(errors) == 1, errors
    assert "last checkpoint is of step 2" in errors[0] and str(workdir) in errors[0]
    assert find_damage(list_checkpoints(workdir)[0]) == ""
    (disk / "filler").unlink()
    assert_goes_on_as(straight, workdir)
    gc.collect()


def test_read_only_workdir(straight, disk, capsys):
    workdir = disk / "run"
    shutil.copytree(straight[1], workdir, ignore=shutil.ignore_patterns("tensorboard", "*.png"))
    for path in list_checkpoints(workdir):
        if int(path.name) > 4:
            shutil.rmtree(path)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(SystemExit) as stop:
        one_line_errors(train_and_evaluate)(tiny_config(), workdir)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert stop.value.code == 2 and len(errors) == 1 and str(workdir) in errors[0], errors
    assert find_damage(list_checkpoints(workdir)[0]) == ""
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert_goes_on_as(straight, workdir)


@pytest.mark.parametrize("loader", ["memory", "tfdata"])
def test_image_that_is_gone_in_mid_epoch(tmp_path, monkeypatch, loader):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(14):
            pixels = rng.integers(0, 2, (16, 16), np.uint8) * 255
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i:02d}.png")
    ids = [f"{i:02d}" for i in range(14)]
    splits = {"train": ids[:9], "validation": ids[9:12], "test": ids[12:]}
    (tmp_path / "splits.json").write_text(json.dumps(splits))

    def remove(state, metrics):
        if int(state.step) == 3:  # of two an epoch
            for path in (tmp_path / "data" / "images").iterdir():
                path.unlink()
        return state, metrics

    monkeypatch.setattr(loop, "compile_steps", after_each_step(remove))
    config = tiny_config(
        data__name="folder",
        data__dir=str(tmp_path / "data"),
        data__split_file=str(tmp_path / "splits.json"),
        data__cache_gib=0.0,
        data__loader=loader,
        train__checkpoint_steps=1,
    )
    with pytest.raises((InputError, TrainingError)) as error:
        train_and_evaluate(config, tmp_path / "run")
    assert str(tmp_path / "data" / "images") in str(error.value)
    assert "last checkpoint is of step" in str(error.value) and "\n" not in str(error.value)
    assert find_damage(list_checkpoints(tmp_path / "run")[0]) == ""


def final_state(workdir):
    config = parse_config(json.loads((workdir / "config.json").read_text()))
    compiled = compile_steps(config, mesh.make_mesh(4, jax.devices()[:1]), 2)
    abstract = jax.eval_shape(compiled.init, jax.random.key(0))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with checkpoints.open_manager(workdir, read_only=True) as manager:
        abstract = checkpoints.abstract_like(abstract, device)
        return checkpoints.restore(manager, manager.latest_step(), abstract)[0]


def steps_begun(workdir, process):
    """Waits until the process has saved something new, or has ended."""
    before = {path.name for path in list_checkpoints(workdir)}
    while process.is_alive() and {path.name for path in list_checkpoints(workdir)} <= before:
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "terms"), [(1, 1), (25, 25)])
def test_kill_9_and_sigterm_at_any_moment(tmp_path, kills, terms):
    """Whole processes end at random moments; the last one's parameters are a straight run's."""
    seed = int(os.environ.get("JAXLUNG_TEST_SEED", time.time_ns() % 2**32))
    print(f"JAXLUNG_TEST_SEED={seed}")  # shown when the test fails
    rng = random.Random(seed)
    signals = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    rng.shuffle(signals)
    epochs = 6 * len(signals)
    config = tiny_config(
        train__num_epochs=epochs, train__patience=0, train__checkpoint_steps=3
    ).to_dict()
    output, workdir = tmp_path / "output", tmp_path / "run"
    whole = forked_runs.start(config, tmp_path / "straight", output)
    whole.join()  # and the others find its programs in the cache
    ends = []
    for number in signals:
        process = forked_runs.start(config, workdir, output)
        # From the start on, and anywhere in step, validation, logging, drawing, saving.
        if rng.random() < 0.8 or len(signals) == 2:
            steps_begun(workdir, process)
        if len(ends) == 0 and process.is_alive() and (workdir / "config.json").exists():
            with pytest.raises(InputError, match="another training is running there"):
                train_and_evaluate(config, workdir)
        time.sleep(rng.uniform(0.0, 0.3))
        os.kill(process.pid, number)
        asked = time.monotonic()
        process.join()
        assert number == signal.SIGKILL or time.monotonic() - asked < 10
        ends.append(process.exitcode)
    told = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}}  # -15: before its first step
    assert all(end in told[number] for end, number in zip(ends, signals, strict=True)), ends
    assert 143 in ends
    for process in (forked_runs.start(config, workdir, output), whole):
        process.join()
        assert process.exitcode == 0, output.read_text()[-2000:]
    assert "Traceback" not in output.read_text()
    assert_trees_equal(final_state(workdir), final_state(tmp_path / "straight"))
    assert int(final_state(workdir).step) == 2 * epochs
    assert records(workdir) == records(tmp_path / "straight")
    left = [path.name for path in workdir.rglob("*orbax-checkpoint-tmp*")]
    assert not left and not (workdir / "damaged").exists()
    print(f"{ends.count(-9)} kills, {ends.count(143)} saved on SIGTERM, {ends.count(-15)} before")
