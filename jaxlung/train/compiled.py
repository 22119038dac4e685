"""The jitted functions of a run, compiled once for all runs whose steps are the same."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxlung import steps
from jaxlung.config import Config, DataConfig, EnsembleConfig, MeshConfig, TrainConfig
from jaxlung.devices import mesh as meshes
from jaxlung.forward import Placement, predict_step
from jaxlung.model import build_model
from jaxlung.optimizer import make_optimizer
from jaxlung.structures import lung_places, mirror_order
from jaxlung.train.validation import SHOWN
from jaxlung.workdir.checkpoints import abstract_like


class CompiledSteps(NamedTuple):
    """The jitted functions of a run, and where its state lives."""

    init: Callable[[jax.Array], steps.TrainState]
    train: Callable[..., Any]  # of `mesh.jit_train_steps` where the data are resident
    evaluate: Callable[..., Any]
    predict: Callable[..., Any]
    norm: Callable[[Any], jax.Array]  # of a tree of arrays wherever they live, float32 []
    schedule: optax.Schedule
    abstract: steps.TrainState  # shapes, dtypes and shardings


def make_run_mesh(config: Config) -> jax.sharding.Mesh:
    """Returns the mesh of a config over all devices.

    Raises:
        InputError: see `make_mesh`.
    """
    train = config.train
    return meshes.make_mesh(train.batch_size, config=config.mesh, accumulate=train.accumulate)


def make_keys(seed: int) -> jax.Array:
    """Returns a key for the parameters and one for the steps."""
    return jax.random.split(jax.random.key(seed))


def compile_steps(config: Config, mesh: jax.sharding.Mesh, steps_per_epoch: int) -> CompiledSteps:
    """Binds a config to the pure steps and jits each with its shardings.

    Runs that differ in nothing that the steps depend on, as in their seed or data alone, share
    the jitted functions, and so their programs.
    """
    kept = ("num_epochs", "ema", "accumulate", "threshold")
    values = {name: getattr(config.train, name) for name in kept}
    train = TrainConfig(**values, postprocess=config.keeps_lungs)
    loader = "device" if config.data.loader == "device" else "auto"
    config = dataclasses.replace(
        config,
        data=DataConfig(size=config.data.size, loader=loader),
        train=train,
        ensemble=EnsembleConfig(),
        mesh=MeshConfig(fsdp=config.mesh.fsdp),
    )
    return _compile_steps(config, mesh, steps_per_epoch)


@functools.lru_cache(maxsize=32)
def _compile_steps(config: Config, mesh: jax.sharding.Mesh, steps_per_epoch: int) -> CompiledSteps:
    optimizer, schedule = make_optimizer(
        config.optim, steps_per_epoch=steps_per_epoch, num_epochs=config.train.num_epochs
    )
    fsdp = config.mesh.fsdp
    split = meshes.splits_layers(mesh)
    recipe = steps.Recipe(
        model=build_model(config.model, split=split, drawn=False),
        optimizer=optimizer,
        augment=config.augment,
        loss=config.loss,
        ema=config.train.ema,
        accumulate=config.train.accumulate,
        threshold=config.train.threshold,
        mirror=mirror_order(config.model.outputs),
        lungs=lung_places(config.model.outputs),
        keeps_masks=config.train.postprocess,
    )
    place = Placement(meshes.spread_rows(mesh), meshes.gather_params(mesh, fsdp=fsdp))
    # The steps are given parameters; only `init` draws them.
    drawn = dataclasses.replace(recipe, model=build_model(config.model, split=split))
    init = functools.partial(steps.init_state, recipe=drawn, size=config.data.size)
    shapes = jax.eval_shape(init, jax.random.key(0))
    placed = meshes.state_sharding(shapes, mesh, fsdp=fsdp)
    jit_train = meshes.jit_train_steps if config.data.loader == "device" else meshes.jit_train_step

    def predict(variables: Any, image_BxSxS: jax.Array) -> jax.Array:
        # `write_overlays` shows the first few of a large batch.
        return predict_step(variables, image_BxSxS, recipe.model, place)[:SHOWN]

    return CompiledSteps(
        init=meshes.jit_init(init, mesh, fsdp=fsdp),
        train=jit_train(
            functools.partial(steps.train_step, recipe=recipe, place=place), mesh, placed
        ),
        evaluate=meshes.jit_eval_step(
            functools.partial(steps.eval_step, recipe=recipe, place=place), mesh, placed.variables
        ),
        predict=meshes.jit_eval_step(predict, mesh, placed.variables),
        norm=jax.jit(optax.tree.norm, out_shardings=meshes.replicated(mesh)),
        schedule=schedule,
        abstract=abstract_like(shapes, placed),
    )
