"""Augmentation: one pure, keyed, batched function that runs inside the jitted train step."""

import jax
import jax.numpy as jnp

from jaxlung import appearance
from jaxlung.appearance import uniform
from jaxlung.config import AugmentConfig


def augment(
    key: jax.Array, image_BxHxWx1: jax.Array, mask_BxHxWx1: jax.Array, config: AugmentConfig
) -> tuple[jax.Array, jax.Array]:
    """Augments each image with its own draw; geometry moves image and mask in one resampling.

    Args:
        key: a typed PRNG key; the result is a function of it and the inputs alone.
        image_BxHxWx1: float32 in [0, 1].
        mask_BxHxWx1: float32, 0 or 1.
        config: strengths; all zero returns the inputs, to rounding.

    Returns:
        image float32 in [0, 1] and mask float32 of 0 and 1, of the same shapes. What the geometry
        brings in from outside the image is 0 in both.
    """
    keys_B = jax.random.split(key, image_BxHxWx1.shape[0])

    def one(key: jax.Array, image_HxWx1: jax.Array, mask_HxWx1: jax.Array):
        keys = jax.random.split(key, 3)
        shape = image_HxWx1.shape[:2]
        matrix_2x3 = random_affine(keys[0], shape, config)
        bend_2xHxW = None if _off(config.elastic) else random_bend(keys[1], shape, config.elastic)
        both_HxWx2 = jnp.concatenate([image_HxWx1, mask_HxWx1], axis=-1)
        moved_HxWx2 = warp(both_HxWx2, matrix_2x3, bend_2xHxW)
        moved_mask_HxWx1 = (moved_HxWx2[..., 1:] >= 0.5).astype(mask_HxWx1.dtype)
        image_HxWx1 = _appearance(keys[2], moved_HxWx2[..., :1], moved_mask_HxWx1, config)
        return image_HxWx1, moved_mask_HxWx1

    return jax.vmap(one)(keys_B, image_BxHxWx1, mask_BxHxWx1)


def _appearance(
    key: jax.Array, image_HxWx1: jax.Array, mask_HxWx1: jax.Array, config: AugmentConfig
) -> jax.Array:
    """Patient, exposure, detector, film: the order in which a radiograph comes about."""
    keys = jax.random.split(key, 7)
    x = image_HxWx1
    if not _off(config.opacity):
        x = appearance.random_opacity(keys[0], x, mask_HxWx1, config.opacity)
    if not _off(config.shade):
        x = appearance.random_shade(keys[1], x, config.shade)
    x = appearance.random_tone(keys[2], x, config)
    if not _off(config.blur):
        x = appearance.random_blur(keys[3], x, config.blur)
    if not _off(config.noise):
        x = appearance.random_noise(keys[4], x, config.noise)
    if not _off(config.invert):
        x = appearance.random_invert(keys[5], x, config.invert)
    if not _off(config.occlusion):
        x = appearance.random_occlusion(keys[6], x, config.occlusion)
    return x


def _off(strength: jax.typing.ArrayLike) -> bool:
    """Whether a strength is known to be 0 while tracing, so that nothing need be computed."""
    return isinstance(strength, int | float) and strength == 0


def random_affine(key: jax.Array, shape: tuple[int, ...], config: AugmentConfig) -> jax.Array:
    """A random map [2, 3] from output to input pixels (row, column), for shape (H, W)."""
    keys = jax.random.split(key, 5)
    angle = jnp.deg2rad(uniform(keys[0], config.rotation))
    zoom = jnp.exp(uniform(keys[1], jnp.log1p(config.scale)))
    aspect = jnp.exp(uniform(keys[2], jnp.log1p(config.aspect)) / 2)
    mirror = jnp.where(jax.random.bernoulli(keys[3], config.flip), -1.0, 1.0)
    shift_2 = uniform(keys[4], config.shift, (2,)) * jnp.array(shape, jnp.float32)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation_2x2 = jnp.array([[cos, -sin], [sin, cos]])
    # The patient is turned, then the film stretched along its own sides: what a resize that does
    # not keep the aspect makes of a tilted patient.
    scale_2 = jnp.array([aspect, mirror / aspect]) / zoom
    linear_2x2 = rotation_2x2 * scale_2[None, :]
    # Products written out: matrix multiplication has a lower precision on some accelerators.
    centre_2 = (jnp.array(shape, jnp.float32) - 1) / 2
    offset_2 = centre_2 - (linear_2x2 * (centre_2 + shift_2)[None, :]).sum(axis=1)
    return jnp.concatenate([linear_2x2, offset_2[:, None]], axis=1)


def random_bend(key: jax.Array, shape: tuple[int, ...], largest: jax.typing.ArrayLike) -> jax.Array:
    """Smooth displacements [2, H, W] in pixels, up to `largest` of each side, for shape (H, W)."""
    fields = [appearance.smooth_field(part, shape, 5) for part in jax.random.split(key)]
    return jnp.stack([largest * side * field for side, field in zip(shape, fields, strict=True)])


def warp(
    planes_HxWxC: jax.Array, matrix_2x3: jax.Array, bend_2xHxW: jax.Array | None = None
) -> jax.Array:
    """Resamples bilinearly at matrix @ (row, column, 1) + bend of each output pixel; 0 outside."""
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
