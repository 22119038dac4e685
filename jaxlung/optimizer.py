"""The optimiser and its learning-rate schedule, as optax has them; config.optim chooses both."""

import math
from typing import Any

import jax
import optax

from jaxlung.config import OptimConfig


def make_optimizer(
    config: OptimConfig, *, steps_per_epoch: int, num_epochs: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns Adam (AdamW with weight decay) with gradient clipping, and its schedule.

    Args:
        config: the settings; `clip_norm` bounds the gradient's global norm, 0 leaves it free.
        steps_per_epoch: updates in an epoch.
        num_epochs: the schedule's length.
    """
    schedule = make_schedule(config, steps_per_epoch=steps_per_epoch, num_epochs=num_epochs)
    return make_adam(config, schedule), schedule


def count_updates(opt_state: Any) -> int:
    """Returns the updates that an optimiser has made: steps that were skipped do not count.

    Example:
        >>> optimizer = optax.adam(0.1)
        >>> count_updates(optimizer.init({"w": 0.0}))
        0
    """
    counts = optax.tree_utils.tree_get_all_with_path(opt_state, "count")
    return max(int(count) for _, count in counts)


def make_schedule(config: OptimConfig, *, steps_per_epoch: int, num_epochs: int) -> optax.Schedule:
    """Returns the learning rate by step: linear warm-up, then cosine decay.

    The decay follows Loshchilov & Hutter 2017, "SGDR" (arXiv:1608.03983), without restarts.

    Args:
        config: the peak, the warm-up's epochs, and the share of the peak at the end.
        steps_per_epoch: updates in an epoch.
        num_epochs: the schedule's length.

    Example:
        >>> config = OptimConfig(learning_rate=0.1, warmup_epochs=1, final_fraction=0.5)
        >>> schedule = make_schedule(config, steps_per_epoch=10, num_epochs=5)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 30, 50)]
        [0.0, 0.05, 0.1, 0.075, 0.05]
    """
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
    """Returns Adam, or AdamW where there is weight decay, after the clipping of gradients.

    Adam: Kingma & Ba 2015 (arXiv:1412.6980). AdamW: Loshchilov & Hutter 2019 (arXiv:1711.05101);
    it decays kernels alone, not biases or scales.
    """
    clipping = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if config.weight_decay:
        adam = optax.adamw(schedule, weight_decay=config.weight_decay, mask=_are_kernels)
    else:
        adam = optax.adam(schedule)
    return optax.chain(*clipping, adam)


def _are_kernels(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1 and math.prod(p.shape) > p.shape[-1], params)
