"""The state of a training and the pure steps on it; `jaxlung.devices.mesh` jits them.

A batch is a dict of arrays. image is uint8 [B, S, S]. mask is uint8 [B, S, S, C] of 0 to 255, the
coverage by each of the C structures in `model.outputs`. labelled is bool [B, C], True where a mask
of the structure was drawn for the image: losses and scores count no other. For evaluation, valid is
bool [B], False for the padding of the last batch.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from jaxlung import metrics
from jaxlung.augmentation import augment
from jaxlung.config import AugmentConfig, LossConfig
from jaxlung.forward import WHOLE, Placement, compute_logits
from jaxlung.losses import mean_over_labelled, segmentation_loss
from jaxlung.model import UNet, to_mask, to_probability
from jaxlung.preprocess import is_lung, normalize, to_share

Batch = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; arrays only.

    Example:
        >>> state = TrainState(jnp.int32(0), {"w": jnp.ones(2)}, batch_stats={}, opt_state=())
        >>> state.replace(average={"w": jnp.zeros(2)}).variables["params"]["w"].tolist()
        [0.0, 0.0]
    """

    step: jax.Array  # int32 []: updates done
    params: Any  # float32
    batch_stats: Any  # float32; {} unless the norm is "batch"
    opt_state: Any
    average: Any = flax.struct.field(default_factory=dict)  # of params, float32; {} if not kept

    @property
    def variables(self) -> dict[str, Any]:
        """What `UNet.apply` takes to evaluate or predict: the average where one is kept."""
        return {"params": self.average or self.params, "batch_stats": self.batch_stats}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the steps do, beside their arrays: the network, the loss, how it is minimised."""

    model: UNet
    optimizer: optax.GradientTransformation
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    ema: float = 0.0  # decay of the parameters' moving average; 0: none is kept
    # Parts of a batch that go through the network one after another. The batch is augmented as a
    # whole, so that the update depends on it by rounding, dropout and batch statistics alone.
    accumulate: int = 1
    threshold: float = 0.5  # a pixel is lung where its probability is at least this
    mirror: tuple[int, ...] = ()  # of the outputs: `structures.mirror_order`; (): none has a side
    lungs: tuple[int, ...] | None = None  # as `structures.lung_places` has them; None: all outputs
    keeps_masks: bool = False  # `eval_step` returns its masks, which the host cleans up and counts

    def loss_of_one(self, logits_BxSxSx1: jax.Array, mask_BxSxSx1: jax.Array) -> jax.Array:
        """Computes each image's loss for one structure, float32 [B]."""
        return segmentation_loss(logits_BxSxSx1, mask_BxSxSx1, **dataclasses.asdict(self.loss))


def init_state(key: jax.Array, recipe: Recipe, size: int) -> TrainState:
    """Returns random parameters for [B, size, size, 1] images, and an optimiser's first state."""
    variables = recipe.model.init(key, jnp.zeros((1, size, size, 1)))
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=recipe.optimizer.init(params),
        average=params if recipe.ema else {},
    )


def train_step(
    state: TrainState, batch: Batch, key: jax.Array, recipe: Recipe, place: Placement = WHOLE
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Makes one update; its randomness is fold_in(key, state.step), so a resumed run repeats it.

    Where the loss or the gradient is not finite, `step` alone counts on and all else is kept.

    Args:
        state: float32 parameters and what belongs to them.
        batch: image uint8 [B, S, S], mask uint8 [B, S, S, C], labelled bool [B, C].
        key: of the whole run.
        recipe: what to do.
        place: where images and parameters lie meanwhile.

    Returns:
        the next state, and the batch's mean loss and gradient norm (float32 scalars) before it.

    Example:
        >>> recipe, key = Recipe(UNet(width=2, depth=1), optax.sgd(0.1)), jax.random.key(0)
        >>> image, labelled = jnp.ones((2, 16, 16), jnp.uint8), jnp.ones((2, 1), bool)
        >>> batch = {"image": image, "mask": image[..., None], "labelled": labelled}
        >>> init = functools.partial(init_state, recipe=recipe, size=16)
        >>> step = functools.partial(train_step, recipe=recipe)
        >>> jax.eval_shape(lambda: step(init(key), batch, key)[1]["loss"])  # jax.jit computes it
        ShapeDtypeStruct(shape=(), dtype=float32)
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    image_BxSxSx1 = normalize(batch["image"])
    mask_BxSxSxC = to_share(batch["mask"])
    image_BxSxSx1, mask_BxSxSxC = augment(
        augment_key, image_BxSxSx1, mask_BxSxSxC, recipe.augment, recipe.mirror, recipe.lungs
    )
    images_and_masks = place.spread_rows(image_BxSxSx1), place.spread_rows(mask_BxSxSxC)
    examples = *images_and_masks, batch["labelled"]

    def mean_loss(params: Any, batch_stats: Any, examples: Any, key: jax.Array) -> Any:
        image_BxSxSx1, mask_BxSxSxC, labelled_BxC = examples
        logits, updated = recipe.model.apply(
            {"params": place.gather_params(params), "batch_stats": batch_stats},
            image_BxSxSx1,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        loss_B = mean_over_labelled(recipe.loss_of_one, logits, mask_BxSxSxC, labelled_BxC)
        return loss_B.mean(), updated.get("batch_stats", {})

    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
    if recipe.accumulate == 1:
        (loss, batch_stats), grads = value_and_grad(
            state.params, state.batch_stats, examples, dropout_key
        )
    else:
        loss, batch_stats, grads = _accumulate(
            value_and_grad, state, examples, dropout_key, recipe.accumulate, place
        )
    updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    next_state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=_move_average(state, params, recipe.ema) if recipe.ema else {},
    )
    grad_norm = optax.tree.norm(grads)
    skipped_state = dataclasses.replace(state, step=state.step + 1)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    next_state = jax.tree.map(functools.partial(jnp.where, finite), next_state, skipped_state)
    return next_state, {"loss": loss, "grad_norm": grad_norm}


def _accumulate(
    value_and_grad: Callable[..., Any],
    state: TrainState,
    examples: Any,
    key: jax.Array,
    parts: int,
    place: Placement,
) -> tuple[jax.Array, Any, Any]:
    """Returns the means of the parts' losses and gradients, and the last batch statistics."""

    def split(x_Bx: jax.Array) -> jax.Array:
        # A part is every parts-th row, so that each device has its own rows of every part.
        return jnp.moveaxis(x_Bx.reshape(-1, parts, *x_Bx.shape[1:]), 1, 0)

    def add_part(carry: Any, numbered: Any) -> Any:
        loss, batch_stats, grads = carry
        i, part = numbered
        image_BxSxSx1, mask_BxSxSxC, labelled_BxC = part
        part = place.spread_rows(image_BxSxSx1), place.spread_rows(mask_BxSxSxC), labelled_BxC
        (part_loss, batch_stats), part_grads = value_and_grad(
            state.params, batch_stats, part, jax.random.fold_in(key, i)
        )
        return (loss + part_loss, batch_stats, jax.tree.map(jnp.add, grads, part_grads)), None

    start = (jnp.zeros(()), state.batch_stats, jax.tree.map(jnp.zeros_like, state.params))
    numbered = (jnp.arange(parts), jax.tree.map(split, examples))
    (loss, batch_stats, grads), _ = jax.lax.scan(add_part, start, numbered)
    return loss / parts, batch_stats, jax.tree.map(lambda g: g / parts, grads)


def _move_average(state: TrainState, params: Any, decay: float) -> Any:
    """Returns the exponential moving average one step on; its memory is short at first."""
    kept = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    return optax.incremental_update(params, state.average, 1 - kept)


def eval_step(
    variables: Any, batch: Batch, recipe: Recipe, place: Placement = WHOLE
) -> dict[str, Any]:
    """Scores each image of a batch at the network's size, padding included (see `valid`).

    Args:
        variables: `TrainState.variables`.
        batch: image uint8 [B, S, S], mask uint8 [B, S, S, C], labelled bool [B, C], valid bool [B].
        recipe: its model, loss and threshold count here.
        place: where images and parameters lie meanwhile.

    Returns:
        loss float32 [B], counts (`metrics.Counts` of [B, C]), labelled and valid as given; where
        the recipe keeps masks also the prediction and the truth, bool [B, S, S, C].
    """
    logits = compute_logits(variables, place.spread_rows(batch["image"]), recipe.model, place)
    mask_BxSxSxC, labelled_BxC = to_share(batch["mask"]), batch["labelled"]
    truth_BxSxSxC = is_lung(batch["mask"])
    prediction_BxSxSxC = to_mask(to_probability(logits), recipe.threshold)
    masks = {"prediction": prediction_BxSxSxC, "truth": truth_BxSxSxC}
    return {
        "loss": mean_over_labelled(recipe.loss_of_one, logits, mask_BxSxSxC, labelled_BxC),
        "counts": metrics.count_pixels_of_each(prediction_BxSxSxC, truth_BxSxSxC),
        "labelled": labelled_BxC,
        "valid": batch["valid"],
        **(masks if recipe.keeps_masks else {}),
    }
