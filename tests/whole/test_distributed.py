"""Two processes of a device are one of two: losses, a dead process, resumption, evaluation."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxlung.devices import distributed
from jaxlung.errors import InputError
from jaxlung.train.loop import train_and_evaluate
from jaxlung.train.sigterm import Stop
from tests.helpers.tiny_runs import tiny_config

ROOT = Path(__file__).parents[2]
EPOCHS, MORE_EPOCHS = 3, 6  # of two steps, each with a checkpoint


class Pair:
    """A command in two processes of one device each."""

    def __init__(self, *command: str, each: tuple[str, str] = ("", "")):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.processes = [
            start(
                1,
                *command,
                *each[i].split(),
                f"--coordinator=localhost:{port}",
                "--processes=2",
                f"--process={i}",
            )
            for i in (0, 1)
        ]

    def ended(self, timeout: float = 240) -> list[tuple[int, str, str]]:
        """Each one's status, stdout and stderr."""
        texts = [process.communicate(timeout=timeout) for process in self.processes]
        return [(p.returncode, *text) for p, text in zip(self.processes, texts, strict=True)]


def wait_for(checkpoint: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not checkpoint.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


def start(devices: int, *command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        text=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def training(workdir: Path, epochs: int = MORE_EPOCHS) -> list[str]:
    return [
        "train.py",
        "--config=configs/tiny.py",
        f"--workdir={workdir}",
        "--config.data.loader=memory",
        "--config.data.size=16",
        "--config.model.width=2",
        f"--config.train.num_epochs={epochs}",
        "--config.train.patience=0",
    ]


def records(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def last_params(workdir: Path, epochs: int = MORE_EPOCHS) -> list[np.ndarray]:
    import orbax.checkpoint as ocp

    checkpoint = (workdir / "checkpoints" / str(2 * epochs) / "model").absolute()
    reader = ocp.PyTreeCheckpointer()
    tree = reader.metadata(checkpoint).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return jax.tree.leaves(reader.restore(checkpoint, restore_args=as_numpy))


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """A run of this process, on two devices."""
    workdir = tmp_path_factory.mktemp("runs") / "one"
    train_and_evaluate(tiny_config(train__num_epochs=EPOCHS, train__patience=0), workdir)
    return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """A run of two processes on a device each."""
    return run_of_a_pair(tmp_path_factory.mktemp("runs") / "two", EPOCHS)


@pytest.fixture(scope="module")
def longer(tmp_path_factory) -> Path:
    """Likewise, long enough to be interrupted."""
    return run_of_a_pair(tmp_path_factory.mktemp("runs") / "longer", MORE_EPOCHS)


def run_of_a_pair(workdir: Path, epochs: int) -> Path:
    (code, out, errors), (code_1, out_1, errors_1) = Pair(*training(workdir, epochs)).ended()
    assert code == code_1 == 0, errors + errors_1
    assert "best validation Dice" in out and f"epoch {epochs}" in out
    assert "Dice" not in out_1 + errors_1 and "step" not in errors_1  # no second bar
    return workdir


@pytest.mark.slow  # of two processes, as are the next: each joins and compiles anew
def test_losses_are_those_of_one_process(one, two):
    assert len(records(two)) == EPOCHS
    for ours, theirs in zip(records(two), records(one), strict=True):
        for name in ("train_loss", "validation_loss", "validation_dice", "grad_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5), (name, ours["step"])
    for ours, theirs in zip(last_params(two, EPOCHS), last_params(one, EPOCHS), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert json.loads((two / "run.json").read_text())["starts"][0]["devices"] == ["cpu:cpu"] * 2


@pytest.mark.slow  # two pairs of processes, of which each compiles and joins anew
@pytest.mark.parametrize("victims", [[(0, 2)], [(1, 2), (0, 6)]])
def test_a_dead_process_ends_the_other_in_one_line_and_the_pair_goes_on(longer, tmp_path, victims):
    """Process 0 is the one that the others live by; at which step each is killed."""
    workdir = tmp_path / "run"
    for victim, step in victims:
        pair = Pair(*training(workdir))
        wait_for(workdir / "checkpoints" / str(step), pair.processes[victim])
        pair.processes[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        code, _, errors = pair.ended()[1 - victim]
        assert time.monotonic() - killed < 60
        *_, last = errors.splitlines()
        saved = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdecimal())
        assert code == 3, errors
        assert last == (
            f"error: another process of this training is gone; the last checkpoint is step {saved};"
            f" start all processes again to go on"
        )
        assert step <= saved < 2 * MORE_EPOCHS
    ended = Pair(*training(workdir)).ended()
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "goes on from step" in ended[0][1]
    for ours, theirs in zip(last_params(workdir), last_params(longer), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [r["train_loss"] for r in records(workdir)] == [r["train_loss"] for r in records(longer)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--config.mesh.fsdp", "--config.data.loader=device"])
def test_sigterm_to_one_stops_both_at_one_step_and_the_pair_goes_on(longer, tmp_path, how):
    workdir = tmp_path / "run"
    pair = Pair(*training(workdir), how)
    wait_for(workdir / "checkpoints" / "2", pair.processes[1])
    pair.processes[1].send_signal(signal.SIGTERM)
    told = set()
    for code, _, errors in pair.ended():
        assert code == 143, errors
        told.add(errors.splitlines()[-1])
    [line] = told
    [step] = re.findall(r"^stopped by SIGTERM; step (\d+) is saved in", line)
    assert 2 <= int(step) < 2 * MORE_EPOCHS
    assert (workdir / "interim" / step).exists() or (workdir / "checkpoints" / step).exists()
    ended = Pair(*training(workdir), how).ended()
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert f"goes on from step {step}" in ended[0][1]
    assert (workdir / "validation.png").exists()
    for ours, theirs in zip(last_params(workdir), last_params(longer), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_step_to_stop_at_may_lie_in_an_ensembles_next_member(monkeypatch):
    """JAX names a step; where the steps of each member began anew, none would reach it."""
    numbers = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        "jax.experimental.multihost_utils.reached_preemption_sync_point",
        lambda step: numbers.append(step) or len(numbers) == 4,
    )
    first, second = Stop(), Stop()
    assert not first.after(1) and not first.after(2)
    assert second.after(2) and not first.asked
    assert numbers == list(range(numbers[0], numbers[0] + 5))


def test_processes_with_other_settings_are_refused(tmp_path):
    seeds = ("--config.train.seed=1", "--config.train.seed=2")
    for code, _, errors in Pair(*training(tmp_path / "run"), each=seeds).ended():
        assert code not in (0, 3)
        assert "config: process 1 has other than process 0" in errors.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_workdirs_of_their_own_are_refused(tmp_path):
    apart = tuple(f"--workdir={tmp_path / name}" for name in ("a", "b"))
    for code, _, errors in Pair(*training(tmp_path), each=apart).ended():
        assert code not in (0, 3)
        assert "process 1 does not see what process 0 has written" in errors.splitlines()[-1]


def test_a_workdir_that_is_not_shared_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_text("{}")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "_SEEN", 0)
    monkeypatch.setattr(distributed, "gather", lambda value: [value, value])
    distributed.check_shared(path)
    monkeypatch.setattr(distributed, "gather", lambda value: [value, "missing"])
    with pytest.raises(InputError, match=r"run.json: process 1 does not see .* all hosts share"):
        distributed.check_shared(path)


def test_a_process_ends_even_where_its_last_words_fail(monkeypatch):
    def leave(code):
        raise SystemExit(code)

    def fail():
        raise ValueError("unreadable")

    monkeypatch.setattr(os, "_exit", leave)
    for end in (
        lambda: distributed.AbortWords._speak(SimpleNamespace(say=fail), signal.SIGABRT),
        lambda: distributed._leave(jax.errors.JaxRuntimeError("UNAVAILABLE"), fail),
    ):
        with pytest.raises(SystemExit) as stop:
            end()
        assert stop.value.code == distributed.GONE


@pytest.mark.slow
def test_an_evaluation_by_two_processes_has_the_figures_of_one(two, tmp_path):
    found = []
    command = ["eval.py", f"--workdir={two}"]
    assert [e[0] for e in Pair(*command, f"--out={tmp_path / 'pair'}").ended()] == [0, 0]
    alone = start(2, *command, f"--out={tmp_path / 'alone'}")
    _, errors = alone.communicate(timeout=240)
    assert alone.returncode == 0, errors
    for name in ("pair", "alone"):
        report = json.loads((tmp_path / name / "metrics.json").read_text())
        [result] = report["results"]
        assert result["n"] == 3
        found.append({**result, "seconds": 0})
    assert found[0] == found[1]
    rows = [(tmp_path / name / "per_image.csv").read_text() for name in ("pair", "alone")]
    assert rows[0] == rows[1]
