"""Training as a whole: it learns, resumes bit for bit, and stops in one line when it must."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import tiny
from jaxlung import checkpoints, sharding, steps
from jaxlung.checkpoints import EarlyStop
from jaxlung.config import parse_config
from jaxlung.epochs import train_epoch
from jaxlung.errors import InputError, TrainingError
from jaxlung.model import build_model
from jaxlung.predict import load
from jaxlung.runlog import RunLog
from jaxlung.train import compile_steps, prepare_data, train_and_evaluate, validate

ROOT = Path(__file__).parent.parent


def tiny_config(**changes):
    """configs/tiny.py without TensorFlow's start-up; changes as section__field=value."""
    config = tiny.get_config()
    config.data.loader = "memory"
    for path, value in changes.items():
        section, field = path.split("__")
        config[section][field] = value
    return config


def assert_trees_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(left), jax.device_get(right))


def train_until(monkeypatch, config, workdir, *, epochs):
    """A run that is interrupted in the epoch after `epochs`, whose saves are done."""
    calls = 0

    def crash(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > epochs:
            raise KeyboardInterrupt
        return validate(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("jaxlung.train.validate", crash)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, workdir)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted tiny run: its final state and workdir."""
    workdir = tmp_path_factory.mktemp("runs") / "straight"
    return train_and_evaluate(tiny_config(), workdir), workdir


def test_run_leaves_what_the_readme_says(finished):
    state, workdir = finished
    assert int(state.step) == 6  # 3 epochs of 8 // 4 steps
    for name in ("config.json", "run.json", "metrics.jsonl", "learning_curve.png",
                 "validation.png", "tensorboard", "checkpoints"):  # fmt: skip
        assert (workdir / name).exists(), name
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4, 6]
    assert all(0 <= record["validation_dice"] <= 1 for record in records)
    record = json.loads((workdir / "run.json").read_text())["starts"][0]
    assert len(record["data_fingerprint"]) == 64 and record["packages"]["jax"]
    with checkpoints.open_manager(workdir, read_only=True) as manager:
        best = max(records, key=lambda r: r["validation_dice"])["step"]
        assert manager.best_step() == best
        assert set(manager.all_steps()) == {6, best}


def test_training_reduces_the_loss(tmp_path):
    config = tiny_config(train__num_epochs=20, augment__flip=0.0, optim__learning_rate=1e-2)
    train_and_evaluate(config, tmp_path / "run")
    losses = [
        json.loads(line)["train_loss"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < 0.8 * losses[0]


def test_same_seed_same_run_and_other_seed_another(finished, tmp_path):
    state, _ = finished
    again = train_and_evaluate(tiny_config(), tmp_path / "again")
    assert_trees_equal(again.params, state.params)
    other = train_and_evaluate(tiny_config(train__seed=1), tmp_path / "other")
    leaves = zip(jax.tree.leaves(other.params), jax.tree.leaves(state.params), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


def test_tfdata_and_memory_loaders_train_alike(finished, tmp_path):
    state, _ = finished
    other = train_and_evaluate(tiny_config(data__loader="tfdata"), tmp_path / "run")
    assert_trees_equal(other.params, state.params)


@pytest.mark.parametrize("steps_per_call", [1, 2, 3])  # 3: more than an epoch's 2
def test_data_on_the_device_train_alike(finished, tmp_path, steps_per_call):
    state, workdir = finished
    config = tiny_config(data__loader="device", train__steps_per_call=steps_per_call)
    other = train_and_evaluate(config, tmp_path / "run")
    assert int(other.step) == int(state.step)
    for ours, theirs in zip(
        jax.tree.leaves(other.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    logs = [(path / "metrics.jsonl").read_text() for path in (workdir, tmp_path / "run")]
    losses = [[json.loads(line)["train_loss"] for line in log.splitlines()] for log in logs]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_data_that_the_device_may_not_hold_are_refused(tmp_path):
    config = tiny_config(data__loader="device", data__cache_gib=0.0)
    with pytest.raises(InputError, match="data.cache_gib"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_average_of_the_parameters_is_kept_and_evaluated(tmp_path):
    """Against the recursion by hand, from the parameters of each step."""
    config = parse_config(tiny_config(train__ema=0.5, data__size=16))
    mesh = sharding.make_mesh(4)
    compiled = compile_steps(config, mesh, 2)
    rng = np.random.default_rng(0)
    state = compiled.init(jax.random.key(0))
    average = jax.device_get(state.params)
    for step in range(4):
        batch = {
            "image": rng.integers(0, 255, (4, 16, 16)).astype(np.uint8),
            "mask": rng.integers(0, 2, (4, 16, 16)).astype(np.uint8),
        }
        state, _ = compiled.train(state, sharding.to_devices(batch, mesh))
        decay = min(0.5, (1 + step) / (10 + step))
        average = jax.tree.map(
            lambda a, p, decay=decay: decay * a + (1 - decay) * p, average,
            jax.device_get(state.params),
        )  # fmt: skip
    for found, expected in zip(
        jax.tree.leaves(state.variables["params"]), jax.tree.leaves(average), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    leaves = zip(jax.tree.leaves(state.params), jax.tree.leaves(average), strict=True)
    assert any(np.abs(p - a).max() > 1e-4 for p, a in leaves)


def test_training_starts_from_another_runs_best(finished, tmp_path, monkeypatch):
    """And when it is resumed the other run may be gone."""
    _, source = finished
    best = load(source).variables["params"]
    shutil.copytree(source, tmp_path / "source")
    config = tiny_config(
        train__init_from=str(tmp_path / "source"), optim__learning_rate=1e-12, train__seed=5,
        train__ema=0.9,
    )  # fmt: skip
    train_until(monkeypatch, config, tmp_path / "next", epochs=1)
    shutil.rmtree(tmp_path / "source")
    state = train_and_evaluate(config, tmp_path / "next")
    for tree in (state.params, state.variables["params"]):
        for found, expected in zip(jax.tree.leaves(tree), jax.tree.leaves(best), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_another_network_to_start_from_is_refused_before_anything_is_written(finished, tmp_path):
    _, source = finished
    config = tiny_config(train__init_from=str(source), model__width=8)
    with pytest.raises(InputError, match="model.width"):
        train_and_evaluate(config, tmp_path / "next")
    assert not (tmp_path / "next").exists()
    (tmp_path / "begun").mkdir()
    shutil.copy(source / "config.json", tmp_path / "begun")
    config = tiny_config(train__init_from=str(tmp_path / "begun"))
    with pytest.raises(InputError, match="train.init_from: .*no checkpoints"):
        train_and_evaluate(config, tmp_path / "next")
    config = tiny_config(train__init_from=str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="train.init_from"):
        train_and_evaluate(config, tmp_path / "next")
    assert not (tmp_path / "next").exists()


@pytest.mark.parametrize("bad", ["loss", "grad_norm"])
def test_result_that_is_not_finite_names_its_step_within_a_call(tmp_path, bad):
    good = {"loss": np.ones(3), "grad_norm": np.ones(3)}
    worse = {**good, bad: np.array([1, np.nan, 1])}
    calls = iter([(lambda state: (state, good), 3), (lambda state: (state, worse), 3)])
    with RunLog(tmp_path, 12, 100, 4) as log, pytest.raises(TrainingError, match="at step 17:"):
        train_epoch(None, 12, 6, calls, log)


def test_rate_counts_every_image_but_those_of_the_call_that_compiles(tmp_path, monkeypatch):
    clock = iter([100.0, 102.0, 110.0, 111.0])  # the first call ends; the second; epoch 2; its end
    monkeypatch.setattr("jaxlung.runlog.time.perf_counter", lambda: next(clock))
    with RunLog(tmp_path, 0, 100, 4) as log:
        log.start_epoch()
        log.steps([0.1] * 3)
        assert log.rate == 0
        log.steps([0.1] * 3)
        assert log.rate == 12 / 2
        log.start_epoch()
        log.steps([0.1] * 2)
        assert log.rate == 8 / 1


def test_remat_recomputes_blocks_and_leaves_the_gradients():
    """XLA's CPU compiler takes the second computation out again: what is asked for is counted."""
    config = tiny_config(data__size=16)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 255, (4, 16, 16)).astype(np.uint8),
        "mask": rng.integers(0, 2, (4, 16, 16)).astype(np.uint8),
    }
    found = []
    for remat in (False, True):
        config.model.remat = remat
        parsed = parse_config(config)
        mesh = sharding.make_mesh(4)
        compiled = compile_steps(parsed, mesh, 2)
        state = compiled.init(jax.random.key(0))
        placed = sharding.to_devices(batch, mesh)
        program = compiled.train.lower(state, placed).as_text()
        found.append((program, *compiled.train(state, placed)))
    (program, state, metrics), (other_program, other, other_metrics) = found
    blocks = 3  # encoder, bottleneck, decoder, of two convolutions each
    assert other_program.count("optimization_barrier") == blocks
    convolutions = program.count("stablehlo.convolution")
    assert other_program.count("stablehlo.convolution") == convolutions + 2 * blocks
    np.testing.assert_allclose(other_metrics["loss"], metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(other_metrics["grad_norm"], metrics["grad_norm"], rtol=1e-5)
    assert jax.tree.structure(other.params) == jax.tree.structure(state.params)


@pytest.mark.parametrize("crash_epoch", [1, 2])
def test_resumed_equals_uninterrupted(finished, tmp_path, monkeypatch, crash_epoch):
    straight, _ = finished
    config, workdir = tiny_config(), tmp_path / "run"
    train_until(monkeypatch, config, workdir, epochs=crash_epoch)
    resumed = train_and_evaluate(config, workdir)
    assert_trees_equal(resumed, straight)
    records = (workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == [2, 4, 6]


def test_finished_run_is_left_alone(finished):
    state, workdir = finished
    before = (workdir / "metrics.jsonl").read_text()
    again = train_and_evaluate(tiny_config(), workdir)
    assert_trees_equal(again, state)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_checkpoints_keep_the_average_beside_the_parameters(tmp_path):
    """With parameters, average and optimiser all different; the average is what is evaluated."""
    config = parse_config(tiny_config(train__ema=0.9))
    mesh = sharding.make_mesh(4)
    compiled = compile_steps(config, mesh, 2)
    state = jax.device_get(compiled.init(jax.random.key(0)))
    state = state.replace(average=jax.tree.map(lambda p: p + 1, state.params), step=np.int32(7))
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.save(manager, state, EarlyStop(0.5, 7, 0), 0.5)
        manager.wait_until_finished()
        abstract = checkpoints.abstract_like(state, sharding.replicated(mesh))
        restored, early_stop = checkpoints.restore(manager, 7, abstract)
    assert_trees_equal(restored, state)
    assert early_stop == EarlyStop(0.5, 7, 0)
    variables, step = checkpoints.restore_best(tmp_path, abstract.variables)
    assert step == 7
    assert_trees_equal(variables["params"], state.average)


def test_batch_norm_and_dropout_resume_too(tmp_path, monkeypatch):
    config = tiny_config(model__norm="batch", model__dropout=0.2)
    straight = train_and_evaluate(config, tmp_path / "straight")
    assert straight.batch_stats
    train_until(monkeypatch, config, tmp_path / "resumed", epochs=1)
    with checkpoints.open_manager(tmp_path / "resumed", read_only=True) as manager:
        assert manager.latest_step() == 2
    assert_trees_equal(train_and_evaluate(config, tmp_path / "resumed"), straight)


def run_train(workdir, *flags, **options):
    command = [
        sys.executable, "train.py", "--config=configs/tiny.py", "--config.data.loader=memory",
        f"--workdir={workdir}", *flags,
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=ROOT, **options)


def final_params(workdir):
    with checkpoints.open_manager(workdir, read_only=True) as manager:
        config = parse_config(json.loads((workdir / "config.json").read_text()))
        compiled = compile_steps(config, sharding.make_mesh(4, jax.devices()[:1]), 2)
        abstract = jax.eval_shape(compiled.init, jax.random.key(0))
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        state, _ = checkpoints.restore(
            manager, manager.latest_step(), checkpoints.abstract_like(abstract, device)
        )
        return state


def wait_for_records(process, workdir, count):
    """Until metrics.jsonl has that many lines, or the process has ended."""
    path = workdir / "metrics.jsonl"
    while process.poll() is None:
        if path.exists() and path.read_text().count("\n") >= count:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment(tmp_path, kills):
    """Kills whole processes at random moments; the parameters in the end are a straight run's."""
    seed = int(os.environ.get("JAXLUNG_TEST_SEED", time.time_ns() % 2**32))
    print(f"JAXLUNG_TEST_SEED={seed}")  # shown when the test fails
    rng = random.Random(seed)
    epochs = 4 * kills
    flags = [f"--config.train.num_epochs={epochs}", "--config.train.patience=0"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert run_train(tmp_path / "straight", *flags, **quiet).wait() == 0
    killed = 0
    for i in range(kills):
        process = run_train(tmp_path / "killed", *flags, **quiet)
        # From before the first epoch on, anywhere in step, validation, logging, drawing, saving.
        wait_for_records(process, tmp_path / "killed", 3 * i)
        time.sleep(rng.uniform(0.0, 1.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == kills  # none had ended before
    assert run_train(tmp_path / "killed", *flags, **quiet).wait() == 0
    straight, resumed = final_params(tmp_path / "straight"), final_params(tmp_path / "killed")
    assert int(resumed.step) == 2 * epochs
    assert_trees_equal(resumed, straight)
    records = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in records] == list(range(1, epochs + 1))
    assert [
        p.name for p in (tmp_path / "killed" / "checkpoints").iterdir() if "tmp" in p.name
    ] == []


@pytest.mark.parametrize("what", ["loss", "grad_norm"])
def test_non_finite_loss_stops_with_the_step_named(tmp_path, monkeypatch, what):
    original = steps.train_step

    def poisoned(state, batch, **kwargs):
        state, step_metrics = original(state, batch, **kwargs)
        value = jax.numpy.where(state.step == 4, jax.numpy.nan, step_metrics[what])
        return state, {**step_metrics, what: value}

    monkeypatch.setattr(steps, "train_step", poisoned)
    with pytest.raises(TrainingError, match="step 4"):
        train_and_evaluate(tiny_config(), tmp_path / "run")
    with checkpoints.open_manager(tmp_path / "run", read_only=True) as manager:
        assert manager.latest_step() == 2  # the last good one


def test_non_finite_parameters_are_never_saved(tmp_path, monkeypatch):
    """The epoch's last update goes wrong without a sign in its loss: validation sees it."""
    original = steps.train_step

    def poisoned(state, batch, **kwargs):
        state, step_metrics = original(state, batch, **kwargs)
        factor = jax.numpy.where(state.step == 4, jax.numpy.nan, 1.0)
        return state.replace(params=jax.tree.map(lambda p: p * factor, state.params)), step_metrics

    monkeypatch.setattr(steps, "train_step", poisoned)
    with pytest.raises(TrainingError, match="after step 4"):
        train_and_evaluate(tiny_config(), tmp_path / "run")
    with checkpoints.open_manager(tmp_path / "run", read_only=True) as manager:
        assert manager.latest_step() == manager.best_step() == 2
    assert np.isfinite(load(tmp_path / "run").predict_proba(np.eye(32, dtype=np.uint8))).all()


def test_early_stopping_ends_the_run(tmp_path, monkeypatch):
    scores = iter([0.6, 0.55, 0.9])

    def fake(*args, **kwargs):
        dice = next(scores)
        return {"loss": 0.0, "dice": dice, "iou": dice, "accuracy": dice, "pooled_dice": dice}

    monkeypatch.setattr("jaxlung.train.validate", fake)
    config = tiny_config(train__patience=1)
    state = train_and_evaluate(config, tmp_path / "run")
    assert int(state.step) == 4  # one validation after the best, at step 2
    assert load(tmp_path / "run").step == 2
    # The same command again does not train past the stop.
    assert int(train_and_evaluate(config, tmp_path / "run").step) == 4


def test_early_stop_is_pure_and_ignores_nan():
    start = EarlyStop()
    better = start.update(0.7, 1)
    assert (better.best, better.best_step, better.stale) == (0.7, 1, 0)
    worse = better.update(float("nan"), 2).update(0.6, 3)
    assert (worse.best, worse.best_step, worse.stale) == (0.7, 1, 2)
    assert worse.should_stop(2) and not worse.should_stop(3) and not worse.should_stop(0)
    assert start == EarlyStop()


@pytest.mark.parametrize("scores", [(0.9, 0.5, 0.9, 0.3), (0.5, 0.5, 0.5), (0.1, 0.3, 0.2)])
def test_early_stop_and_orbax_agree_on_the_best(tmp_path, scores):
    state = steps.TrainState(jax.numpy.int32(0), {"w": jax.numpy.zeros(2)}, {}, {})
    early_stop = EarlyStop()
    with checkpoints.open_manager(tmp_path) as manager:
        for step, score in enumerate(scores, 1):
            early_stop = early_stop.update(score, step)
            checkpoints.save(manager, state.replace(step=jax.numpy.int32(step)), early_stop, score)
        manager.wait_until_finished()
        assert manager.best_step() == early_stop.best_step
        assert set(manager.all_steps()) == {early_stop.best_step, len(scores)}
    assert EarlyStop().update(0.5, 1).update(0.5, 2).stale == 1  # a tie is no improvement


def test_damaged_checkpoint_is_named(finished, tmp_path):
    _, workdir = finished
    shutil.copytree(workdir, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").rglob("_METADATA"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="checkpoints/.* cannot be read"):
        load(tmp_path / "run")
    with pytest.raises(InputError, match="checkpoints/.* cannot be read"):
        train_and_evaluate(tiny_config(), tmp_path / "run")


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_sharded_equals_unsharded(norm):
    config = parse_config(tiny_config(model__norm=norm))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (4, 32, 32), np.uint8),
        "mask": rng.integers(0, 2, (4, 32, 32), np.uint8),
        "valid": np.array([True, True, True, False]),
    }
    results = []
    for devices in (jax.devices()[:1], jax.devices()):
        mesh = sharding.make_mesh(4, devices)
        compiled = compile_steps(config, mesh, 2)
        state = compiled.init(jax.random.key(1))
        losses = []
        for _ in range(3):
            state, step_metrics = compiled.train(state, sharding.to_devices(batch, mesh))
            losses.append(float(step_metrics["loss"]))
        evaluated = compiled.evaluate(state.variables, sharding.to_devices(batch, mesh))
        results.append((losses, jax.device_get(state.params), jax.device_get(evaluated)))
    assert len(jax.devices()) == 2
    (losses_1, params_1, evaluated_1), (losses_2, params_2, evaluated_2) = results
    np.testing.assert_allclose(losses_2, losses_1, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4),
                 params_1, params_2)  # fmt: skip
    np.testing.assert_allclose(evaluated_2["loss"], evaluated_1["loss"], rtol=1e-4)


def test_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match=r"train\.batch_size=3 .* 2 devices"):
        sharding.make_mesh(3)


def test_padding_does_not_count():
    config = parse_config(tiny_config())
    canvases, _ = prepare_data(config)
    mesh = sharding.make_mesh(4)
    compiled = compile_steps(config, mesh, 2)
    variables = compiled.init(jax.random.key(0)).variables
    # 3 images: batches of 4 have a padded row, batches of 1 on one device have none.
    padded = validate(variables, compiled.evaluate, canvases["validation"], config, mesh)
    alone = parse_config(tiny_config(train__batch_size=1))
    one = sharding.make_mesh(1, jax.devices()[:1])
    exact = validate(
        jax.device_get(variables), compile_steps(alone, one, 2).evaluate,
        canvases["validation"], alone, one,
    )  # fmt: skip
    assert padded == pytest.approx(exact, rel=1e-5)


def test_train_step_is_pure():
    config = parse_config(tiny_config())
    model = build_model(config.model)
    optimizer, _ = steps.make_optimizer(config.optim, steps_per_epoch=2, num_epochs=3)
    state = jax.jit(lambda key: steps.init_state(key, model, optimizer, 32))(jax.random.key(0))
    batch = {
        "image": np.full((2, 32, 32), 7, np.uint8),
        "mask": np.eye(32, dtype=np.uint8)[None].repeat(2, axis=0),
    }
    before = jax.device_get(state)
    step = jax.jit(
        lambda s: steps.train_step(
            s,
            batch,
            model=model,
            optimizer=optimizer,
            augment_config=config.augment,
            loss_config=config.loss,
            key=jax.random.key(3),
        )  # fmt: skip
    )
    first, second = step(state), step(state)
    assert_trees_equal(first, second)
    assert_trees_equal(state, before)
    assert int(first[0].step) == 1
