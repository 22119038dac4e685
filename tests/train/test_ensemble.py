"""Members trained at once are what single runs are, and end in one table and one model."""

import csv
import json
import logging

import jax
import numpy as np
import pytest

import jaxlung
from configs import tiny
from jaxlung import metrics, steps
from jaxlung.config import member_configs, parse_config
from jaxlung.errors import InputError, Stopped
from jaxlung.evaluation import evaluate
from jaxlung.train import sigterm
from jaxlung.train.ensemble import loop
from jaxlung.train.ensemble.data import prepare_members
from jaxlung.train.ensemble.loop import train_ensemble
from jaxlung.train.ensemble.progress import EnsembleProgress
from jaxlung.train.ensemble.result import _cross_validation
from jaxlung.train.ensemble.steps import rate_table
from jaxlung.train.loop import train_and_evaluate
from jaxlung.train.run import check_source


def tiny_config(**changes):
    """Of 16 pixels; changes as section__field=value."""
    config = tiny.get_config()
    config.data.loader = "memory"
    config.data.size = 16
    config.model.width = 2
    config.train.num_epochs = 2
    for path, value in changes.items():
        section, field = path.split("__")
        config[section][field] = value
    return parse_config(config)


WAYS = {
    "seeds": {
        "ensemble__members": 4,
        "optim__weight_decay": 0.1,
        "optim__clip_norm": 0.1,
        "train__ema": 0.9,
    },
    "rates": {
        "ensemble__learning_rates": (1e-3, 5e-3),
        "optim__weight_decay": 0.1,
        "optim__clip_norm": 0.1,
    },
    # The training sets hold 12 and 11 images: 3 batches and 2.
    "folds": {"ensemble__folds": True, "data__folds": 2, "data__phantom_train": 20},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A way's ensemble: config, workdir and final states; trained when first asked for."""
    done = {}

    def train(way):
        if way not in done:
            config = tiny_config(**WAYS[way])
            workdir = tmp_path_factory.mktemp("ensembles") / way
            done[way] = config, workdir, train_ensemble(config, workdir)
        return done[way]

    return train


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def table(workdir, name="ensemble.csv"):
    with (workdir / name).open() as file:
        return list(csv.DictReader(file))


def member(states, i):
    return jax.tree.map(lambda x: np.asarray(x)[i], states)


def assert_close(actual, expected):
    """Within 1e-5 of the largest magnitude of each array, float32."""

    def one(path, a, b):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max(), err_msg=str(path))

    jax.tree.map_with_path(one, actual, expected)


def assert_equals_single_run(way, i, trained, tmp_path):
    """Parameters, losses and scores of member i are those of the run of its config."""
    config, workdir, states = trained
    single = tmp_path / f"{way}{i}"
    state = train_and_evaluate(member_configs(config)[i], single)
    ours = member(states, i)
    assert_close(ours.params, state.params)
    assert_close(ours.average, state.average)
    assert int(ours.step) == int(state.step)
    for mine, theirs in zip(records(workdir), records(single), strict=True):
        for name in ("train_loss", "validation_loss", "validation_dice"):
            assert mine[f"{name}/{i}"] == pytest.approx(theirs[name], rel=1e-5)
    row = table(workdir)[i]
    best = max(records(single), key=lambda r: r["validation_dice"])
    assert float(row["dice"]) == pytest.approx(best["validation_dice"], rel=1e-5)
    with_members, alone = (
        jaxlung.load(path, tta=False) for path in (workdir / "members" / str(i), single)
    )
    assert with_members.step == alone.step == int(row["best_step"])
    assert_close(with_members.variables, alone.variables)
    assert with_members.data_digests == alone.data_digests


def test_four_members_are_four_runs_and_one_compile(trained, tmp_path, caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        _, workdir, states = ensemble = trained("seeds")
    compiled = [r.getMessage() for r in caplog.records if "Finished XLA comp" in r.getMessage()]
    assert sum("train_members" in line for line in compiled) == 1, compiled
    assert not any("train_step" in line for line in compiled), compiled
    for leaf in jax.tree.leaves(states):  # the members lie on both devices, two each
        assert {s.data.shape[0] for s in leaf.addressable_shards} == {2}
    assert_equals_single_run("seeds", 0, ensemble, tmp_path)
    rows = table(workdir)
    assert [row["member"] for row in rows] == ["0", "1", "2", "3", "mean", "sd"]
    dice = [float(row["dice"]) for row in rows]
    assert dice[4:] == pytest.approx([np.mean(dice[:4]), np.std(dice[:4], ddof=1)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "i"), [("seeds", 1), ("seeds", 2), ("seeds", 3), ("rates", 0), ("rates", 1)]
)
def test_every_member_is_its_run(trained, tmp_path, way, i):
    assert_equals_single_run(way, i, trained(way), tmp_path)


def test_rates_are_those_of_each_member_s_schedule():
    configs = member_configs(tiny_config(ensemble__learning_rates=(1e-3, 5e-3)))
    rates_MxT = rate_table(configs, [2, 3])
    for config, count, rates_T in zip(configs, [2, 3], rates_MxT, strict=True):
        schedule = steps.make_schedule(config.optim, steps_per_epoch=count, num_epochs=2)
        np.testing.assert_allclose(
            rates_T[: 2 * count], [schedule(step) for step in range(2 * count)], rtol=1e-6
        )


def test_folds_are_their_runs_and_validate_each_patient_once(trained, tmp_path):
    config, workdir, states = ensemble = trained("folds")
    counts = np.asarray(states.step).tolist()
    assert sorted(counts) == [4, 6]  # epochs of different lengths
    assert_equals_single_run("folds", counts.index(4), ensemble, tmp_path)
    rows = table(workdir, "cross_validation.csv")
    digests = json.loads((workdir / "data.json").read_text())
    assert sorted(row["id"] for row in rows) == sorted(digests["train"])
    assert len(rows) == config.data.phantom_train + config.data.phantom_validation
    for i in range(2):
        own = json.loads((workdir / "members" / str(i) / "data.json").read_text())
        assert {r["id"] for r in rows if r["fold"] == str(i)} == set(own["validation"])
        mean = np.mean([float(r["dice"]) for r in rows if r["fold"] == str(i)])
        assert mean == pytest.approx(float(table(workdir)[i]["dice"]), rel=1e-6)
    whole = json.loads((workdir / "cross_validation.json").read_text())["dice"]
    assert whole["mean"] == pytest.approx(np.mean([float(r["dice"]) for r in rows]))
    assert len(whole["ci95"]) == 2
    [task] = evaluate._plan([workdir], [None], None, tta=False)  # the test split is common
    assert len(task.split.ids) == 3 and not task.warning
    with pytest.raises(InputError, match=r"--split validation: .*cross_validation\.csv"):
        evaluate._plan([workdir], [None], "validation", tta=False)


def test_a_fold_without_a_best_is_missing_by_name(tmp_path, capsys):
    """Its parameters are the random ones that it began with."""
    splits_M, _ = prepare_members(tiny_config(**WAYS["folds"]))
    sizes = [len(splits["validation"].split.ids) for splits in splits_M]
    images = [(np.ones(n), metrics.Counts(*(np.full(n, c) for c in (3, 1, 1, 9)))) for n in sizes]
    _cross_validation(tmp_path, splits_M, images, np.array([True, False]))
    assert f"no finite validation: its {sizes[1]} images have no" in capsys.readouterr().out
    rows = table(tmp_path, "cross_validation.csv")
    assert [row["id"] for row in rows] == list(splits_M[0]["validation"].split.ids)
    written = json.loads((tmp_path / "cross_validation.json").read_text())
    assert written["dice"]["n"] == sizes[0] and written["images_missing"] == {"fold 1": sizes[1]}


def test_the_model_is_the_mean_of_its_members(trained):
    _, workdir, _ = trained("seeds")
    model = jaxlung.load(workdir, tta=False)
    assert model.members == 4
    image = np.random.default_rng(0).integers(0, 255, (20, 20)).astype(np.uint8)
    each = [
        jaxlung.load(workdir / "members" / str(i), tta=False).predict_proba(image) for i in range(4)
    ]
    np.testing.assert_allclose(model.predict_proba(image), np.mean(each, axis=0), atol=1e-6)
    assert np.ptp(each, axis=0).max() > 1e-3  # they do differ


@pytest.mark.parametrize("when", ["in an epoch", "in a validation"])
def test_an_interrupted_ensemble_goes_on_as_if_it_had_not_been(
    trained, tmp_path, monkeypatch, when
):
    config, straight, states = trained("seeds")
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        if when == "in an epoch":
            asked = iter([False, False, True, True])

            def after(self, steps):
                self.asked = next(asked)
                return self.asked

            patch.setattr(sigterm.Stop, "after", after)
        else:
            patch.setattr(loop, "evaluate_on_validation", lambda *_: None)
        with pytest.raises(Stopped):
            train_ensemble(config, workdir)
    assert not (workdir / "ensemble.csv").exists()
    again = train_ensemble(config, workdir)
    jax.tree.map(np.testing.assert_array_equal, again, states)
    names = ("train_loss/3", "validation_dice/3", "grad_norm/0")
    for ours, theirs in zip(records(workdir), records(straight), strict=True):
        assert [ours[n] for n in names] == [theirs[n] for n in names]
    assert table(workdir) == table(straight)


def test_a_member_that_diverges_leaves_the_others_as_they_are(trained, tmp_path, monkeypatch):
    config, straight, states = trained("seeds")
    add = EnsembleProgress.add

    def poisoned(self, loss_M, norm_M, active_M, most):
        return add(self, np.where([0, 1, 0, 0], np.nan, loss_M), norm_M, active_M, 0)

    monkeypatch.setattr(EnsembleProgress, "add", poisoned)
    again = train_ensemble(config, tmp_path / "run")
    for i in (0, 2, 3):
        jax.tree.map(np.testing.assert_array_equal, member(again, i), member(states, i))
    assert int(again.step[1]) == 2  # told a step late
    row = table(tmp_path / "run")[1]
    assert row["diverged"] == "1" and row["dice"] == ""
    assert jaxlung.load(tmp_path / "run").members == 3
    assert {path.name for path in (tmp_path / "run" / "members").iterdir()} == {"0", "2", "3"}


def test_a_member_past_its_patience_is_trained_no_more():
    progress, scores = EnsembleProgress.start(2), [{"loss": 1.0, "dice": d} for d in (0.5, 0.5)]
    for step in (1, 2, 3):
        going = progress.going(patience=2)
        progress = progress.validate(scores, np.array([step, step]), going)
        scores = [{"loss": 1.0, "dice": 0.4}, {"loss": 1.0, "dice": 0.5 + step / 10}]
    assert progress.going(patience=2).tolist() == [False, True]
    assert [m.early_stop.best_step for m in progress.members] == [1, 3]
    assert EnsembleProgress.from_json(json.loads(json.dumps(progress.to_json()))) == progress


def test_what_is_no_ensemble_or_one_to_start_from_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match=r"config\.ensemble names no members"):
        train_ensemble(tiny_config(), tmp_path / "run")
    with pytest.raises(InputError, match=r"train\.checkpoint_steps=5 is for single runs"):
        config = tiny_config(ensemble__members=2, train__checkpoint_steps=5)
        train_ensemble(config, tmp_path / "run")
    with pytest.raises(InputError, match=r"config\.ensemble asks .* train_ensemble"):
        train_and_evaluate(tiny_config(ensemble__members=2), tmp_path / "run")
    _, workdir, _ = trained("seeds")
    with pytest.raises(InputError, match=r"train\.init_from=.*/members/0"):
        check_source(tiny_config(train__init_from=str(workdir)))
    check_source(tiny_config(train__init_from=str(workdir / "members" / "0")))
    one = workdir / "members" / "0"
    with pytest.raises(InputError, match=f"members/0: holds a model .* train.init_from={one}"):
        train_and_evaluate(json.loads((one / "config.json").read_text()), one)
    assert not (one / "run.json").exists()
    assert not (tmp_path / "run").exists()
