"""Random maps of the plane, and resampling by them: turn, zoom, stretch, flip, shift, bend."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlung.augmentation.draws import is_off, smooth_field, uniform
from jaxlung.config import AugmentConfig


def random_affine(key: jax.Array, shape: tuple[int, ...], config: AugmentConfig) -> jax.Array:
    """Draws an affine map from output pixels to input pixels.

    Args:
        key: a typed PRNG key.
        shape: (H, W) of the image.
        config: the strengths.

    Returns:
        float32 [2, 3], which maps (row, column, 1) to (row, column).

    Example:
        >>> flip = AugmentConfig(flip=1.0, rotation=0.0, scale=0.0, aspect=0.0, shift=0.0)
        >>> draw = jax.jit(random_affine, static_argnums=(1, 2))
        >>> draw(jax.random.key(0), (8, 8), flip)[1].tolist()  # column c shows column 7 - c
        [0.0, -1.0, 7.0]
    """
    keys = jax.random.split(key, 5)
    angle = jnp.deg2rad(uniform(keys[0], config.rotation))
    zoom = jnp.exp(uniform(keys[1], jnp.log1p(config.scale)))
    aspect = jnp.exp(uniform(keys[2], jnp.log1p(config.aspect)) / 2)
    mirror = jnp.where(jax.random.bernoulli(keys[3], config.flip), -1.0, 1.0)
    shift_2 = uniform(keys[4], config.shift, (2,)) * jnp.array(shape, jnp.float32)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation_2x2 = jnp.array([[cos, -sin], [sin, cos]])
    # First the patient is turned, then the film stretched along its own sides, as by a resize that
    # does not keep the aspect.
    scale_2 = jnp.array([aspect, mirror / aspect]) / zoom
    if not is_off(config.squeeze):
        # A key of its own: the other draws are those without it.
        scale_2 *= _random_squeeze(jax.random.fold_in(key, len(keys)), config.squeeze)
    linear_2x2 = rotation_2x2 * scale_2[None, :]
    # Sums instead of matrix products, which have a lower precision on some accelerators.
    centre_2 = (jnp.array(shape, jnp.float32) - 1) / 2
    offset_2 = centre_2 - (linear_2x2 * (centre_2 + shift_2)[None, :]).sum(axis=1)
    return jnp.concatenate([linear_2x2, offset_2[:, None]], axis=1)


def _random_squeeze(key: jax.Array, squeeze: ArrayLike) -> jax.Array:
    """Draws by how much each side shrinks, float32 [2]: one of them in half of the draws."""
    keys = jax.random.split(key, 3)
    factor = jnp.exp(jax.random.uniform(keys[0]) * jnp.log1p(squeeze))
    factor = jnp.where(jax.random.bernoulli(keys[1]), factor, 1.0)
    is_side_2 = jnp.arange(2) == jax.random.randint(keys[2], (1,), 0, 2)
    return jnp.where(is_side_2, factor, 1.0)


def is_mirrored(matrix_2x3: jax.Array) -> jax.Array:
    """Says whether an affine map turns an image over, bool []: its determinant is negative."""
    (a, b, _), (c, d, _) = matrix_2x3
    mirrored: jax.Array = a * d - b * c < 0
    return mirrored


def random_bend(key: jax.Array, shape: tuple[int, ...], largest: ArrayLike) -> jax.Array:
    """Draws smooth displacements, float32 [2, H, W] in pixels, for `shape` (H, W).

    `largest` is their bound, as a fraction of each side.
    """
    fields = [smooth_field(part, shape, 5) for part in jax.random.split(key)]
    return jnp.stack([largest * side * field for side, field in zip(shape, fields, strict=True)])


def warp(
    planes_HxWxC: jax.Array, matrix_2x3: jax.Array, bend_2xHxW: jax.Array | None = None
) -> jax.Array:
    """Resamples planes bilinearly; what comes from outside is 0.

    Args:
        planes_HxWxC: float32.
        matrix_2x3: an output pixel shows the input at matrix @ (row, column, 1).
        bend_2xHxW: displacements that are added to it, in pixels.

    Returns:
        float32 [H, W, C].

    Example:
        >>> image = jnp.arange(4.0).reshape(2, 2, 1)
        >>> jax.jit(warp)(image, jnp.array([[1.0, 0, 0], [0, -1.0, 1.0]]))[..., 0].tolist()
        [[1.0, 0.0], [3.0, 2.0]]
    """
    height, width, channels = planes_HxWxC.shape
    rows_Hx1 = jnp.arange(height, dtype=jnp.float32)[:, None]
    columns_1xW = jnp.arange(width, dtype=jnp.float32)[None, :]
    y, x = (m[0] * rows_Hx1 + m[1] * columns_1xW + m[2] for m in matrix_2x3)
    if bend_2xHxW is not None:
        y, x = y + bend_2xHxW[0], x + bend_2xHxW[1]
    y0, x0 = jnp.floor(y), jnp.floor(x)
    flat = planes_HxWxC.reshape(height * width, channels)
    total = jnp.zeros_like(planes_HxWxC)
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = y0 + dy, x0 + dx
            weight = (1 - jnp.abs(y - row)) * (1 - jnp.abs(x - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
            corner = flat[index.astype(jnp.int32)]
            total += jnp.where(inside, weight, 0.0)[..., None] * corner
    return total
