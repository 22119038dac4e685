"""Random changes of images and masks: geometry, then appearance. Pure, keyed, batched functions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.augmentation.appearance import random_appearance
from jaxlung.augmentation.draws import is_off
from jaxlung.augmentation.geometry import is_mirrored, random_affine, random_bend, warp
from jaxlung.config import AugmentConfig


def augment(
    key: jax.Array,
    image_BxHxWx1: jax.Array,
    mask_BxHxWxC: jax.Array,
    config: AugmentConfig,
    mirror: Sequence[int] = (),
    lungs: Sequence[int] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Augments each image with its own draw; geometry moves image and mask in one resampling.

    Args:
        key: a typed PRNG key; the result depends on it and on the other arguments only.
        image_BxHxWx1: float32 in [0, 1].
        mask_BxHxWxC: float32 in [0, 1], the share of each pixel that each structure covers.
        config: strengths; with all 0 the inputs come back, to rounding. Under `jax.jit` make it a
            static argument, so that changes of strength 0 cost nothing.
        mirror: for each structure the one that a left-right flip makes of it, as
            `structures.mirror_order` returns it; (): all stay what they are.
        lungs: the places of the structures in which an opacity may lie, as
            `structures.lung_places` returns them; None: all.

    Returns:
        image and mask, float32 in [0, 1] of the same shapes. What comes from outside of the image
        is 0 in both.

    Example:
        >>> image = jnp.ones((2, 16, 16, 1))
        >>> shapes = jax.eval_shape(
        ...     lambda key: augment(key, image, image, AugmentConfig()), jax.random.key(0)
        ... )
        >>> [(plane.shape, plane.dtype.name) for plane in shapes]
        [((2, 16, 16, 1), 'float32'), ((2, 16, 16, 1), 'float32')]
    """
    keys_B = jax.random.split(key, image_BxHxWx1.shape[0])

    def augment_one(
        key: jax.Array, image_HxWx1: jax.Array, mask_HxWxC: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 3)
        shape = image_HxWx1.shape[:2]
        matrix_2x3 = random_affine(keys[0], shape, config)
        bend_2xHxW = None if is_off(config.elastic) else random_bend(keys[1], shape, config.elastic)
        planes_HxWxN = jnp.concatenate([image_HxWx1, mask_HxWxC], axis=-1)
        moved_HxWxN = warp(planes_HxWxN, matrix_2x3, bend_2xHxW)
        moved_mask_HxWxC = moved_HxWxN[..., 1:]
        if any(i != of for i, of in enumerate(mirror)):
            flipped = is_mirrored(matrix_2x3)
            swapped_HxWxC = moved_mask_HxWxC[..., jnp.array(mirror)]
            moved_mask_HxWxC = jnp.where(flipped, swapped_HxWxC, moved_mask_HxWxC)
        can_be_ill_HxWxC = moved_mask_HxWxC
        count = mask_HxWxC.shape[-1]
        if lungs is not None and len(lungs) < count:
            can_be_ill_HxWxC *= np.isin(np.arange(count), lungs).reshape(1, 1, count)
        marked_HxWx1 = can_be_ill_HxWxC.max(-1, keepdims=True)
        lungs_HxWx1 = (marked_HxWx1 >= 0.5).astype(mask_HxWxC.dtype)
        image_HxWx1 = random_appearance(keys[2], moved_HxWxN[..., :1], lungs_HxWx1, config)
        return image_HxWx1, moved_mask_HxWxC

    return jax.vmap(augment_one)(keys_B, image_BxHxWx1, mask_BxHxWxC)
