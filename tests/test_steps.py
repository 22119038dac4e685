"""The pure steps, on a network of one layer, which compiles fast."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlung import steps
from jaxlung.config import OptimConfig
from jaxlung.losses import segmentation_loss
from jaxlung.optimizer import make_optimizer


class OneLayer(nn.Module):
    """A convolution with batch statistics, called as a U-Net is."""

    @nn.compact
    def __call__(self, image_BxHxWx1, *, train=False):
        x = nn.Conv(2, (3, 3))(image_BxHxWx1)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Conv(1, (1, 1))(x)


@pytest.fixture
def without_augmentation(monkeypatch):
    monkeypatch.setattr(steps, "augment", lambda key, image, mask, *_: (image, mask))


def compiled(recipe):
    """The first state and the jitted step."""
    init = functools.partial(steps.init_state, recipe=recipe, size=8)
    step = jax.jit(functools.partial(steps.train_step, recipe=recipe))
    return jax.jit(init)(jax.random.key(1)), step


def batches(count, size=8):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {
            "image": rng.integers(0, 255, (4, size, size)).astype(np.uint8),
            "mask": 255 * rng.integers(0, 2, (4, size, size)).astype(np.uint8)[..., None],
            "labelled": np.ones((4, 1), bool),
        }


def spoilt_loss(logits, target, **kwargs):
    """Infinite for masks of ones; where half of a mask is ones the gradient alone is not finite."""
    infinite = jnp.where(target.mean() == 1, jnp.inf, 0.0)
    steep = jnp.sqrt(jnp.where(target.mean() == 0.5, 0 * logits.mean(), 1.0))
    return segmentation_loss(logits, target, **kwargs) + (infinite + steep)[None]


def test_a_step_that_is_not_finite_changes_the_steps_number_alone(
    monkeypatch, without_augmentation
):
    monkeypatch.setattr(steps, "segmentation_loss", spoilt_loss)
    optimizer, _ = make_optimizer(OptimConfig(warmup_epochs=0.0), steps_per_epoch=2, num_epochs=3)
    first, step = compiled(steps.Recipe(OneLayer(), optimizer, ema=0.9))
    state, finite = first, []
    for rows, batch in zip((8, 4, 2), batches(3), strict=True):  # of ones in each mask
        batch["mask"][:] = 0
        batch["mask"][:, :rows] = 255
        before = state
        state, metrics = step(before, batch, jax.random.key(0))
        finite.append([bool(np.isfinite(metrics[name])) for name in ("loss", "grad_norm")])
        if rows > 2:
            jax.tree.map(np.testing.assert_array_equal, state.replace(step=before.step), before)
    assert [loss for loss, _ in finite] == [False, True, True]
    assert finite[1:] == [[True, False], [True, True]]
    assert int(state.step) == 3
    for name in ("params", "batch_stats", "average", "opt_state"):
        pairs = zip(*(jax.tree.leaves(getattr(s, name)) for s in (first, state)), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs), name


def test_average_of_the_parameters_is_kept_and_evaluated(without_augmentation):
    """Against the recursion by hand, from the parameters of each step."""
    state, step = compiled(steps.Recipe(OneLayer(), optax.adam(1e-2), ema=0.5))
    average = jax.device_get(state.params)
    for i, batch in enumerate(batches(4)):
        state, _ = step(state, batch, jax.random.key(0))
        decay = min(0.5, (1 + i) / (10 + i))
        average = jax.tree.map(
            lambda a, p, decay=decay: decay * a + (1 - decay) * p,
            average,
            jax.device_get(state.params),
        )
    for found, expected in zip(
        jax.tree.leaves(state.variables["params"]), jax.tree.leaves(average), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    leaves = zip(jax.tree.leaves(state.params), jax.tree.leaves(average), strict=True)
    assert any(np.abs(p - a).max() > 1e-4 for p, a in leaves)


def test_train_step_is_pure():
    """Equal arguments, equal results; another key is another step."""
    state, step = compiled(steps.Recipe(OneLayer(), optax.adam(1e-2)))
    before, [batch] = jax.device_get(state), batches(1)
    first, second = (step(state, batch, jax.random.key(3)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(np.testing.assert_array_equal, state, before)
    assert int(first[0].step) == 1
    other = step(state, batch, jax.random.key(4))
    assert float(other[1]["loss"]) != float(first[1]["loss"])
