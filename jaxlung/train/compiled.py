"""The jitted functions of a run."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxlung import steps
from jaxlung.config import Config
from jaxlung.devices.mesh import (
    gather_params,
    jit_eval_step,
    jit_init,
    jit_norm,
    jit_train_step,
    jit_train_steps,
    splits_layers,
    spread_rows,
    state_sharding,
)
from jaxlung.model import build_model
from jaxlung.train.validation import limit_output


class CompiledSteps(NamedTuple):
    """The jitted functions of a run."""

    init: Callable[[jax.Array], steps.TrainState]
    train: Callable[..., Any]  # of `mesh.jit_train_steps` where the data are resident
    evaluate: Callable[..., Any]
    predict: Callable[..., Any]
    norm: Callable[[Any], jax.Array]
    schedule: optax.Schedule


def compile_steps(config: Config, mesh: jax.sharding.Mesh, steps_per_epoch: int) -> CompiledSteps:
    """Binds a config to the pure steps and jits each, once, with its shardings."""
    model = build_model(config.model, split=splits_layers(mesh))
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
    placed = state_sharding(jax.eval_shape(init, key), mesh, fsdp=config.mesh.fsdp)
    places: dict[str, Any] = {
        "spread_rows": spread_rows(mesh),
        "gather_params": gather_params(mesh, fsdp=config.mesh.fsdp),
    }
    train = functools.partial(
        steps.train_step,
        model=model,
        optimizer=optimizer,
        augment_config=config.augment,
        loss_config=config.loss,
        key=_keys(config.train.seed)[1],
        ema=config.train.ema,
        accumulate=config.train.accumulate,
        **places,
    )
    evaluate = functools.partial(
        steps.eval_step,
        model=model,
        loss_config=config.loss,
        threshold=config.train.threshold,
        **places,
    )
    predict = functools.partial(steps.predict_step, model=model, **places)
    if config.data.loader == "device":
        compiled_train = jit_train_steps(train, mesh, placed)
    else:
        compiled_train = jit_train_step(train, mesh, placed)
    return CompiledSteps(
        init=jit_init(init, mesh, fsdp=config.mesh.fsdp),
        train=compiled_train,
        evaluate=jit_eval_step(evaluate, mesh, placed.variables),
        predict=jit_eval_step(limit_output(predict), mesh, placed.variables),
        norm=jit_norm(mesh),
        schedule=schedule,
    )


def _keys(seed: int) -> jax.Array:
    """Keys for the parameters and for the steps."""
    return jax.random.split(jax.random.key(seed))
