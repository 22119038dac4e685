"""Random changes of image and mask: geometry, then appearance, as one keyed function of a batch."""

import jax
import jax.numpy as jnp

from jaxlung.augmentation import appearance
from jaxlung.augmentation.geometry import random_affine, random_bend, warp
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
