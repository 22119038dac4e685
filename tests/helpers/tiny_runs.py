"""Small trainings: of one recipe, whose compiled steps all of them share, or without steps."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from configs import tiny
from jaxlung.steps import TrainState
from jaxlung.train.compiled import CompiledSteps, compile_steps


def tiny_config(**changes):
    """configs/tiny.py at 16 pixels, without TensorFlow's start-up; changes as section__field=value.

    A change that the steps do not depend on (seed, data, saving) compiles nothing anew.
    """
    config = tiny.get_config()
    config.data.loader = "memory"
    config.data.size, config.model.width = 16, 2
    for path, value in changes.items():
        section, field = path.split("__")
        config[section][field] = value
    return config


def drawn_state(compiled: CompiledSteps) -> TrainState:
    """Returns a first state drawn in numpy, placed as the steps take it.

    To compile the network's own draw takes seconds.
    """
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name, values = path[-1].key, np.zeros(leaf.shape, leaf.dtype)
        if name == "kernel":
            values += rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape)
        return values + (name in ("scale", "var"))

    params, batch_stats = (
        jax.tree.map_with_path(draw, tree)
        for tree in (compiled.abstract.params, compiled.abstract.batch_stats)
    )
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), compiled.abstract)
    average = params if compiled.abstract.average else {}
    state = empty.replace(params=params, batch_stats=batch_stats, average=average)
    return jax.tree.map(
        lambda array, leaf: jax.device_put(array.astype(leaf.dtype), leaf.sharding),
        state,
        compiled.abstract,
    )


@contextlib.contextmanager
def no_steps() -> Iterator[None]:
    """Trainings go through all their motions, and leave the parameters as they are drawn.

    For tests of what a training reads, says and leaves: a step of its own costs each of these ten
    seconds of compiling.
    """

    def compile_without(config, mesh, steps_per_epoch):
        compiled = compile_steps(config, mesh, steps_per_epoch)

        def stand_still(state, batch, key):
            metrics = {"loss": np.float32(1), "grad_norm": np.float32(1)}
            return state.replace(step=state.step + 1), metrics

        return compiled._replace(init=lambda key: drawn_state(compiled), train=stand_still)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxlung.train.loop.compile_steps", compile_without)
        yield


def assert_trees_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(left), jax.device_get(right))


def after_each_step(change):
    """`compile_steps` with steps whose state and results go through change(state, metrics)."""

    def compile_and_change(config, mesh, steps_per_epoch):
        compiled = compile_steps(config, mesh, steps_per_epoch)
        return compiled._replace(train=lambda *args: change(*compiled.train(*args)))

    return compile_and_change
