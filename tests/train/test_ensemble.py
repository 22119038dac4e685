"""Members are ordinary runs, and end in one table and one model."""

import csv
import json
import logging
import os
import shutil
import signal

import jax
import numpy as np
import pytest

import jaxlung
from jaxlung import metrics
from jaxlung.config import member_configs, parse_config
from jaxlung.data.splits import make_array_split
from jaxlung.errors import InputError, Stopped, TrainingError
from jaxlung.evaluation import evaluate
from jaxlung.preprocess import canvas_geometry
from jaxlung.train import compiled, ensemble, loop
from jaxlung.train.data import prepare_data, prepare_members
from jaxlung.train.ensemble import _write_cross_validation, train_ensemble
from jaxlung.train.loop import train_and_evaluate
from jaxlung.train.run import check_source
from jaxlung.train.validation import Scores
from tests.helpers import tiny_runs

STEPS = 6  # of a member: 3 epochs of 2


def tiny_config(**changes):
    return parse_config(tiny_runs.tiny_config(**changes))


SEEDS = {"ensemble__members": 2}
# The training sets hold 10 and 9 images of 19: 2 steps an epoch each.
FOLDS = {"ensemble__folds": True, "data__folds": 2, "data__phantom_train": 16}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two seeds: workdir, and the messages of compilations."""
    workdir = tmp_path_factory.mktemp("ensembles") / "seeds"
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    compiled._compile_steps.cache_clear()  # of earlier tests
    try:
        with jax.log_compiles():
            train_ensemble(tiny_config(**SEEDS), workdir)
    finally:
        logger.removeHandler(handler)
    return workdir, [line for line in messages if "Finished XLA comp" in line]


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ensembles") / "folds"
    train_ensemble(tiny_config(**FOLDS), workdir)
    return workdir


def records(workdir):
    """What a run logged, without what depends on its speed."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def table(workdir, name="ensemble.csv"):
    with (workdir / name).open() as file:
        return list(csv.DictReader(file))


def assert_is_run(config, i, workdir, tmp_path, steps_per_epoch=2):
    """Member i's state, log and model are those of the single run of its config."""
    single = tmp_path / f"single{i}"
    state = train_and_evaluate(member_configs(config)[i], single)
    member = workdir / "members" / str(i)
    # It is complete: the command gives its state back.
    tiny_runs.assert_trees_equal(train_and_evaluate(member_configs(config)[i], member), state)
    assert records(member) == records(single)
    assert (member / "data.json").read_text() == (single / "data.json").read_text()
    row = table(workdir)[i]
    best = max(records(single), key=lambda r: r["validation_dice"])
    assert float(row["dice"]) == pytest.approx(best["validation_dice"], rel=1e-5)
    assert int(row["best_step"]) == jaxlung.load(member).step == jaxlung.load(single).step
    assert int(row["best_epoch"]) == int(row["best_step"]) // steps_per_epoch
    assert int(row["steps"]) == 3 * steps_per_epoch and row["diverged"] == "0"


def test_seeds_are_their_runs_and_one_compile(seeds, tmp_path):
    workdir, messages = seeds
    assert sum("train_step" in line for line in messages) == 1, messages
    assert sum("eval_step" in line for line in messages) == 1, messages
    assert_is_run(tiny_config(**SEEDS), 1, workdir, tmp_path)
    rows = table(workdir)
    assert [row["member"] for row in rows] == ["0", "1", "mean", "sd"]
    assert [row["seed"] for row in rows] == ["0", "1", "", ""]
    dice = [float(row["dice"]) for row in rows]
    assert dice[0] != dice[1]
    assert dice[2:] == pytest.approx([np.mean(dice[:2]), np.std(dice[:2], ddof=1)])


@pytest.mark.slow
def test_learning_rates_are_their_runs(tmp_path):
    config = tiny_config(ensemble__learning_rates=(1e-3, 5e-3))
    train_ensemble(config, tmp_path / "rates")
    for i in range(2):
        assert_is_run(config, i, tmp_path / "rates", tmp_path)
    assert [row["learning_rate"] for row in table(tmp_path / "rates")[:2]] == ["0.001", "0.005"]


def test_folds_are_their_runs_and_validate_each_patient_once(folds, tmp_path):
    config = tiny_config(**FOLDS)
    assert_is_run(config, 1, folds, tmp_path)
    rows = table(folds, "cross_validation.csv")
    digests = json.loads((folds / "data.json").read_text())
    assert sorted(row["id"] for row in rows) == sorted(digests["train"])
    assert len(rows) == config.data.phantom_train + config.data.phantom_validation
    for i in range(2):
        own = json.loads((folds / "members" / str(i) / "data.json").read_text())
        assert {r["id"] for r in rows if r["fold"] == str(i)} == set(own["validation"])
        assert set(own["train"]) | set(own["validation"]) == set(digests["train"])
        mean = np.mean([float(r["dice"]) for r in rows if r["fold"] == str(i)])
        assert mean == pytest.approx(float(table(folds)[i]["dice"]), rel=1e-6)
    whole = json.loads((folds / "cross_validation.json").read_text())["dice"]
    assert whole["mean"] == pytest.approx(np.mean([float(r["dice"]) for r in rows]))
    assert len(whole["ci95"]) == 2
    [task] = evaluate._plan([folds], [None], None, tta=False)  # the test split is common
    assert len(task.split.ids) == 3 and not task.warning
    with pytest.raises(InputError, match=r"--split validation: .*cross_validation\.csv"):
        evaluate._plan([folds], [None], "validation", tta=False)


def test_a_fold_without_a_best_is_missing_by_name(tmp_path, capsys):
    data_M = prepare_members(member_configs(tiny_config(**FOLDS)))
    splits = [data.canvases["validation"].split for data in data_M]
    n = len(splits[0].ids)
    counts = metrics.Counts(*(np.full((n, 1), c) for c in (3, 1, 1, 9)))
    scores = Scores(np.ones(n), counts, np.ones((n, 1), bool), ("lung",))
    _write_cross_validation(tmp_path, data_M, [scores, None])
    missing = len(splits[1].ids)
    assert f"no finite validation: its {missing} images have no" in capsys.readouterr().out
    rows = table(tmp_path, "cross_validation.csv")
    assert [row["id"] for row in rows] == list(splits[0].ids)
    written = json.loads((tmp_path / "cross_validation.json").read_text())
    assert written["dice"]["n"] == n and written["images_missing"] == {"fold 1": missing}


@pytest.mark.parametrize("cache_gib", [4.0, 0.0])
def test_folds_read_each_example_once(monkeypatch, cache_gib):
    read = []

    def counted(image, **_):
        read.append(1)
        return image, None, canvas_geometry(*image.shape, len(image))

    monkeypatch.setattr("jaxlung.data.canvases.to_canvas", counted)
    configs = member_configs(tiny_config(**FOLDS, data__cache_gib=cache_gib))
    data_M = prepare_members(configs)
    assert len(read) == 16 + 3 + 3
    for data, config in zip(data_M, configs, strict=True):
        assert data.contents == prepare_data(config).contents
    second = data_M[1].canvases["train"]  # of two folds what the first validates with
    pool = data_M[0].canvases["validation"]
    where = pool.split.ids.index(second.split.ids[0])
    assert second.read(0)[0].tobytes() == pool.read(where)[0].tobytes()


def test_large_folds_have_the_digests_of_their_runs(monkeypatch):
    """Those of a large split name files, and those of a small one contents."""

    def make_split(name, numbers):
        ids = [f"{i}" for i in numbers]
        ramp = np.arange(16, dtype=np.uint8)
        images = [np.full((16, 16), i + 1, np.uint8) * ramp for i in numbers]
        split = make_array_split(name, ids, images, images)
        return split._replace(stat=lambda i: f"file {ids[i]}")

    def load_some(data):
        validates = {0: (0, 1), 1: (2, 3)}[data.fold]
        numbers = {
            "train": [i for i in range(9) if i not in validates],
            "validation": validates,
            "test": (9,),
        }
        return {name: make_split(name, chosen) for name, chosen in numbers.items()}

    monkeypatch.setattr("jaxlung.train.data.load_splits", load_some)
    monkeypatch.setattr("jaxlung.data.canvases.check_canvases.__defaults__", (5, 2))
    configs = member_configs(tiny_config(**FOLDS))
    for shared, config in zip(prepare_members(configs), configs, strict=True):
        assert shared.contents.digests == prepare_data(config).contents.digests
        train = shared.contents.digests["train"]
        assert train == {image_id: f"file {image_id}" for image_id in train}


def test_the_model_is_the_mean_of_its_members(seeds):
    workdir, _ = seeds
    model = jaxlung.load(workdir, tta=False)
    assert model.members == 2
    image = np.random.default_rng(0).integers(0, 255, (20, 20)).astype(np.uint8)
    each = [
        jaxlung.load(workdir / "members" / str(i), tta=False).predict_proba(image) for i in range(2)
    ]
    np.testing.assert_allclose(model.predict_proba(image), np.mean(each, axis=0), atol=1e-6)
    assert np.ptp(each, axis=0).max() > 1e-3  # they do differ


def change_at(monkeypatch, change):
    """Steps that go through change(count, state, metrics), counted from 1 over all members."""
    count = 0

    def counted(state, metrics):
        nonlocal count
        count += 1
        return change(count, state, metrics)

    monkeypatch.setattr(loop, "compile_steps", tiny_runs.after_each_step(counted))


def test_an_interrupted_ensemble_goes_on_as_if_it_had_not_been(seeds, tmp_path, monkeypatch):
    config, workdir = tiny_config(**SEEDS), tmp_path / "run"

    def terminate(count, state, metrics):
        if count == STEPS + 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return state, metrics

    with monkeypatch.context() as patch:
        change_at(patch, terminate)
        with pytest.raises(Stopped, match="step 3 is saved in .*members/1: the same command"):
            train_ensemble(config, workdir)
    assert not (workdir / "ensemble.csv").exists()
    assert jaxlung.load(workdir).members == 2  # an epoch of the second is validated
    steps = []
    with monkeypatch.context() as patch:
        change_at(patch, lambda count, state, metrics: steps.append(count) or (state, metrics))
        train_ensemble(config, workdir)
    assert len(steps) == 3  # the rest of the second member
    assert table(workdir) == table(seeds[0])
    for i in ("0", "1"):
        assert records(workdir / "members" / i) == records(seeds[0] / "members" / i)


def test_a_member_that_diverges_leaves_the_others_as_they_are(seeds, tmp_path, monkeypatch, capsys):
    config, workdir = tiny_config(train__skip_nonfinite=0, **SEEDS), tmp_path / "run"

    def poison(bad):
        def change(count, state, metrics):
            return state, {**metrics, "loss": np.nan if bad(count) else metrics["loss"]}

        change_at(monkeypatch, change)

    poison(lambda count: count == 1)
    train_ensemble(config, workdir)
    assert "warning: member 0: loss nan" in capsys.readouterr().out
    row, other = table(workdir)[:2]
    assert row["diverged"] == "1" and row["dice"] == row["best_step"] == ""
    assert other == table(seeds[0])[1]
    assert records(workdir / "members" / "1") == records(seeds[0] / "members" / "1")
    assert jaxlung.load(workdir).members == 1
    train_ensemble(config, workdir)  # and it is not tried again
    assert "it was left behind; remove" in capsys.readouterr().out
    poison(lambda count: count in (1, 6))  # the first member ends after its second
    train_ensemble(config, tmp_path / "both")
    row, other = table(tmp_path / "both")[:2]
    assert row["diverged"] == other["diverged"] == "1"
    assert row["best_step"] == "" and other["best_step"] == "2"
    assert jaxlung.load(tmp_path / "both").members == 1
    poison(lambda count: True)
    with pytest.raises(TrainingError, match="of all 2 members were not finite"):
        train_ensemble(config, tmp_path / "none")
    with pytest.raises(InputError, match="none of its members"):
        jaxlung.load(tmp_path / "none")


def test_process_0_says_which_member_was_left_behind(tmp_path, monkeypatch):
    """A host that sees the file late would train alone, and wait for the others for ever."""
    monkeypatch.setattr(ensemble, "gather", lambda seen: [True, seen])
    assert ensemble._has_diverged(tmp_path)
    monkeypatch.setattr(ensemble, "gather", lambda seen: [False, seen])
    (tmp_path / ensemble._DIVERGED).touch()
    assert not ensemble._has_diverged(tmp_path)


def test_what_is_no_ensemble_or_one_to_start_from_is_refused(seeds, tmp_path):
    with pytest.raises(InputError, match=r"config\.ensemble names no members"):
        train_ensemble(tiny_config(), tmp_path / "run")
    with pytest.raises(InputError, match=r"config\.ensemble asks .* train_ensemble"):
        train_and_evaluate(tiny_config(**SEEDS), tmp_path / "run")
    workdir, _ = seeds
    with pytest.raises(InputError, match=r"train\.init_from=.*/members/0"):
        check_source(tiny_config(train__init_from=str(workdir)))
    check_source(tiny_config(train__init_from=str(workdir / "members" / "0")))
    one = tmp_path / "one"  # without what predicting does not need
    ignored = shutil.ignore_patterns("optimizer")
    shutil.copytree(workdir / "members" / "0", one, ignore=ignored)
    with pytest.raises(InputError, match=f"one: holds a model .* train.init_from={one}"):
        train_and_evaluate(json.loads((one / "config.json").read_text()), one)
    assert not (one / "damaged").exists() and jaxlung.load(one).step
    check_source(tiny_config(train__init_from=str(one)))
    with pytest.raises(InputError, match=r"another config \(ensemble\.members: 2 -> 3"):
        train_ensemble(tiny_config(ensemble__members=3), workdir)
    before = table(workdir)
    for changes in ({"data__phantom_train": 9}, {"train__init_from": "nowhere"}):
        with pytest.raises(InputError):
            train_ensemble(tiny_config(**SEEDS, **changes), workdir)
    assert table(workdir) == before and not (tmp_path / "run").exists()


@pytest.mark.slow  # the options themselves have their tests in test_loop and test_survival
def test_an_ensemble_has_every_option_of_a_run(tmp_path, monkeypatch):
    """Data on the device, several steps a call, saves within an epoch, and a stop there."""
    config = tiny_config(
        **SEEDS,
        data__loader="device",
        data__phantom_train=12,  # 3 steps an epoch: a call of 2, then one of 1
        train__steps_per_call=2,
        train__checkpoint_steps=1,
    )
    workdir = tmp_path / "run"

    def terminate(count, state, metrics):
        if count == 6 + 3:  # the second member's third call
            os.kill(os.getpid(), signal.SIGTERM)
        return state, metrics

    with monkeypatch.context() as patch:
        change_at(patch, terminate)
        with pytest.raises(Stopped, match="step 5 is saved in .*members/1: the same command"):
            train_ensemble(config, workdir)
    assert (workdir / "members" / "1" / "interim" / "5").is_dir()
    train_ensemble(config, workdir)
    for i in range(2):
        assert_is_run(config, i, workdir, tmp_path, steps_per_epoch=3)
