"""The training loop, and nothing else."""

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxlung import checkpoints, figures, metrics, sharding, steps
from jaxlung.config import Config, parse_config
from jaxlung.datasets import load_splits
from jaxlung.epochs import host_calls, not_finite, resident_calls, train_epoch
from jaxlung.errors import InputError
from jaxlung.images import write_png
from jaxlung.input_pipeline import (
    Canvases,
    batches,
    check_canvases,
    eval_indices,
    import_tensorflow,
    make_canvases,
)
from jaxlung.model import build_model, to_mask
from jaxlung.runlog import RunLog
from jaxlung.starting import check_source, restore_or_init
from jaxlung.workdir import Digests, check_config, write_record

_UNIT = {"xray": "images", "ct": "slices"}  # what an example is, in words


def train_and_evaluate(config: Any, workdir: str | Path) -> steps.TrainState:
    """Trains until the last epoch or early stopping; goes on where the workdir's run stopped.

    Args:
        config: a `Config`, a ConfigDict or a plain dict with its fields.
        workdir: where checkpoints, logs and pictures go; docs/architecture.md lists them.

    Returns:
        The final state. The best one is the workdir's best checkpoint: `jaxlung.load(workdir)`.

    Raises:
        InputError: bad settings or data, before any training and with nothing written.
        TrainingError: a loss that is not finite, with the step named.
    """
    config, workdir = parse_config(config), Path(workdir)
    if config.is_ensemble:
        raise InputError("config.ensemble asks for several members: train_ensemble trains them")
    mesh = sharding.make_mesh(config.train.batch_size)
    check_config(workdir, config)
    if not checkpoints.exist(workdir):  # a resumed run has no more need of its source
        check_source(config)
    canvases, digests = prepare_data(config)
    write_record(workdir, config, digests)

    count, batch_size = len(canvases["train"].split.ids), config.train.batch_size
    steps_per_epoch, num_epochs = count // batch_size, config.train.num_epochs
    compiled = compile_steps(config, mesh, steps_per_epoch)
    with checkpoints.open_manager(workdir) as manager:
        state, early_stop = restore_or_init(
            manager, compiled.init, _keys(config.train.seed)[0], config, mesh
        )
        start_step = int(state.step)
        feed = resident_calls if config.data.loader == "device" else host_calls
        with (
            feed(canvases["train"], config, start_step, compiled.train, mesh) as calls,
            RunLog(workdir, start_step, steps_per_epoch * num_epochs, batch_size) as log,
        ):
            sizes = ", ".join(f"{len(c.split.ids)} {name}" for name, c in canvases.items())
            source = " ".join((config.data.name, config.data.dir)).strip()
            rest = count % batch_size
            log.say(
                f"data: {source}: {sizes} {_UNIT[config.modality]}; {steps_per_epoch} steps of "
                f"{batch_size} an epoch{f', {rest} left over, others each time' if rest else ''}"
            )
            if start_step:
                done = start_step >= steps_per_epoch * num_epochs
                log.say(f"{workdir}: {'complete at' if done else 'goes on from'} step {start_step}")
            # Fixed order: train an epoch, validate, log, draw, save. A run killed anywhere repeats
            # from its last save with the same batches and keys, and logs and draws again.
            for epoch in range(start_step // steps_per_epoch, num_epochs):
                if early_stop.should_stop(config.train.patience):
                    break
                state, train_loss = train_epoch(
                    state, epoch * steps_per_epoch, steps_per_epoch, calls, log
                )
                scores = validate(
                    state.variables, compiled.evaluate, canvases["validation"], config, mesh
                )
                step = (epoch + 1) * steps_per_epoch
                if not math.isfinite(scores["loss"]):  # the epoch's last update, say
                    raise not_finite(f"validation loss {scores['loss']} after step {step}")
                early_stop = early_stop.update(scores["dice"], step)
                log.record(
                    step,
                    {
                        "epoch": epoch + 1,
                        "train_loss": train_loss,
                        **{f"validation_{name}": score for name, score in scores.items()},
                        "learning_rate": float(compiled.schedule(step - 1)),
                        "images_per_second": log.rate,
                    },
                    best=early_stop.best_step == step,
                )
                figures.write_learning_curve(workdir / "learning_curve.png", log.history)
                if early_stop.best_step == step:
                    _write_overlays(
                        workdir, state.variables, compiled.predict, canvases["validation"], config
                    )
                checkpoints.save(manager, state, early_stop, scores["dice"])
            manager.wait_until_finished()
    print(
        f"best validation Dice {early_stop.best:.4f} at step {early_stop.best_step}; "
        f"next: python eval.py --workdir {workdir}"
    )
    return state


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
    schedule: optax.Schedule


def compile_steps(config: Config, mesh: jax.sharding.Mesh, steps_per_epoch: int) -> CompiledSteps:
    """Binds a config to the pure steps and jits each, once, with its shardings."""
    model = build_model(config.model)
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
    train = functools.partial(
        steps.train_step, model=model, optimizer=optimizer, augment_config=config.augment,
        loss_config=config.loss, key=_keys(config.train.seed)[1], ema=config.train.ema,
    )  # fmt: skip
    evaluate = functools.partial(
        steps.eval_step, model=model, loss_config=config.loss, threshold=config.train.threshold
    )
    if config.data.loader == "device":
        compiled_train = sharding.jit_train_steps(train, mesh)
    else:
        compiled_train = sharding.jit_train_step(train, mesh)
    return CompiledSteps(
        init=sharding.jit_init(init, mesh),
        train=compiled_train,
        evaluate=sharding.jit_eval_step(evaluate, mesh),
        predict=sharding.jit_predict_step(functools.partial(steps.predict_step, model=model)),
        schedule=schedule,
    )


def _keys(seed: int) -> jax.Array:
    """Keys for the parameters and for the steps."""
    return jax.random.split(jax.random.key(seed))


def validate(
    variables: Any,
    eval_step: Callable[..., Any],
    canvases: Canvases,
    config: Config,
    mesh: jax.sharding.Mesh,
) -> dict[str, float]:
    """Scores of a split at the network's size.

    Returns:
        loss, dice, iou and accuracy, each the mean over images, and pooled_dice, of all pixels.
    """
    indices = eval_indices(len(canvases.split.ids), config.train.batch_size)
    results = [
        jax.device_get(eval_step(variables, sharding.to_devices(batch, mesh)))
        for batch in batches(canvases, indices, loader=canvases.loader(config.data.loader))
    ]
    valid = np.concatenate([result["valid"] for result in results])
    loss = np.concatenate([result["loss"] for result in results])[valid]
    parts = zip(*(result["counts"] for result in results), strict=True)
    counts = metrics.Counts(*(np.concatenate(part)[valid] for part in parts))
    return {
        "loss": float(loss.mean()),
        "dice": float(metrics.dice(counts).mean()),
        "iou": float(metrics.iou(counts).mean()),
        "accuracy": float(metrics.accuracy(counts).mean()),
        "pooled_dice": float(metrics.dice(metrics.pool(counts))[0]),
    }


def _write_overlays(
    workdir: Path,
    variables: Mapping[str, Any],
    predict_step: Callable[..., Any],
    canvases: Canvases,
    config: Config,
) -> None:
    """validation.png: up to 8 validation images with truth and prediction."""
    shown = min(8, len(canvases.split.ids))
    images, truths = zip(*(canvases.read(i) for i in range(shown)), strict=True)
    padded_BxSxS = np.stack([*images, *[images[0]] * (8 - shown)])  # one shape, one compile
    probability_BxSxS = np.asarray(predict_step(variables, padded_BxSxS))
    predictions = to_mask(probability_BxSxS, config.train.threshold)
    pictures, captions = [], []
    for i in range(shown):
        truth = truths[i] > 0
        pictures.append(figures.overlay(images[i], predictions[i], truth))
        counts = metrics.count_pixels(predictions[i : i + 1], truth[None])
        captions.append(f"{canvases.split.ids[i]} Dice {metrics.dice(counts)[0]:.3f}")
    write_png(workdir / "validation.png", figures.sheet(pictures, captions))
