"""Random draws that geometry and appearance share."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def uniform(key: jax.Array, bound: ArrayLike, shape: tuple[int, ...] = ()) -> jax.Array:
    """Draws float32 numbers of a shape, uniform in +-bound."""
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0) * bound


def smooth_field(key: jax.Array, shape: tuple[int, ...], nodes: int) -> jax.Array:
    """Draws a smooth field [H, W] in [-1, 1]: nodes x nodes uniform values, cubic between them."""
    coarse = uniform(key, 1.0, (nodes, nodes))
    return jnp.clip(jax.image.resize(coarse, shape, "cubic"), -1.0, 1.0)


def is_off(strength: ArrayLike) -> bool:
    """Whether a strength is known to be 0 while tracing, so that its change need not be traced."""
    return isinstance(strength, int | float) and strength == 0
