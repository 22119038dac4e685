"""Several trainings at once, as one program: seeds, folds of a cross-validation, learning rates."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung import steps
from jaxlung.config import Config, member_configs, parse_config
from jaxlung.devices.mesh import replicated
from jaxlung.errors import InputError, Stopped, TrainingError
from jaxlung.model import build_model
from jaxlung.train.ensemble import steps as members
from jaxlung.train.ensemble.data import (
    Splits,
    evaluate_on_validation,
    prepare_members,
    steps_per_epoch,
    training_batches,
)
from jaxlung.train.ensemble.mesh import (
    jit_evaluate_members,
    jit_of_members,
    jit_train_members,
    make_ensemble_mesh,
    member_sharding,
)
from jaxlung.train.ensemble.progress import EnsembleProgress
from jaxlung.train.ensemble.result import write_result
from jaxlung.train.ensemble.steps import EnsembleState
from jaxlung.train.log import RunLog, device_memory, write_learning_curve
from jaxlung.train.run import open_run
from jaxlung.train.sigterm import Stop
from jaxlung.train.validation import mean_scores, per_image
from jaxlung.workdir import checkpoints
from jaxlung.workdir.integrity import set_damaged_aside


def train_ensemble(config: Any, workdir: str | Path) -> steps.TrainState:
    """Trains the members that config.ensemble names, at once; goes on where it stopped.

    Each is what the single run of its `config.member_configs` is. Writes, beside what a single run
    does, ensemble.csv and members/0, members/1, ..., each a workdir of its own to predict with, and
    for folds cross_validation.csv. `jaxlung.load(workdir)` predicts the mean of all.

    Args:
        config: a `Config`, a ConfigDict or a plain dict with its fields.
        workdir: where all goes.

    Returns:
        The final states, stacked: each array has a leading axis M.

    Raises:
        InputError, TrainingError, Stopped: as `train_and_evaluate`; but a member whose numbers are
            not finite is left behind, and the others go on.
    """
    config, workdir = parse_config(config), Path(workdir)
    if not config.is_ensemble:
        raise InputError(
            "config.ensemble names no members; set ensemble.members, ensemble.folds or "
            "ensemble.learning_rates, or call train_and_evaluate"
        )
    # Here and not in parse_config: earlier versions wrote it into workdirs and did nothing with it.
    if config.train.checkpoint_steps:
        raise InputError(
            f"train.checkpoint_steps={config.train.checkpoint_steps} is for single runs; an "
            f"ensemble is saved after each epoch and when it is stopped: leave it 0"
        )
    if jax.process_count() > 1:
        raise InputError("an ensemble is trained by one process; start it on one host")
    mesh = make_ensemble_mesh(len(member_configs(config)), config.train.batch_size)
    with open_run(config, workdir, prepare_members) as splits_M:
        return _train(config, workdir, mesh, splits_M)


def _train(
    config: Config, workdir: Path, mesh: jax.sharding.Mesh, splits_M: Sequence[Splits]
) -> steps.TrainState:
    configs = member_configs(config)
    count, batch_size, num_epochs = len(configs), config.train.batch_size, config.train.num_epochs
    counts = np.array(steps_per_epoch(splits_M, config, count))
    longest = int(counts.max())
    compiled = compile_members(config, mesh, shared=len(splits_M) == 1)
    keys = jnp.stack([jax.random.split(jax.random.key(c.train.seed)) for c in configs])
    place = member_sharding(mesh)
    rates = jax.device_put(members.rate_table(configs, counts.tolist()), place)
    step_keys = jax.device_put(keys[:, 1], place)
    warnings = set_damaged_aside(workdir)
    with checkpoints.open_managers(workdir) as managers, Stop() as stop:
        state, progress, start = _restore_or_init(managers, compiled.init, keys[:, 0], config, mesh)
        epoch_start = start - progress.ticks
        with (
            RunLog(workdir, epoch_start, start, longest * num_epochs, batch_size * count) as log,
            training_batches(splits_M, config, start, mesh) as batches,
        ):
            for line in warnings:
                log.say(line)
            log.say(
                f"{count} members, over {mesh.shape['model']} of {mesh.size} devices; "
                f"{longest} steps of {batch_size} an epoch"
                + (f"; goes on from step {start}" if start else "")
            )

            def update(state: EnsembleState, active_M: np.ndarray) -> tuple[EnsembleState, Any]:
                waiting = time.perf_counter()
                batch = next(batches)
                log.waited(time.perf_counter() - waiting)
                trained, metrics = compiled.train(state.members, batch, step_keys, rates, active_M)
                return dataclasses.replace(state, members=trained), metrics

            def save(manager: Any, step: int, score: float | None = None) -> None:
                model = {**state.best, "validated": progress.validated()}
                parts = checkpoints.Parts(model, {"members": state.members}, progress.to_json())
                checkpoints.save_parts(manager, step, parts, score)

            # The order of `train_and_evaluate`: train an epoch, validate, log, draw, save.
            for epoch in range(epoch_start // longest, num_epochs):
                if not progress.going(config.train.patience).any():
                    break
                epoch_start = epoch * longest
                log.start_epoch()
                state, progress = _epoch(state, progress, counts, update, config, log, stop)
                results = None
                if not stop.asked:
                    results = evaluate_on_validation(
                        state.members.variables,
                        compiled.evaluate,
                        splits_M,
                        config,
                        mesh,
                        count,
                        stop,
                    )
                if results is None:
                    step = epoch_start + progress.ticks
                    save(managers.interim, step)
                    managers.wait()
                    raise Stopped(
                        f"stopped by SIGTERM; step {step} is saved in {workdir}: the same command "
                        f"goes on from there"
                    )
                scores = [mean_scores(*per_image(own)) for own in results]
                going_M = progress.going(config.train.patience)
                steps_M = np.asarray(state.members.step)
                progress = progress.validate(scores, steps_M, going_M)
                improved_M = progress.improved(steps_M, going_M)
                best = compiled.keep_best(state.best, state.members.variables, improved_M)
                state = dataclasses.replace(state, best=best)
                step = epoch_start + longest
                log.record(
                    step,
                    {
                        "epoch": epoch + 1,
                        **progress.record(scores),
                        **log.speed(),
                        **device_memory(),
                    },
                    best=bool(improved_M.any()),
                )
                write_learning_curve(workdir / "learning_curve.png", log.history)
                progress = progress.next_epoch()
                # The latest counts as the best: it holds the best of each member.
                save(managers.validated, step, float(step))
        managers.wait()
        checkpoints.delete_interim(managers)
        if not progress.validated().any():
            raise TrainingError(
                f"{workdir}: the numbers of all {count} members were not finite before their first "
                f"validation; try a lower optim.learning_rate"
            )
        results = evaluate_on_validation(
            state.best, compiled.evaluate, splits_M, config, mesh, count, stop
        )
        if results is None:
            raise Stopped(f"stopped by SIGTERM; {workdir} is trained, its table is to be written")
        write_result(workdir, config, splits_M, progress, counts.tolist(), results, state.best)
    return state.members


def _epoch(
    state: EnsembleState,
    progress: EnsembleProgress,
    counts: np.ndarray,
    update: Callable[..., Any],
    config: Config,
    log: RunLog,
    stop: Stop,
) -> tuple[EnsembleState, EnsembleProgress]:
    """The rest of an epoch's updates, as far as the run is not asked to stop.

    A member is left as it is once it has had its own epoch's steps, or is to train no more.
    """

    def finish(progress: EnsembleProgress, active_M: np.ndarray, metrics: Any) -> EnsembleProgress:
        loss_M, norm_M = (np.asarray(metrics[name]) for name in ("loss", "grad_norm"))
        log.steps([float(loss_M[active_M].mean()) if active_M.any() else 0.0])
        told = progress.diverged()
        progress = progress.add(loss_M, norm_M, active_M, config.train.skip_nonfinite)
        for i in np.flatnonzero(progress.diverged() & ~told):
            log.say(f"warning: member {i}: not finite: left behind; the others go on")
        return progress

    pending, ticks = None, progress.ticks
    while ticks < counts.max():
        active_M = progress.going(config.train.patience) & (ticks < counts)
        state, metrics = update(state, active_M)
        stop.listen()
        # Fetched one step late, so that the device never waits for the host.
        if pending is not None:
            progress = finish(progress, *pending)
        pending, ticks = (active_M, metrics), ticks + 1
        if stop.after(range(0)):
            break
    if pending is not None:
        progress = finish(progress, *pending)
    return state, progress


def _restore_or_init(
    managers: checkpoints.Managers,
    init: Callable[..., EnsembleState],
    keys_M: jax.Array,
    config: Config,
    mesh: jax.sharding.Mesh,
) -> tuple[EnsembleState, EnsembleProgress, int]:
    """The state, what is known of its members, and the steps done."""
    place = member_sharding(mesh)
    abstract = checkpoints.abstract_like(jax.eval_shape(init, keys_M), place)
    latest = managers.latest()
    if latest is not None:
        step = latest.latest_step()
        assert step is not None
        flags = jax.ShapeDtypeStruct((len(keys_M),), bool, sharding=replicated(mesh))
        parts = checkpoints.restore_parts(
            latest, step, {**abstract.best, "validated": flags}, {"members": abstract.members}
        )
        parts.model.pop("validated")
        state = EnsembleState(parts.optimizer["members"], parts.model)
        return state, EnsembleProgress.from_json(parts.progress), step
    state = init(keys_M)
    if config.train.init_from:
        one = checkpoints.abstract_like(
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), abstract.best),
            replicated(mesh),
        )
        variables, _ = checkpoints.restore_best(Path(config.train.init_from), one)
        variables_M = jax.tree.map(lambda x: jnp.stack([x] * len(keys_M)), variables)
        # Buffers of their own: the step is given them to write to.
        params, average, best = (
            jax.device_put(jax.tree.map(jnp.copy, tree), place)
            for tree in (variables_M["params"], variables_M["params"], variables_M)
        )
        started = dataclasses.replace(
            state.members,
            params=params,
            average=average if state.members.average else {},
            batch_stats=jax.device_put(jax.tree.map(jnp.copy, best["batch_stats"]), place),
        )
        state = EnsembleState(started, best)
    return state, EnsembleProgress.start(len(keys_M)), 0


class Compiled(NamedTuple):
    """The jitted functions of an ensemble; each is compiled once, whatever the members."""

    init: Callable[..., EnsembleState]
    train: Callable[..., Any]
    evaluate: Callable[..., Any]
    keep_best: Callable[..., Any]


def compile_members(config: Config, mesh: jax.sharding.Mesh, *, shared: bool) -> Compiled:
    """Binds a config to the pure steps of `members`, and jits each."""
    model = build_model(config.model)
    init = functools.partial(
        members.init_members,
        model=model,
        optimizer=steps.make_adam(config.optim, lambda step: 0.0),
        size=config.data.size,
        ema=config.train.ema > 0,
    )
    train = functools.partial(
        members.train_members, config=config, model=model, shared=shared, ema=config.train.ema
    )
    evaluate = functools.partial(
        members.evaluate_members,
        shared=shared,
        model=model,
        loss_config=config.loss,
        threshold=config.train.threshold,
    )
    return Compiled(
        init=jit_of_members(init, mesh),
        train=jit_train_members(train, mesh, shared=shared),
        evaluate=jit_evaluate_members(evaluate, mesh, shared=shared),
        keep_best=jit_of_members(members.keep_best, mesh),
    )
