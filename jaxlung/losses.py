"""Losses of each image, from logits; the caller takes their mean.

A mask may be soft: the share of each pixel that lung covers. The losses are least where the
probability is that share. Each loss is of one structure; `mean_over_labelled` joins several.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def soft_dice_loss(
    logits_BxHxWx1: jax.Array,
    mask_BxHxWx1: jax.Array,
    *,
    tversky: float = 0.5,
    smooth: float = 1.0,
) -> jax.Array:
    """Computes `1 - 2|A n B| / (|A| + |B|)`: A is the lung probabilities, B is the mask.

    The denominator is linear, as in Drozdzal et al. 2016 (arXiv:1608.04117); V-Net has squares.
    The intersection is the sum of the smaller of the two, which for masks of 0 and 1 is that of
    their products. For soft masks the product would be least lossy with probabilities of 0 and 1
    alone (Wang et al. 2023, "Dice Semimetric Losses", arXiv:2303.16296).

    Args:
        logits_BxHxWx1: float32.
        mask_BxHxWx1: float32 in [0, 1].
        tversky: the share of false positives in TP / (TP + share FP + (1 - share) FN) (Salehi et
            al. 2017, arXiv:1706.05721); 0.5 makes it Dice.
        smooth: pixels that are added to numerator and denominator, above 0. An empty mask with a
            vanishing prediction has loss 0 and a finite gradient by them. Where many masks are
            empty, as in CT, more pixels keep their losses from outweighing all others: a
            prediction of P pixels has P / (P + smooth).

    Returns:
        float32 [B] in [0, 1].

    Example:
        >>> mask = jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)
        >>> right, wrong = 20 * (2 * mask - 1), 20 * (1 - 2 * mask)
        >>> [round(float(soft_dice_loss(logits, mask)[0]), 2) for logits in (right, wrong)]
        [0.0, 0.67]
    """
    probability = jax.nn.sigmoid(logits_BxHxWx1)
    axes = (1, 2, 3)
    intersection_B = jnp.minimum(probability, mask_BxHxWx1).sum(axes)
    total_B = 2 * (tversky * probability.sum(axes) + (1 - tversky) * mask_BxHxWx1.sum(axes))
    return 1 - (2 * intersection_B + smooth) / (total_B + smooth)


def bce_loss(
    logits_BxHxWx1: jax.Array, mask_BxHxWx1: jax.Array, *, robust: float = 0.0, edge: float = 0.0
) -> jax.Array:
    """Computes the binary cross-entropy, as the mean over pixels.

    Args:
        logits_BxHxWx1: float32.
        mask_BxHxWx1: float32 in [0, 1].
        robust: q of the generalised cross-entropy (1 - p^q) / q, with p the probability of the
            true class (Zhang and Sabuncu 2018, arXiv:1805.07836). Wrong labels move it less. Its
            limit at 0 is the cross-entropy.
        edge: pixels within 2 of the mask's outline have weight 1 + edge, all others 1.

    Returns:
        float32 [B], at least 0; in nats where robust and edge are 0.

    Example:
        >>> zeros = jnp.zeros((1, 4, 4, 1))
        >>> round(float(bce_loss(zeros, zeros)[0]), 4)  # log 2
        0.6931
    """
    loss: jax.Array = optax.sigmoid_binary_cross_entropy(logits_BxHxWx1, mask_BxHxWx1)
    if robust:
        loss = -jnp.expm1(-robust * loss) / robust
    if edge:
        loss *= 1 + edge * _near_outline(mask_BxHxWx1)
    return loss.mean((1, 2, 3))


def _near_outline(mask_BxHxWx1: jax.Array, reach: int = 2) -> jax.Array:
    """Returns 1 where both mask and background lie within `reach` pixels, else 0."""
    sides = 2 * reach + 1
    window, one = (1, sides, sides, 1), (1, 1, 1, 1)
    high: jax.Array = jax.lax.reduce_window(
        mask_BxHxWx1, -jnp.inf, jax.lax.max, window, one, "SAME"
    )
    low: jax.Array = jax.lax.reduce_window(mask_BxHxWx1, jnp.inf, jax.lax.min, window, one, "SAME")
    return high - low


def segmentation_loss(
    logits_BxHxWx1: jax.Array,
    mask_BxHxWx1: jax.Array,
    *,
    dice: float = 1.0,
    bce: float = 0.0,
    tversky: float = 0.5,
    smooth: float = 1.0,
    robust: float = 0.0,
    edge: float = 0.0,
) -> jax.Array:
    """Computes dice * `soft_dice_loss` + bce * `bce_loss`.

    Args:
        logits_BxHxWx1: float32.
        mask_BxHxWx1: float32 in [0, 1].
        dice, bce: the weights of the two losses; a loss of weight 0 is not computed.
        tversky, smooth: as in `soft_dice_loss`.
        robust, edge: as in `bce_loss`.

    Returns:
        float32 [B].

    Example:
        >>> mask = jnp.ones((1, 4, 4, 1))
        >>> loss_B = segmentation_loss(20 * mask, mask, dice=1.0, bce=0.5)
        >>> loss_B.shape, round(float(loss_B[0]), 4)
        ((1,), 0.0)
    """
    loss_B = jnp.zeros(logits_BxHxWx1.shape[0], jnp.float32)
    if dice:
        loss_B += dice * soft_dice_loss(
            logits_BxHxWx1, mask_BxHxWx1, tversky=tversky, smooth=smooth
        )
    if bce:
        loss_B += bce * bce_loss(logits_BxHxWx1, mask_BxHxWx1, robust=robust, edge=edge)
    return loss_B


def mean_over_labelled(
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    logits_BxHxWxC: jax.Array,
    mask_BxHxWxC: jax.Array,
    labelled_BxC: jax.Array,
) -> jax.Array:
    """Computes a loss for each structure, and each image's mean over those that it labels.

    Args:
        loss: of logits and mask [B, H, W, 1], such as `soft_dice_loss`; it returns [B].
        logits_BxHxWxC: float32.
        mask_BxHxWxC: float32 in [0, 1]; it may hold anything where nothing is labelled.
        labelled_BxC: bool, True where a mask of the structure was drawn for the image.

    Returns:
        float32 [B]; 0 for an image that labels nothing.

    Example:
        >>> logits, mask = jnp.zeros((1, 4, 4, 2)), jnp.stack([jnp.ones((1, 4, 4))] * 2, -1)
        >>> both, one = jnp.array([[True, True]]), jnp.array([[False, True]])
        >>> means_2 = [mean_over_labelled(bce_loss, logits, mask, of)[0] for of in (both, one)]
        >>> [round(float(mean), 4) for mean in means_2]
        [0.6931, 0.6931]
    """
    if logits_BxHxWxC.shape[-1] == 1:
        return jnp.where(labelled_BxC[:, 0], loss(logits_BxHxWxC, mask_BxHxWxC), 0.0)
    loss_BxC = jax.vmap(loss, in_axes=-1, out_axes=-1)(
        logits_BxHxWxC[..., None, :], mask_BxHxWxC[..., None, :]
    )
    count_B = labelled_BxC.sum(1)
    return jnp.where(labelled_BxC, loss_BxC, 0.0).sum(1) / jnp.maximum(count_B, 1)
