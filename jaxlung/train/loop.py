"""The training loop, and nothing else."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxlung import steps
from jaxlung.config import Config, parse_config
from jaxlung.data.input_pipeline import Canvases
from jaxlung.devices.distributed import is_main
from jaxlung.devices.mesh import make_mesh
from jaxlung.errors import InputError, Stopped
from jaxlung.train.compiled import _keys, compile_steps
from jaxlung.train.data import _UNIT, prepare_data
from jaxlung.train.epochs import (
    Guard,
    host_calls,
    next_pause,
    not_finite,
    resident_calls,
    train_until,
)
from jaxlung.train.log import RunLog, device_memory, write_learning_curve
from jaxlung.train.profiling import trace_steps
from jaxlung.train.run import open_run, restore_or_init
from jaxlung.train.sigterm import Stop
from jaxlung.train.validation import validate, write_overlays
from jaxlung.workdir import checkpoints
from jaxlung.workdir.integrity import set_damaged_aside
from jaxlung.workdir.progress import Progress


def train_and_evaluate(
    config: Any, workdir: str | Path, *, profile: bool = False
) -> steps.TrainState:
    """Trains until the last epoch or early stopping; goes on where the workdir's run stopped.

    Args:
        config: a `Config`, a ConfigDict or a plain dict with its fields.
        workdir: where checkpoints, logs and pictures go; docs/architecture.md lists them.
        profile: write a trace of some steps, of the first process, to the workdir's profile/.

    Returns:
        The final state. The best one is the workdir's best checkpoint: `jaxlung.load(workdir)`.

    Raises:
        InputError: bad settings or data, before any training and with nothing written; or a file
            that is gone when its turn comes.
        TrainingError: steps that are not finite, or what cannot be written; the checkpoints before
            it are whole.
        Stopped: SIGTERM came while it trained; everything is saved.
    """
    config, workdir = parse_config(config), Path(workdir)
    if config.is_ensemble:
        raise InputError("config.ensemble asks for several members: train_ensemble trains them")
    mesh = make_mesh(
        config.train.batch_size, config=config.mesh, accumulate=config.train.accumulate
    )
    with open_run(config, workdir, prepare_data) as canvases:
        return _train(config, workdir, mesh, canvases, profile and is_main())


def _train(
    config: Config,
    workdir: Path,
    mesh: jax.sharding.Mesh,
    canvases: Mapping[str, Canvases],
    profile: bool,
) -> steps.TrainState:
    train_ids, batch_size = canvases["train"].split.ids, config.train.batch_size
    steps_per_epoch, num_epochs = len(train_ids) // batch_size, config.train.num_epochs
    total_steps = steps_per_epoch * num_epochs
    compiled = compile_steps(config, mesh, steps_per_epoch)
    warnings = set_damaged_aside(workdir)
    with checkpoints.open_managers(workdir) as managers, Stop() as stop:
        state, (early_stop, tally) = restore_or_init(
            managers, compiled.init, _keys(config.train.seed)[0], config, mesh
        )
        start_step = int(state.step)
        epoch_start = start_step - tally.steps
        feed = resident_calls if config.data.loader == "device" else host_calls
        with (
            RunLog(workdir, epoch_start, start_step, total_steps, batch_size) as log,
            feed(canvases["train"], config, start_step, compiled.train, mesh) as fed,
            trace_steps(fed, workdir / "profile", start_step, log.say, on=profile) as calls,
        ):
            for line in warnings:
                log.say(line)
            sizes = ", ".join(f"{len(c.split.ids)} {name}" for name, c in canvases.items())
            source = " ".join((config.data.name, config.data.dir)).strip()
            rest = len(train_ids) % batch_size
            log.say(
                f"data: {source}: {sizes} {_UNIT[config.modality]}; {steps_per_epoch} steps of "
                f"{batch_size} an epoch{f', {rest} left over, others each time' if rest else ''}"
            )
            if start_step:
                complete = epoch_start == total_steps
                log.say(
                    f"{workdir}: {'complete at' if complete else 'goes on from'} step {start_step}"
                )
            guard = Guard(train_ids, config.train.skip_nonfinite, log.say)
            # Fixed order: train an epoch, validate, log, draw, save. A run killed anywhere repeats
            # from its last save with the same batches and keys, and logs and draws again.
            for epoch in range(epoch_start // steps_per_epoch, num_epochs):
                if early_stop.should_stop(config.train.patience):
                    break
                epoch_start = epoch * steps_per_epoch
                log.start_epoch()
                while tally.steps < steps_per_epoch and not stop.asked:
                    end = next_pause(
                        tally, steps_per_epoch, epoch_start, config.train.checkpoint_steps
                    )
                    state, tally = train_until(
                        end,
                        state,
                        tally,
                        calls,
                        epoch_start=epoch_start,
                        log=log,
                        guard=guard,
                        stop=stop,
                    )
                    if tally.steps < steps_per_epoch and not stop.asked:
                        _save_interim(managers, state, Progress(early_stop, tally), compiled.norm)
                scores = None
                if not stop.asked:
                    scores = validate(
                        state.variables,
                        compiled.evaluate,
                        canvases["validation"],
                        config,
                        mesh,
                        stop,
                    )
                if scores is None:
                    _save_interim(managers, state, Progress(early_stop, tally), compiled.norm)
                    managers.wait()
                    raise Stopped(
                        f"stopped by SIGTERM; step {epoch_start + tally.steps} is saved in "
                        f"{workdir}: the same command goes on from there"
                    )
                step = epoch_start + steps_per_epoch
                if not math.isfinite(scores["loss"]):  # the epoch's last update, say
                    raise not_finite(f"validation loss {scores['loss']} after step {step}")
                early_stop = early_stop.update(scores["dice"], step)
                log.record(
                    step,
                    {
                        "epoch": epoch + 1,
                        "train_loss": tally.mean(tally.loss),
                        **{f"validation_{name}": score for name, score in scores.items()},
                        "learning_rate": float(compiled.schedule(step - 1)),
                        "grad_norm": tally.mean(tally.grad_norm),
                        "grad_norm_max": tally.grad_norm_max,
                        "skipped_steps": tally.skipped,
                        **log.speed(),
                        **device_memory(),
                    },
                    best=early_stop.best_step == step,
                )
                if is_main():
                    write_learning_curve(workdir / "learning_curve.png", log.history)
                if early_stop.best_step == step:
                    write_overlays(
                        workdir,
                        state.variables,
                        compiled.predict,
                        canvases["validation"],
                        config,
                        mesh,
                    )
                tally = tally.next_epoch()
                progress = Progress(early_stop, tally)
                checkpoints.save(managers.validated, state, progress, scores["dice"])
        managers.wait()
        checkpoints.delete_interim(managers)
    if is_main():
        print(
            f"best validation Dice {early_stop.best:.4f} at step {early_stop.best_step}; "
            f"next: python eval.py --workdir {workdir}"
        )
    return state


def _save_interim(
    managers: checkpoints.Managers,
    state: steps.TrainState,
    progress: Progress,
    norm_of: Callable[[Any], jax.Array],
) -> None:
    """A state of which no validation says that it is sound.

    Raises:
        TrainingError: its parameters are not finite.
    """
    norm = float(norm_of(state.params))
    if not math.isfinite(norm):
        raise not_finite(f"parameters of norm {norm} after step {int(state.step)}")
    checkpoints.save(managers.interim, state, progress)
