"""Losses per image, from logits; the caller reduces."""

import jax
import jax.numpy as jnp
import optax


def soft_dice_loss(logits_BxHxWx1: jax.Array, mask_BxHxWx1: jax.Array) -> jax.Array:
    """1 - 2|A n B| / (|A| + |B|) with the lung probabilities as A.

    The linear denominator of Drozdzal et al. 2016 (arXiv:1608.04117), not V-Net's squares.

    Args:
        logits_BxHxWx1: float32.
        mask_BxHxWx1: float32, 0 or 1.

    Returns:
        float32 [B] in [0, 1]. One pixel is added to numerator and denominator, so that an empty
        mask with a vanishing prediction has loss 0 and a finite gradient.
    """
    probability = jax.nn.sigmoid(logits_BxHxWx1)
    axes = (1, 2, 3)
    intersection_B = (probability * mask_BxHxWx1).sum(axes)
    total_B = probability.sum(axes) + mask_BxHxWx1.sum(axes)
    return 1 - (2 * intersection_B + 1) / (total_B + 1)


def bce_loss(logits_BxHxWx1: jax.Array, mask_BxHxWx1: jax.Array) -> jax.Array:
    """Binary cross-entropy, the mean over pixels: float32 [B], in nats."""
    return optax.sigmoid_binary_cross_entropy(logits_BxHxWx1, mask_BxHxWx1).mean((1, 2, 3))


def segmentation_loss(
    logits_BxHxWx1: jax.Array, mask_BxHxWx1: jax.Array, *, dice: float = 1.0, bce: float = 0.0
) -> jax.Array:
    """dice * soft Dice loss + bce * binary cross-entropy: float32 [B]."""
    loss_B = jnp.zeros(logits_BxHxWx1.shape[0], jnp.float32)
    if dice:
        loss_B += dice * soft_dice_loss(logits_BxHxWx1, mask_BxHxWx1)
    if bce:
        loss_B += bce * bce_loss(logits_BxHxWx1, mask_BxHxWx1)
    return loss_B
