"""The schedule's values, and which parameters the optimiser decays and clips."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.config import OptimConfig
from jaxlung.optimizer import make_adam, make_schedule


def test_the_rate_rises_to_its_peak_and_falls_to_its_share():
    config = OptimConfig(learning_rate=1e-2, warmup_epochs=2.0, final_fraction=0.1)
    schedule = make_schedule(config, steps_per_epoch=5, num_epochs=10)
    rates = np.array([schedule(step) for step in range(51)])
    assert rates[0] == 0 and rates[10] == pytest.approx(1e-2)
    assert rates[5] == pytest.approx(5e-3)  # the warm-up is linear
    assert rates[30] == pytest.approx((1e-2 + 1e-3) / 2)  # the cosine's middle
    assert rates[50] == pytest.approx(1e-3)
    assert (np.diff(rates[:11]) > 0).all() and (np.diff(rates[10:]) < 0).all()


def test_a_warm_up_is_shorter_than_the_run():
    config = OptimConfig(learning_rate=1.0, warmup_epochs=9.0)
    schedule = make_schedule(config, steps_per_epoch=2, num_epochs=2)
    assert float(schedule(3)) == 1.0


def update(config, params, grads):
    optimizer = make_adam(config, lambda step: 0.5)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return updates


def test_decay_is_of_kernels_alone():
    params = {"kernel": jnp.ones((3, 4)), "scale": jnp.ones(4), "bias": jnp.ones((1, 1, 1, 4))}
    grads = {name: jnp.zeros_like(value) for name, value in params.items()}
    updates = update(OptimConfig(weight_decay=0.1), params, grads)
    np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-6)
    assert not updates["scale"].any() and not updates["bias"].any()


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    params = {"kernel": jnp.zeros((2, 2))}
    grads = {"kernel": jnp.array([[30.0, 0.0], [0.0, 40.0]])}
    clipped = make_adam(OptimConfig(clip_norm=1.0), lambda step: 0.5)
    _, state = clipped.update(grads, clipped.init(params), params)
    first_moment = state[1][0].mu["kernel"]
    np.testing.assert_allclose(first_moment, 0.1 * np.array([[0.6, 0.0], [0.0, 0.8]]), rtol=1e-5)
