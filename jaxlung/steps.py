"""The state of a training and the pure steps on it. Nothing here is jitted; `sharding` does that.

A batch is a dict of arrays: image uint8 [B, S, S], mask uint8 [B, S, S] of 0 and 1, and, for
evaluation, valid bool [B], False for the padding of the last batch.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from jaxlung import metrics
from jaxlung.augmentation import augment
from jaxlung.config import AugmentConfig, LossConfig, OptimConfig
from jaxlung.losses import segmentation_loss
from jaxlung.model import UNet, lung_probability, to_mask
from jaxlung.preprocess import normalize

Batch = dict[str, jax.Array]


def _as_it_is(tree: Any) -> Any:
    return tree


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; arrays only."""

    step: jax.Array  # int32 []: updates done
    params: Any  # float32
    batch_stats: Any  # float32; {} unless the norm is "batch"
    opt_state: Any
    average: Any = flax.struct.field(default_factory=dict)  # of params, float32; {} if not kept

    @property
    def variables(self) -> dict[str, Any]:
        """What `UNet.apply` takes to evaluate or predict: the average where one is kept."""
        return {"params": self.average or self.params, "batch_stats": self.batch_stats}


def make_optimizer(
    config: OptimConfig, *, steps_per_epoch: int, num_epochs: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Adam (AdamW with weight decay), linear warm-up, cosine decay; and its schedule."""
    schedule = make_schedule(config, steps_per_epoch=steps_per_epoch, num_epochs=num_epochs)
    return make_adam(config, schedule), schedule


def make_schedule(config: OptimConfig, *, steps_per_epoch: int, num_epochs: int) -> optax.Schedule:
    """The learning rate by step: linear warm-up, cosine decay."""
    total = steps_per_epoch * num_epochs
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total - 1)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=total,
        end_value=config.learning_rate * config.final_fraction,
    )


def make_adam(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam (AdamW with weight decay) with the clipping of a config, at a schedule's rates."""
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if config.weight_decay:
        adam = optax.adamw(schedule, weight_decay=config.weight_decay, mask=_kernels)
    else:
        adam = optax.adam(schedule)
    return optax.chain(*parts, adam)


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1 and math.prod(p.shape) > p.shape[-1], params)


def init_state(
    key: jax.Array,
    model: UNet,
    optimizer: optax.GradientTransformation,
    size: int,
    *,
    ema: bool = False,
) -> TrainState:
    """Fresh parameters for [B, size, size, 1] images; with `ema`, an average of them is kept."""
    variables = model.init(key, jnp.zeros((1, size, size, 1)))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        average=params if ema else {},
    )


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: UNet,
    optimizer: optax.GradientTransformation,
    augment_config: AugmentConfig,
    loss_config: LossConfig,
    key: jax.Array,
    ema: float = 0.0,
    accumulate: int = 1,
    spread_rows: Callable[[jax.Array], jax.Array] = _as_it_is,
    gather_params: Callable[[Any], Any] = _as_it_is,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update; its randomness is fold_in(key, state.step), so a resumed run repeats it.

    Where the loss or the gradient is not finite, `step` alone counts on and all else is kept.

    Args:
        accumulate: parts of the batch that go through the network one after another. The batch is
            augmented as a whole, so that the update does not depend on it, but for rounding,
            dropout and batch statistics.
        spread_rows, gather_params: where images and parameters lie while the network runs:
            `sharding` has them.

    Returns:
        the next state, and the batch's mean loss and gradient norm (float32 scalars) before it.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    image_BxSxSx1 = normalize(batch["image"])
    mask_BxSxSx1 = batch["mask"].astype(jnp.float32)[..., None]
    image_BxSxSx1, mask_BxSxSx1 = augment(augment_key, image_BxSxSx1, mask_BxSxSx1, augment_config)
    image_BxSxSx1, mask_BxSxSx1 = spread_rows(image_BxSxSx1), spread_rows(mask_BxSxSx1)

    def mean_loss(params: Any, batch_stats: Any, part: Any, key: jax.Array) -> Any:
        image_BxSxSx1, mask_BxSxSx1 = part
        logits, updated = model.apply(
            {"params": gather_params(params), "batch_stats": batch_stats},
            image_BxSxSx1,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        loss_B = segmentation_loss(logits, mask_BxSxSx1, **dataclasses.asdict(loss_config))
        return loss_B.mean(), updated.get("batch_stats", {})

    grads_of = jax.value_and_grad(mean_loss, has_aux=True)
    whole = (image_BxSxSx1, mask_BxSxSx1)
    if accumulate == 1:
        (loss, batch_stats), grads = grads_of(state.params, state.batch_stats, whole, dropout_key)
    else:
        loss, batch_stats, grads = _accumulated(
            grads_of, state.params, state.batch_stats, whole, dropout_key, accumulate, spread_rows
        )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    next_state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=_moved_average(state, params, ema) if ema else {},
    )
    grad_norm = optax.tree.norm(grads)
    skipped_state = dataclasses.replace(state, step=state.step + 1)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    next_state = jax.tree.map(functools.partial(jnp.where, finite), next_state, skipped_state)
    return next_state, {"loss": loss, "grad_norm": grad_norm}


def _accumulated(
    grads_of: Callable[..., Any],
    params: Any,
    batch_stats: Any,
    batch: Any,
    key: jax.Array,
    accumulate: int,
    spread_rows: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, Any, Any]:
    """The means of the parts' losses and gradients, and the batch statistics after the last."""

    def split(x_Bx: jax.Array) -> jax.Array:
        # Every accumulate-th row makes a part, so that each device has its own rows of every part.
        return jnp.moveaxis(x_Bx.reshape(-1, accumulate, *x_Bx.shape[1:]), 1, 0)

    def one(carry: Any, numbered: Any) -> Any:
        loss, batch_stats, grads = carry
        i, part = numbered
        part = jax.tree.map(spread_rows, part)
        (part_loss, batch_stats), part_grads = grads_of(
            params, batch_stats, part, jax.random.fold_in(key, i)
        )
        return (loss + part_loss, batch_stats, jax.tree.map(jnp.add, grads, part_grads)), None

    start = (jnp.zeros(()), batch_stats, jax.tree.map(jnp.zeros_like, params))
    numbered = (jnp.arange(accumulate), jax.tree.map(split, batch))
    (loss, batch_stats, grads), _ = jax.lax.scan(one, start, numbered)
    return loss / accumulate, batch_stats, jax.tree.map(lambda g: g / accumulate, grads)


def _moved_average(state: TrainState, params: Any, decay: float) -> Any:
    """The exponential moving average one step on, of a shorter memory in the first steps."""
    kept = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    return optax.incremental_update(params, state.average, 1 - kept)


def predict_step(
    variables: Any,
    image_BxSxS: jax.Array,
    *,
    model: UNet,
    tta: bool = False,
    spread_rows: Callable[[jax.Array], jax.Array] = _as_it_is,
    gather_params: Callable[[Any], Any] = _as_it_is,
) -> jax.Array:
    """Lung probabilities, float32 [B, S, S], of uint8 canvases.

    With `tta` (test-time augmentation) the mean of those of each image and of its mirror image,
    mirrored back.
    """
    variables = {**variables, "params": gather_params(variables["params"])}
    image_BxSxS = spread_rows(image_BxSxS)

    def probability(image_BxSxS: jax.Array) -> jax.Array:
        return lung_probability(_logits(model, variables, image_BxSxS))

    if not tta:
        return probability(image_BxSxS)
    return (probability(image_BxSxS) + probability(image_BxSxS[:, :, ::-1])[:, :, ::-1]) / 2


def mean_of_members(step: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """step(variables, image_BxSxS) for variables of several members, stacked [M, ...]: the mean."""

    def mean(variables_M: Any, image_BxSxS: jax.Array) -> jax.Array:
        return jax.vmap(step, in_axes=(0, None))(variables_M, image_BxSxS).mean(0)

    return mean


def _logits(model: UNet, variables: Any, image_BxSxS: jax.Array) -> Any:
    return model.apply(variables, normalize(image_BxSxS))


def eval_step(
    variables: Any,
    batch: Batch,
    *,
    model: UNet,
    loss_config: LossConfig,
    threshold: float,
    spread_rows: Callable[[jax.Array], jax.Array] = _as_it_is,
    gather_params: Callable[[Any], Any] = _as_it_is,
) -> dict[str, Any]:
    """Per-image results of a batch at the network's size, padding included (see `valid`).

    Returns:
        loss float32 [B], counts (`metrics.Counts` of [B]), valid bool [B].
    """
    variables = {**variables, "params": gather_params(variables["params"])}
    logits = _logits(model, variables, spread_rows(batch["image"]))
    truth_BxSxSx1 = batch["mask"].astype(jnp.float32)[..., None]
    prediction_BxSxS = to_mask(lung_probability(logits), threshold)
    return {
        "loss": segmentation_loss(logits, truth_BxSxSx1, **dataclasses.asdict(loss_config)),
        "counts": metrics.count_pixels(prediction_BxSxS, batch["mask"] > 0),
        "valid": batch["valid"],
    }
