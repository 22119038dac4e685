"""A step whose numbers are not finite leaves all but the step's number as it was."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import tiny
from jaxlung import steps
from jaxlung.config import parse_config
from jaxlung.losses import segmentation_loss
from jaxlung.model import build_model


def spoilt_loss(logits, target, **kwargs):
    """Of masks of ones infinite; where half of a mask is ones its gradient alone is not finite."""
    infinite = jnp.where(target.mean() == 1, jnp.inf, 0.0)
    steep = jnp.sqrt(jnp.where(target.mean() == 0.5, 0 * logits.mean(), 1.0))
    return segmentation_loss(logits, target, **kwargs) + (infinite + steep)[None]


def test_a_step_that_is_not_finite_changes_the_steps_number_alone(monkeypatch):
    monkeypatch.setattr(steps, "segmentation_loss", spoilt_loss)
    monkeypatch.setattr(steps, "augment", lambda key, image, mask, config: (image, mask))
    values = tiny.get_config()
    values.data.size, values.model.width, values.model.norm = 16, 2, "batch"
    values.optim.warmup_epochs = 0.0
    config = parse_config(values)
    model = build_model(config.model)
    optimizer, _ = steps.make_optimizer(config.optim, steps_per_epoch=2, num_epochs=3)
    step = jax.jit(
        functools.partial(
            steps.train_step,
            model=model,
            optimizer=optimizer,
            augment_config=config.augment,
            loss_config=config.loss,
            key=jax.random.key(0),
            ema=0.9,
        )
    )
    init = functools.partial(steps.init_state, model=model, optimizer=optimizer, size=16, ema=True)
    first = state = jax.jit(init)(jax.random.key(1))
    image_BxSxS = np.random.default_rng(0).integers(0, 255, (2, 16, 16), np.uint8)
    finite = []
    for rows in (16, 8, 4):  # of ones in each mask
        mask_BxSxS = np.zeros_like(image_BxSxS)
        mask_BxSxS[:, :rows] = 1
        before = state
        state, metrics = step(before, {"image": image_BxSxS, "mask": mask_BxSxS})
        finite.append([bool(np.isfinite(metrics[name])) for name in ("loss", "grad_norm")])
        if rows > 4:
            jax.tree.map(np.testing.assert_array_equal, state.replace(step=before.step), before)
    assert [loss for loss, _ in finite] == [False, True, True]
    assert finite[1:] == [[True, False], [True, True]]
    assert int(state.step) == 3
    for name in ("params", "batch_stats", "average", "opt_state"):
        pairs = zip(*(jax.tree.leaves(getattr(s, name)) for s in (first, state)), strict=True)
        assert any(not np.array_equal(a, b) for a, b in pairs), name
