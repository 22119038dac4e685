"""Small trainings, and what they compile, shared among tests."""

import dataclasses
import functools

import jax
import numpy as np

from configs import tiny
from jaxlung.config import DataConfig
from jaxlung.train.compiled import compile_steps


def tiny_config(**changes):
    """configs/tiny.py without TensorFlow's start-up; changes as section__field=value."""
    config = tiny.get_config()
    config.data.loader = "memory"
    for path, value in changes.items():
        section, field = path.split("__")
        config[section][field] = value
    return config


def assert_trees_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(left), jax.device_get(right))


def shared_steps(config, mesh, steps_per_epoch):
    """`compile_steps`, once for all runs whose steps are the same."""
    loader = "device" if config.data.loader == "device" else "memory"
    data = dataclasses.replace(DataConfig(), size=config.data.size, loader=loader)
    train = dataclasses.replace(
        config.train,
        init_from="",
        patience=0,
        steps_per_call=1,
        checkpoint_steps=0,
        skip_nonfinite=0,
    )
    return _compiled(dataclasses.replace(config, data=data, train=train), mesh, steps_per_epoch)


_compiled = functools.cache(compile_steps)


def after_each_step(change):
    """Steps whose state and results go through change(state, metrics)."""

    def steps(config, mesh, steps_per_epoch):
        compiled = shared_steps(config, mesh, steps_per_epoch)
        return compiled._replace(train=lambda *args: change(*compiled.train(*args)))

    return steps
