"""The training loop, and nothing else."""

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from jaxlung import checkpoints, figures, sharding, steps
from jaxlung.config import Config, parse_config
from jaxlung.datasets import load_splits
from jaxlung.distributed import is_main
from jaxlung.epochs import (
    Guard,
    host_calls,
    next_pause,
    not_finite,
    resident_calls,
    train_until,
)
from jaxlung.errors import InputError, Stopped
from jaxlung.input_pipeline import (
    Canvases,
    check_canvases,
    import_tensorflow,
    make_canvases,
)
from jaxlung.integrity import set_damaged_aside
from jaxlung.model import build_model
from jaxlung.profiling import profiled
from jaxlung.progress import Progress
from jaxlung.runlog import RunLog, device_memory
from jaxlung.starting import begun, restore_or_init
from jaxlung.stopping import Stop
from jaxlung.validation import shown, validate, write_overlays
from jaxlung.workdir import Digests

_UNIT = {"xray": "images", "ct": "slices"}  # what an example is, in words


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
    mesh = sharding.make_mesh(
        config.train.batch_size, config=config.mesh, accumulate=config.train.accumulate
    )
    with begun(config, workdir, prepare_data) as canvases:
        return _train(config, workdir, mesh, canvases, profile and is_main())


def _train(
    config: Config, workdir: Path, mesh: jax.sharding.Mesh, canvases: Mapping[str, Canvases],
    profile: bool,
) -> steps.TrainState:  # fmt: skip
    train_ids, batch_size = canvases["train"].split.ids, config.train.batch_size
    steps_per_epoch, num_epochs = len(train_ids) // batch_size, config.train.num_epochs
    total_steps = steps_per_epoch * num_epochs
    compiled = compile_steps(config, mesh, steps_per_epoch)
    warnings = set_damaged_aside(workdir)
    with checkpoints.open_run(workdir) as managers, Stop() as stop:
        state, (early_stop, tally) = restore_or_init(
            managers, compiled.init, _keys(config.train.seed)[0], config, mesh
        )
        start_step = int(state.step)
        epoch_start = start_step - tally.steps
        feed = resident_calls if config.data.loader == "device" else host_calls
        with (
            RunLog(workdir, epoch_start, start_step, total_steps, batch_size) as log,
            feed(canvases["train"], config, start_step, compiled.train, mesh) as fed,
            profiled(fed, workdir / "profile", start_step, log.say, on=profile) as calls,
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
                        end, state, tally, calls, epoch_start=epoch_start, log=log, guard=guard,
                        stop=stop,
                    )  # fmt: skip
                    if tally.steps < steps_per_epoch and not stop.asked:
                        _save_interim(managers, state, Progress(early_stop, tally), compiled.norm)
                scores = None
                if not stop.asked:
                    scores = validate(
                        state.variables, compiled.evaluate, canvases["validation"], config, mesh,
                        stop,
                    )  # fmt: skip
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
                    figures.write_learning_curve(workdir / "learning_curve.png", log.history)
                if early_stop.best_step == step:
                    write_overlays(
                        workdir, state.variables, compiled.predict, canvases["validation"], config,
                        mesh,
                    )  # fmt: skip
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
    managers: checkpoints.Managers, state: steps.TrainState, progress: Progress,
    norm_of: Callable[[Any], jax.Array],
) -> None:  # fmt: skip
    """A state of which no validation says that it is sound.

    Raises:
        TrainingError: its parameters are not finite.
    """
    norm = float(norm_of(state.params))
    if not math.isfinite(norm):
        raise not_finite(f"parameters of norm {norm} after step {int(state.step)}")
    checkpoints.save(managers.interim, state, progress)


def prepare_data(config: Config) -> tuple[dict[str, Canvases], Digests]:
    """Reads and checks every example of every split.

    Returns:
        the splits at the network's size, by name, and each one's ids with their content digests.

    Raises:
        InputError: the first bad file or field, by name.
    """
    splits = load_splits(config.data)
    count, batch_size = len(splits["train"].ids), config.train.batch_size
    if count < batch_size:
        raise InputError(
            f"the train split has {count} {_UNIT[config.modality]}, fewer than "
            f"train.batch_size={batch_size}; lower train.batch_size or add some"
        )
    canvases, digests = {}, {}
    for name, split in splits.items():
        canvases[name] = make_canvases(
            split,
            size=config.data.size,
            fit=config.data.fit,
            cache_gib=config.data.cache_gib,
            # An X-ray's empty mask is nearly always a mistake, though a test set may hold one; of
            # a CT's slices many are without lung.
            reject_empty=name != "test" and config.modality == "xray",
        )
        resident = name == "train" and config.data.loader == "device"
        if resident and not canvases[name].cached:
            raise InputError(
                f"data.loader='device' keeps the {count} training examples on the device, which is "
                f"more than data.cache_gib={config.data.cache_gib:g}; raise it if they fit, or set "
                f"data.loader=auto"
            )
        # What lies on the device is read whole before training; of other large splits a sample.
        digests[name] = check_canvases(canvases[name], whole=resident)
        if not resident and canvases[name].loader(config.data.loader) == "tfdata":
            import_tensorflow()  # its absence is told before anything is written
    return canvases, digests


class CompiledSteps(NamedTuple):
    """The jitted functions of a run."""

    init: Callable[[jax.Array], steps.TrainState]
    train: Callable[..., Any]  # of `sharding.jit_train_steps` where the data are resident
    evaluate: Callable[..., Any]
    predict: Callable[..., Any]
    norm: Callable[[Any], jax.Array]
    schedule: optax.Schedule


def compile_steps(config: Config, mesh: jax.sharding.Mesh, steps_per_epoch: int) -> CompiledSteps:
    """Binds a config to the pure steps and jits each, once, with its shardings."""
    model = build_model(config.model, split=sharding.splits_layers(mesh))
    optimizer, schedule = steps.make_optimizer(
        config.optim, steps_per_epoch=steps_per_epoch, num_epochs=config.train.num_epochs
    )
    init = functools.partial(
        steps.init_state,
        model=model,
        optimizer=optimizer,
        size=config.data.size,
        ema=config.train.ema > 0,
    )
    key = _keys(config.train.seed)[0]
    placed = sharding.state_sharding(jax.eval_shape(init, key), mesh, fsdp=config.mesh.fsdp)
    places: dict[str, Any] = {
        "spread_rows": sharding.spread_rows(mesh),
        "gather_params": sharding.gather_params(mesh, fsdp=config.mesh.fsdp),
    }
    train = functools.partial(
        steps.train_step, model=model, optimizer=optimizer, augment_config=config.augment,
        loss_config=config.loss, key=_keys(config.train.seed)[1], ema=config.train.ema,
        accumulate=config.train.accumulate, **places,
    )  # fmt: skip
    evaluate = functools.partial(
        steps.eval_step, model=model, loss_config=config.loss, threshold=config.train.threshold,
        **places,
    )  # fmt: skip
    predict = functools.partial(steps.predict_step, model=model, **places)
    if config.data.loader == "device":
        compiled_train = sharding.jit_train_steps(train, mesh, placed)
    else:
        compiled_train = sharding.jit_train_step(train, mesh, placed)
    return CompiledSteps(
        init=sharding.jit_init(init, mesh, fsdp=config.mesh.fsdp),
        train=compiled_train,
        evaluate=sharding.jit_eval_step(evaluate, mesh, placed.variables),
        predict=sharding.jit_eval_step(shown(predict), mesh, placed.variables),
        norm=sharding.jit_norm(mesh),
        schedule=schedule,
    )


def _keys(seed: int) -> jax.Array:
    """Keys for the parameters and for the steps."""
    return jax.random.split(jax.random.key(seed))
