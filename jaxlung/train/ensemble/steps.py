"""The members of an ensemble: their configs, and pure steps on all of them, stacked [M, ...].

Member i is what a single run of `member_configs(config)[i]` is. It is one of `jax.vmap`'s rows: its
state, its key and its learning rates have a leading axis M; the batch has one where the members
train on different folds, and is shared by all of them otherwise.
"""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from jaxlung import steps
from jaxlung.config import Config
from jaxlung.model import UNet
from jaxlung.steps import TrainState


@flax.struct.dataclass
class EnsembleState:
    """Everything that training changes; arrays only."""

    members: TrainState  # each leaf [M, ...]; `step` int32 [M]
    best: Any  # `TrainState.variables` of each one's best validation so far, [M, ...]


def init_members(keys_M: jax.Array, **options: Any) -> EnsembleState:
    """`steps.init_state` of each key; `options` are what it takes beside it."""
    members = jax.vmap(lambda key: steps.init_state(key, **options))(keys_M)
    # Buffers of its own: the members' are given to the step to write to.
    return EnsembleState(members, jax.tree.map(jnp.copy, members.variables))


def rate_table(configs: list[Config], steps_per_epoch: list[int]) -> np.ndarray:
    """Each member's learning rate at each of its steps, float32 [M, T]."""
    rows = []
    for config, count in zip(configs, steps_per_epoch, strict=True):
        total = count * config.train.num_epochs
        schedule = steps.make_schedule(
            config.optim, steps_per_epoch=count, num_epochs=config.train.num_epochs
        )
        rows.append(np.asarray(jax.vmap(schedule)(jnp.arange(total)), np.float32))
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row)), mode="edge") for row in rows])


def train_members(
    members: TrainState,
    batch: steps.Batch,
    keys_M: jax.Array,
    rates_MxT: jax.Array,
    active_M: jax.Array,
    *,
    config: Config,
    model: UNet,
    shared: bool,
    **options: Any,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """`steps.train_step` of each member that is active; the others stay as they are.

    Args:
        batch: [B, ...] where `shared`, else [M, B, ...].
        keys_M: of `train_step`.
        rates_MxT: learning rates by step.
        active_M: bool.
        options: what else `train_step` takes.

    Returns:
        the next states, and `train_step`'s metrics, [M] each.
    """

    def one(state: TrainState, batch: Any, key: Any, rates_T: Any, active: Any) -> Any:
        # The same optimiser for all but for its rates, which are data: one program.
        optimizer = steps.make_adam(config.optim, lambda count: rates_T[count])
        next_state, metrics = steps.train_step(
            state,
            batch,
            model=model,
            optimizer=optimizer,
            augment_config=config.augment,
            loss_config=config.loss,
            key=key,
            **options,
        )
        return jax.tree.map(functools.partial(jnp.where, active), next_state, state), metrics

    axes = (0, None if shared else 0, 0, 0, 0)
    return jax.vmap(one, in_axes=axes)(members, batch, keys_M, rates_MxT, active_M)


def evaluate_members(
    variables_M: Any, batch: steps.Batch, *, shared: bool, **options: Any
) -> dict[str, Any]:
    """`steps.eval_step` of each member, [M, B] each; the batch and `shared` as in training."""
    step: Any = functools.partial(steps.eval_step, **options)
    return jax.vmap(step, in_axes=(0, None if shared else 0))(variables_M, batch)


def keep_best(best_M: Any, variables_M: Any, improved_M: jax.Array) -> Any:
    """The variables of the members that have improved, and the best of the others."""

    def one(improved: jax.Array, new: Any, old: Any) -> Any:
        return jax.tree.map(functools.partial(jnp.where, improved), new, old)

    return jax.vmap(one)(improved_M, variables_M, best_M)
