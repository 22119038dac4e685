"""Small trainings of one recipe, whose compiled steps all of them share."""

import jax
import numpy as np

from configs import tiny
from jaxlung.train.compiled import compile_steps


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


def assert_trees_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(left), jax.device_get(right))


def after_each_step(change):
    """`compile_steps` with steps whose state and results go through change(state, metrics)."""

    def compile_and_change(config, mesh, steps_per_epoch):
        compiled = compile_steps(config, mesh, steps_per_epoch)
        return compiled._replace(train=lambda *args: change(*compiled.train(*args)))

    return compile_and_change
