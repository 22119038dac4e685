"""Training as a whole: it learns, repeats itself, and stops in one line when it must."""

import gzip
import itertools
import json
import re
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxlung import steps
from jaxlung.config import load_recipe, parse_config
from jaxlung.data.input_pipeline import train_indices
from jaxlung.devices.mesh import make_mesh, replicated, to_devices
from jaxlung.errors import InputError, TrainingError
from jaxlung.optimizer import make_schedule
from jaxlung.predict.load import load
from jaxlung.structures import LUNG, LUNG_AND_HEART
from jaxlung.train.compiled import compile_steps, make_keys, make_run_mesh
from jaxlung.train.data import prepare_data
from jaxlung.train.epochs import Call, Guard, Watch, train_until
from jaxlung.train.log import RunLog, read_history
from jaxlung.train.loop import train_and_evaluate
from jaxlung.train.profiling import StepTrace
from jaxlung.train.run import check_source, restore_or_init
from jaxlung.train.sigterm import Stop
from jaxlung.train.validation import validate
from jaxlung.workdir import checkpoints
from jaxlung.workdir.best import restore_best
from jaxlung.workdir.progress import EarlyStop, Progress, Tally
from tests.helpers.tiny_runs import (
    after_each_step,
    assert_trees_equal,
    drawn_state,
    tiny_config,
)

AVERAGED = {"optim__learning_rate": 1e-12, "train__ema": 0.9}
BATCH_NORM = {"model__norm": "batch", "model__dropout": 0.2}


def train_and_interrupt(monkeypatch, config, workdir, *, epochs):
    """A run that is interrupted in the epoch after `epochs`, whose saves are done."""
    calls = 0

    def crash(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > epochs:
            raise KeyboardInterrupt
        return validate(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("jaxlung.train.loop.validate", crash)
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
    for name in (
        "config.json",
        "run.json",
        "metrics.jsonl",
        "learning_curve.png",
        "validation.png",
        "tensorboard",
        "checkpoints",
    ):
        assert (workdir / name).exists(), name
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4, 6]
    assert all(0 <= record["validation_dice"] <= 1 for record in records)
    record = json.loads((workdir / "run.json").read_text())["starts"][0]
    assert len(record["data_fingerprint"]) == 64 and record["packages"]["jax"]
    with checkpoints.open_manager(workdir, read_only=True) as manager:
        best = max(records, key=lambda r: r["validation_dice"])["step"]
        assert manager.best_step() == best
        assert set(manager.all_steps()) == {4, 6, best}
    assert list((workdir / "interim").iterdir()) == []


def test_training_reduces_the_loss(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["train_loss"] for line in lines]
    assert losses[-1] < 0.8 * losses[0]


def test_same_seed_same_run_with_either_loader(finished, tmp_path):
    state, _ = finished
    other = train_and_evaluate(tiny_config(data__loader="tfdata"), tmp_path / "run")
    assert_trees_equal(other.params, state.params)


@pytest.mark.parametrize(
    "steps_per_call", [pytest.param(1, marks=pytest.mark.slow), 3]
)  # 3: more than an epoch's 2
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


def test_training_starts_from_another_runs_best(finished, tmp_path, monkeypatch):
    """And when it is resumed the other run may be gone."""
    _, source = finished
    best = load(source).variables["params"]
    shutil.copytree(source, tmp_path / "source")
    config = tiny_config(train__init_from=str(tmp_path / "source"), train__seed=5, **AVERAGED)
    train_and_interrupt(monkeypatch, config, tmp_path / "next", epochs=1)
    shutil.rmtree(tmp_path / "source")
    state = train_and_evaluate(config, tmp_path / "next")
    for tree in (state.params, state.variables["params"]):
        for found, expected in zip(jax.tree.leaves(tree), jax.tree.leaves(best), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_training_starts_from_a_bundled_model(tmp_path):
    config = load_recipe("cxr")
    config.data.size, config.train.init_from = 32, "cxr"
    config.model.outputs = (LUNG, LUNG_AND_HEART)
    config = parse_config(config)
    check_source(config)
    compiled = compile_steps(config, make_run_mesh(config), steps_per_epoch=1)
    drawn = drawn_state(compiled)  # the model's parameters replace its own
    compiled = compiled._replace(init=lambda key: drawn)
    with checkpoints.open_managers(tmp_path) as managers:
        state, progress = restore_or_init(managers, compiled, make_keys(0)[0], config)
    assert int(state.step) == 0 and progress == Progress()
    best = load("cxr").variables["params"]
    assert_trees_equal(state.params, best)
    assert_trees_equal(state.average, best)  # of train.ema


def test_a_bundled_model_s_output_is_kept_beside_a_new_one(tmp_path):
    config = load_recipe("cxr")
    config.data.size, config.train.init_from = 32, "cxr"
    config.model.outputs = ("heart", "lung")
    config = parse_config(config)
    check_source(config)
    compiled = compile_steps(config, make_run_mesh(config), steps_per_epoch=1)
    drawn = drawn_state(compiled)
    compiled, fresh = compiled._replace(init=lambda key: drawn), drawn.params["head"]
    with checkpoints.open_managers(tmp_path) as managers:
        state, _ = restore_or_init(managers, compiled, make_keys(0)[0], config)
    best = load("cxr").variables["params"]
    head = state.params["head"]
    for (path, new), old in zip(
        jax.tree.leaves_with_path(head), jax.tree.leaves(best["head"]), strict=True
    ):
        start = fresh["bias"] if "bias" in str(path) else fresh["blocks"]["kernel"]
        # Outputs alternate: the model has the lung field first, and here it is second.
        np.testing.assert_array_equal(np.asarray(new)[..., 1::2], np.asarray(old)[..., ::2])
        np.testing.assert_array_equal(np.asarray(new)[..., ::2], np.asarray(start)[..., ::2])
    rest = [
        {name: own for name, own in one.items() if name != "head"} for one in (state.params, best)
    ]
    assert_trees_equal(*rest)


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
    for field, value in (("width", 8), ("norm", "batch"), ("standardize", False)):
        config = load_recipe("unet")
        config.train.init_from, config.model[field] = "cxr", value
        with pytest.raises(
            InputError, match=rf"init_from=cxr: .*\(model\.{field}: .* -> {value!r}\)"
        ):
            train_and_evaluate(config, tmp_path / "next")
    config = tiny_config(train__init_from=str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="train.init_from"):
        train_and_evaluate(config, tmp_path / "next")
    assert not (tmp_path / "next").exists()


@pytest.mark.parametrize("bad", ["loss", "grad_norm"])
def test_result_that_is_not_finite_names_its_step_and_images_within_a_call(tmp_path, bad):
    good = {"loss": np.ones(3), "grad_norm": np.ones(3)}
    worse = {**good, bad: np.array([1, np.nan, 1])}
    calls = iter(
        Call(metrics, list(np.arange(6).reshape(3, 2) + i))
        for i, metrics in ((0, good), (1, worse))
    )

    def step(state, batch, key):
        return state, batch

    with RunLog(tmp_path, 12, 12, 100, 4) as log, Stop() as stop:
        watch = Watch(
            log, Guard("abcdefg", 0, log.say), stop, StepTrace(tmp_path, log.say, on=False)
        )
        with pytest.raises(TrainingError, match=r"at step 17 \(images: d, e\)"):
            train_until(6, step, None, Tally(), calls, None, 12, watch)


def test_skipped_steps_count_on_over_epochs_and_stay_out_of_the_means():
    said = []
    guard = Guard("abcd", 2, said.append)
    tally = Tally()
    for step, loss in enumerate([1.0, np.inf, 3.0, np.nan], 1):
        tally = guard.add(tally, step, np.array([step - 1]), loss, 2.0)
    assert (tally.mean(tally.loss), tally.mean(tally.grad_norm), tally.skipped) == (2.0, 2.0, 2)
    assert said == [
        "warning: loss inf, gradient norm 2.0 at step 2: skipped",
        "warning: loss nan, gradient norm 2.0 at step 4: skipped",
    ]
    tally = guard.add(tally.next_epoch(), 5, np.array([0]), 1.0, np.nan)
    with pytest.raises(TrainingError, match=r"at step 6, 3 in a row \(images: d, a, b\)"):
        guard.add(tally, 6, np.array([1]), 1.0, np.inf)


def test_rate_counts_every_image_but_those_of_the_call_that_compiles(tmp_path, monkeypatch):
    clock = iter([100.0, 102.0, 110.0, 111.0])  # the first call ends; the second; epoch 2; its end
    monkeypatch.setattr("jaxlung.train.log.time.perf_counter", lambda: next(clock))
    with RunLog(tmp_path, 0, 0, 100, 4) as log:
        log.start_epoch()
        log.waited(50)
        log.steps([0.1] * 3)
        assert log.rate == 0
        log.waited(1.5)
        log.steps([0.1] * 3)
        assert log.speed() == {
            "images_per_second": 12 / 2,
            "step_seconds": 2 / 3,
            "data_wait_seconds": 0.5,
        }
        log.start_epoch()
        log.steps([0.1] * 2)
        assert log.rate == 8 / 1


def test_remat_recomputes_blocks_and_leaves_the_gradients():
    """XLA's CPU compiler takes the second computation out again: what is asked for is counted."""
    config = tiny_config()
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 255, (4, 16, 16)).astype(np.uint8),
        "mask": 255 * rng.integers(0, 2, (4, 16, 16)).astype(np.uint8)[..., None],
        "labelled": np.ones((4, 1), bool),
    }
    found = []
    for remat in (False, True):
        config.model.remat = remat
        parsed = parse_config(config)
        mesh = make_mesh(4)
        compiled = compile_steps(parsed, mesh, 2)
        state = drawn_state(compiled)
        placed = to_devices(batch, mesh)
        key = jax.random.key(1)
        program = compiled.train.lower(state, placed, key).as_text()
        found.append((program, *compiled.train(state, placed, key)))
    (program, state, metrics), (other_program, other, other_metrics) = found
    blocks = 3  # encoder, bottleneck, decoder, of two convolutions each
    assert other_program.count("optimization_barrier") == blocks
    convolutions = program.count("stablehlo.convolution")
    assert other_program.count("stablehlo.convolution") == convolutions + 2 * blocks
    np.testing.assert_allclose(other_metrics["loss"], metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(other_metrics["grad_norm"], metrics["grad_norm"], rtol=1e-5)
    assert jax.tree.structure(other.params) == jax.tree.structure(state.params)


def test_profile_is_a_trace_of_the_steps_after_the_first(finished, tmp_path, capsys):
    state, _ = finished
    assert_trees_equal(
        train_and_evaluate(tiny_config(), tmp_path, profile=True).params, state.params
    )
    line = next(line for line in capsys.readouterr().out.splitlines() if "profile" in line)
    path = re.search(r"open (\S*perfetto_trace.json.gz) at", line)[1]
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    steps_traced = {int(e["args"]["step_num"]) for e in events if e.get("name") == "train"}
    assert steps_traced == {1, 2, 3, 4, 5}  # counted from 0, which compiles
    assert "profile of 5 steps" in line


def test_tensorboard_has_what_metrics_jsonl_has(finished):
    _, workdir = finished
    from tensorboardX.proto.event_pb2 import Event

    (path,) = (workdir / "tensorboard").iterdir()
    data, scalars = path.read_bytes(), {}
    while data:  # records: length (8 bytes), its checksum (4), an event, its checksum (4)
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        scalars |= {(event.step, v.tag): v.simple_value for v in event.summary.value}
        data = data[16 + length :]
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        step = record.pop("step")
        assert {"step_seconds", "data_wait_seconds", "grad_norm_max", "learning_rate"} < set(record)
        for name, value in record.items():
            assert scalars[step, name] == pytest.approx(value, rel=1e-6)


def test_finished_run_is_left_alone(finished):
    state, workdir = finished
    before = (workdir / "metrics.jsonl").read_text()
    again = train_and_evaluate(tiny_config(), workdir)
    assert_trees_equal(again, state)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_checkpoints_keep_the_average_beside_the_parameters(tmp_path):
    """With parameters, average and optimiser all different; the average is what is evaluated."""
    config = parse_config(tiny_config(**AVERAGED))
    mesh = make_mesh(4)
    compiled = compile_steps(config, mesh, 2)
    state = jax.device_get(drawn_state(compiled))
    state = state.replace(average=jax.tree.map(lambda p: p + 1, state.params), step=np.int32(7))
    with checkpoints.open_manager(tmp_path) as manager:
        progress = Progress(EarlyStop(0.5, 7, 0), Tally(3, 1, 1, 0.1, 0.2, 0.3))
        checkpoints.save(manager, state, progress, 0.5)
        manager.wait_until_finished()
        abstract = checkpoints.abstract_like(state, replicated(mesh))
        restored, restored_progress = checkpoints.restore(manager, 7, abstract)
    assert_trees_equal(restored, state)
    assert restored_progress == progress
    variables, step = restore_best(tmp_path, abstract.variables)
    assert step == 7
    assert_trees_equal(variables["params"], state.average)


@pytest.mark.slow  # a program of its own; without them test_survival resumes at any step
def test_batch_norm_and_dropout_resume_too(tmp_path):
    config = tiny_config(train__checkpoint_steps=1, **BATCH_NORM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxlung.workdir.checkpoints.delete_interim", lambda managers: None)
        straight = train_and_evaluate(config, tmp_path)
    assert straight.batch_stats
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    assert_trees_equal(train_and_evaluate(config, tmp_path), straight)  # from step 5


@pytest.mark.parametrize("what", [pytest.param("loss", marks=pytest.mark.slow), "grad_norm"])
def test_steps_that_are_not_finite_are_skipped_then_end_the_run(tmp_path, monkeypatch, what):
    """With the images told, and the checkpoint before them."""

    def poison(state, metrics):
        bad = int(state.step) in (2, 3, 4)
        return state, {**metrics, what: np.nan if bad else metrics[what]}

    monkeypatch.setattr("jaxlung.train.loop.compile_steps", after_each_step(poison))
    config = tiny_config(train__skip_nonfinite=2)
    words = r"at step 4, 3 in a row \(images: (.*)\): .*; the last checkpoint is of step 2$"
    with pytest.raises(TrainingError, match=words) as error:
        train_and_evaluate(config, tmp_path / "run")
    named = re.search(words, str(error.value))[1].split(", ")
    ids = prepare_data(parse_config(config)).canvases["train"].split.ids
    order = list(itertools.islice(train_indices(config.data.seed, 1, len(ids), 4), 3))
    assert named == list(dict.fromkeys(ids[i] for i in np.concatenate(order)))
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert record["step"] == 2 and record["skipped_steps"] == 1
    assert np.isfinite([record["train_loss"], record["grad_norm"]]).all()


def test_the_learning_rate_logged_is_that_of_the_last_update(tmp_path, monkeypatch):
    """A skipped step counts on, the optimiser's updates do not; the schedule goes by these."""

    def skip(state, metrics):
        def back(leaf):
            is_count = leaf.ndim == 0 and leaf.dtype == np.int32
            return leaf - 1 if is_count and int(state.step) == 2 else leaf

        return state.replace(opt_state=jax.tree.map(back, state.opt_state)), metrics

    monkeypatch.setattr("jaxlung.train.loop.compile_steps", after_each_step(skip))
    config = parse_config(tiny_config())
    train_and_evaluate(config, tmp_path / "run")
    records = read_history(tmp_path / "run")
    assert [record["step"] for record in records][:2] == [2, 4]
    schedule = make_schedule(config.optim, steps_per_epoch=2, num_epochs=config.train.num_epochs)
    for record in records:
        used = float(schedule(record["step"] - 2))  # the first update has the rate of 0
        assert record["learning_rate"] == pytest.approx(used, abs=1e-12), record["step"]


def test_non_finite_parameters_are_never_saved(tmp_path, monkeypatch):
    """An update goes wrong without a sign in its loss: validation sees it, or the save does."""

    def poison(at):
        def change(state, metrics):
            factor = np.nan if int(state.step) == at else 1.0
            return state.replace(params=jax.tree.map(lambda p: p * factor, state.params)), metrics

        monkeypatch.setattr("jaxlung.train.loop.compile_steps", after_each_step(change))

    poison(4)
    with pytest.raises(TrainingError, match="after step 4.*; the last checkpoint is of step 2"):
        train_and_evaluate(tiny_config(), tmp_path / "run")
    assert load(tmp_path / "run").step == 2
    assert np.isfinite(load(tmp_path / "run").predict_proba(np.eye(16, dtype=np.uint8))).all()
    poison(3)  # in the middle of an epoch
    with pytest.raises(TrainingError, match="parameters of norm nan after step 3"):
        train_and_evaluate(tiny_config(train__checkpoint_steps=3), tmp_path / "other")
    assert list((tmp_path / "other" / "interim").iterdir()) == []


def test_early_stopping_ends_the_run(finished, tmp_path, monkeypatch):
    scores = iter([0.6, 0.55, 0.9])

    def fake(*args, **kwargs):
        dice = next(scores)
        means = {"loss": 0.0, "dice": dice, "iou": dice, "accuracy": dice, "pooled_dice": dice}
        return SimpleNamespace(means=lambda: means)

    monkeypatch.setattr("jaxlung.train.loop.validate", fake)
    config = tiny_config(train__patience=1, train__seed=1)
    state = train_and_evaluate(config, tmp_path / "run")
    losses = [
        json.loads((path / "metrics.jsonl").read_text().split("\n")[0])["train_loss"]
        for path in (tmp_path / "run", finished[1])
    ]
    assert losses[0] != losses[1]  # another seed is another run
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
            stepped = state.replace(step=jax.numpy.int32(step))
            checkpoints.save(manager, stepped, Progress(early_stop), score)
        manager.wait_until_finished()
        assert manager.best_step() == early_stop.best_step
        latest = {len(scores) - 1, len(scores)}
        assert set(manager.all_steps()) == {early_stop.best_step, *latest}
    assert EarlyStop().update(0.5, 1).update(0.5, 2).stale == 1  # a tie is no improvement


@pytest.mark.parametrize("changes", [pytest.param({}, marks=pytest.mark.slow), BATCH_NORM])
def test_sharded_equals_unsharded(changes):
    """With batch statistics, which are of the whole batch, and dropout."""
    config = parse_config(tiny_config(**changes))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (4, 16, 16), np.uint8),
        "mask": 255 * rng.integers(0, 2, (4, 16, 16), np.uint8)[..., None],
        "labelled": np.ones((4, 1), bool),
        "valid": np.array([True, True, True, False]),
    }
    results = []
    for devices in (jax.devices()[:1], jax.devices()):
        mesh = make_mesh(4, devices)
        compiled = compile_steps(config, mesh, 2)
        state = drawn_state(compiled)
        losses = []
        for _ in range(3):
            state, step_metrics = compiled.train(state, to_devices(batch, mesh), jax.random.key(2))
            losses.append(float(step_metrics["loss"]))
        evaluated = compiled.evaluate(state.variables, to_devices(batch, mesh))
        results.append((losses, jax.device_get(state.params), jax.device_get(evaluated)))
    assert len(jax.devices()) == 2
    (losses_1, params_1, evaluated_1), (losses_2, params_2, evaluated_2) = results
    np.testing.assert_allclose(losses_2, losses_1, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4), params_1, params_2
    )
    np.testing.assert_allclose(evaluated_2["loss"], evaluated_1["loss"], rtol=1e-4)


def test_padding_does_not_count():
    config = parse_config(tiny_config())
    canvases = prepare_data(config).canvases
    mesh = make_mesh(4)
    compiled = compile_steps(config, mesh, 2)
    variables = drawn_state(compiled).variables
    # 3 images: batches of 4 have a padded row, batches of 1 on one device have none.
    padded = validate(variables, compiled.evaluate, canvases["validation"], config, mesh, Stop())
    alone = parse_config(tiny_config(train__batch_size=1))
    one = make_mesh(1, jax.devices()[:1])
    exact = validate(
        jax.device_get(variables),
        compile_steps(alone, one, 2).evaluate,
        canvases["validation"],
        alone,
        one,
        Stop(),
    )
    assert padded.means() == pytest.approx(exact.means(), rel=1e-5)
