"""Random changes of what a film shows; the lungs stay where they are: disease, light, sharpness.

Each function takes a typed PRNG key and one image, float32 [H, W, 1] in [0, 1], and returns another
such image. `jaxlung.augmentation` applies them to a batch. To add an effect, write its function,
call it in `random_appearance`, and give `AugmentConfig` its strength.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlung.augmentation.draws import is_off, smooth_field, uniform
from jaxlung.config import AugmentConfig

_BLUR_REACH = 4  # pixels: the Gaussian's tails beyond are dropped


def random_appearance(
    key: jax.Array, image_HxWx1: jax.Array, mask_HxWx1: jax.Array, config: AugmentConfig
) -> jax.Array:
    """Applies all effects, in the order in which a film comes about: patient, exposure, detector.

    Args:
        key: each effect has a key of its own, so switching one off leaves the others unchanged.
        image_HxWx1: float32 in [0, 1].
        mask_HxWx1: float32, above 0 in the lungs.
        config: the strengths; effects with a strength of 0 are left out.

    Returns:
        float32 [H, W, 1] in [0, 1].

    Example:
        >>> image = jnp.full((8, 8, 1), 0.25)
        >>> negative = AugmentConfig(invert=1.0, contrast=0.0, brightness=0.0, gamma=0.0)
        >>> change = jax.jit(random_appearance, static_argnums=3)
        >>> changed = change(jax.random.key(0), image, image, negative)
        >>> round(float(changed.mean()), 3)
        0.75
    """
    keys = jax.random.split(key, 7)
    x = image_HxWx1
    if not is_off(config.window):
        # A key of its own: the other draws are those without it.
        x = random_window(jax.random.fold_in(key, len(keys)), x, config.window)
    if not is_off(config.opacity):
        x = random_opacity(keys[0], x, mask_HxWx1, config.opacity)
    if not is_off(config.shade):
        x = random_shade(keys[1], x, config.shade)
    x = random_tone(keys[2], x, config)
    if not is_off(config.blur):
        x = random_blur(keys[3], x, config.blur)
    if not is_off(config.noise):
        x = random_noise(keys[4], x, config.noise)
    if not is_off(config.invert):
        x = random_invert(keys[5], x, config.invert)
    if not is_off(config.occlusion):
        x = random_occlusion(keys[6], x, config.occlusion)
    return x


def random_window(key: jax.Array, image_HxWx1: jax.Array, probability: ArrayLike) -> jax.Array:
    """Shows, with a probability, the grey values through another window, as a viewer does.

    Values below the window become 0, those above it 1. Its width is log-uniform in [0.2, 2.6], its
    lower end uniform in [-0.25, 0.6]: for values that stand for -1024 to 600 HU, that holds windows
    of the lung and of the whole range of a scanner. A third of the windows are narrow and high, as
    those of the mediastinum, in which lung and air are black: [0.2, 0.35] wide from [0.45, 0.6] on.
    """
    keys = jax.random.split(key, 4)
    is_soft = jax.random.bernoulli(keys[3], 1 / 3)
    widest, lowest = jnp.where(is_soft, jnp.array([0.35, 0.45]), jnp.array([2.6, -0.25]))
    width = jnp.exp(jax.random.uniform(keys[0], minval=jnp.log(0.2), maxval=jnp.log(widest)))
    low = jax.random.uniform(keys[1], minval=lowest, maxval=0.6)
    shown_HxWx1 = jnp.clip((image_HxWx1 - low) / width, 0.0, 1.0)
    return jnp.where(jax.random.bernoulli(keys[2], probability), shown_HxWx1, image_HxWx1)


def random_tone(key: jax.Array, image_HxWx1: jax.Array, config: AugmentConfig) -> jax.Array:
    """Changes gamma, then contrast about the mean and brightness, and clips to [0, 1]."""
    keys = jax.random.split(key, 3)
    exponent = jnp.exp(uniform(keys[0], jnp.log1p(config.gamma)))
    factor = 1 + uniform(keys[1], config.contrast)
    added = uniform(keys[2], config.brightness)
    image_HxWx1 = jnp.clip(image_HxWx1, 0.0, 1.0) ** exponent
    mean = image_HxWx1.mean()
    return jnp.clip((image_HxWx1 - mean) * factor + mean + added, 0.0, 1.0)


def random_opacity(
    key: jax.Array, image_HxWx1: jax.Array, mask_HxWx1: jax.Array, probability: ArrayLike
) -> jax.Array:
    """Brightens, with a probability, one large or small ellipse in the lungs, as disease does.

    A consolidation or an effusion takes away the contrast that shows a lung; the lung's outline
    stays where the neighbouring anatomy says. Only pixels darker than the opacity change.
    `mask_HxWx1` is float32, above 0 in the lungs.
    """
    keys = jax.random.split(key, 7)
    height, width = image_HxWx1.shape[:2]
    centre_2 = _random_pixel(keys[0], mask_HxWx1[..., 0])
    radii_2 = jnp.exp(
        jax.random.uniform(keys[1], (2,), minval=jnp.log(0.04), maxval=jnp.log(0.4))
    ) * jnp.array([height, width], jnp.float32)
    rows_Hx1 = (jnp.arange(height, dtype=jnp.float32)[:, None] - centre_2[0]) / radii_2[0]
    columns_1xW = (jnp.arange(width, dtype=jnp.float32)[None, :] - centre_2[1]) / radii_2[1]
    wobble_HxW = smooth_field(keys[2], (height, width), 8)
    radius_HxW = jnp.sqrt(rows_Hx1**2 + columns_1xW**2 + 1e-6) + 0.3 * wobble_HxW
    softness = jax.random.uniform(keys[3], minval=0.03, maxval=0.3)
    strength = jax.random.uniform(keys[4], minval=0.3, maxval=1.0)
    strength *= jax.random.bernoulli(keys[5], probability) * (mask_HxWx1.max() > 0)
    cover_HxW = strength * jax.nn.sigmoid((1 - radius_HxW) / softness)
    mean, bright = image_HxWx1.mean(), image_HxWx1.max()
    level = mean + jax.random.uniform(keys[6], minval=0.1, maxval=0.9) * (bright - mean)
    change_HxW = cover_HxW * jnp.maximum(level + 0.1 * wobble_HxW - image_HxWx1[..., 0], 0.0)
    return jnp.clip(image_HxWx1 + change_HxW[..., None], 0.0, 1.0)


def random_shade(key: jax.Array, image_HxWx1: jax.Array, strength: ArrayLike) -> jax.Array:
    """Adds a smooth field, uniform in +-strength at 3 x 3 nodes: uneven exposure, heel effect."""
    field_HxW = smooth_field(key, image_HxWx1.shape[:2], 3)
    return jnp.clip(image_HxWx1 + strength * field_HxW[..., None], 0.0, 1.0)


def random_blur(key: jax.Array, image_HxWx1: jax.Array, largest: ArrayLike) -> jax.Array:
    """Blurs half of the images by a Gaussian, of standard deviation up to `largest` pixels."""
    keys = jax.random.split(key)
    deviation = jax.random.uniform(keys[0]) * largest * jax.random.bernoulli(keys[1])
    offsets = jnp.arange(-_BLUR_REACH, _BLUR_REACH + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(deviation, 0.05)) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        length = image_HxWx1.shape[axis]
        sides = [(0, 0)] * 3
        sides[axis] = (_BLUR_REACH, _BLUR_REACH)
        padded = jnp.pad(image_HxWx1, sides, mode="edge")
        parts = (
            weights[i] * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
            for i in range(2 * _BLUR_REACH + 1)
        )
        image_HxWx1 = sum(parts, jnp.zeros_like(image_HxWx1))
    return image_HxWx1


def random_noise(key: jax.Array, image_HxWx1: jax.Array, largest: ArrayLike) -> jax.Array:
    """Adds noise to each pixel of half of the images, of standard deviation up to `largest`.

    The noise is the sum of the four bytes of a random word: near enough to a Gaussian, and several
    times as fast.
    """
    keys = jax.random.split(key, 3)
    deviation = jax.random.uniform(keys[0]) * largest * jax.random.bernoulli(keys[1])
    bits = jax.random.bits(keys[2], image_HxWx1.shape)
    parts = ((bits >> jnp.uint32(8 * i)) & jnp.uint32(255) for i in range(4))
    total = sum(parts, jnp.zeros_like(bits)).astype(jnp.float32)
    # Four uniform bytes have mean 510 and variance 4 (256^2 - 1) / 12.
    return jnp.clip(image_HxWx1 + deviation * (total - 510) / 147.8, 0.0, 1.0)


def random_invert(key: jax.Array, image_HxWx1: jax.Array, probability: ArrayLike) -> jax.Array:
    """Returns, with a probability, the negative: black for white."""
    return jnp.where(jax.random.bernoulli(key, probability), 1 - image_HxWx1, image_HxWx1)


def random_occlusion(key: jax.Array, image_HxWx1: jax.Array, probability: ArrayLike) -> jax.Array:
    """Draws three rectangles of one grey, each with a probability: markers, devices, bare film."""
    height, width = image_HxWx1.shape[:2]

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 4)
        size_2 = jnp.exp(
            jax.random.uniform(keys[0], (2,), minval=jnp.log(0.02), maxval=jnp.log(0.25))
        )
        start_2 = jax.random.uniform(keys[1], (2,)) * (1 - size_2)
        rows_H = jnp.arange(height, dtype=jnp.float32) / height - start_2[0]
        columns_W = jnp.arange(width, dtype=jnp.float32) / width - start_2[1]
        inside_H = (rows_H >= 0) & (rows_H < size_2[0])
        inside_W = (columns_W >= 0) & (columns_W < size_2[1])
        shown = jax.random.bernoulli(keys[2], probability)
        return inside_H[:, None] & inside_W[None, :] & shown, jax.random.uniform(keys[3])

    for part in jax.random.split(key, 3):
        covered_HxW, grey = draw(part)
        image_HxWx1 = jnp.where(covered_HxW[..., None], grey, image_HxWx1)
    return image_HxWx1


def _random_pixel(key: jax.Array, mask_HxW: jax.Array) -> jax.Array:
    """Draws a pixel of the mask, each as likely: row and column, float32 [2]; any if empty."""
    keys = jax.random.split(key)
    inside_HxW = (mask_HxW > 0).astype(jnp.int32)
    row = _random_index(keys[0], inside_HxW.sum(axis=1))
    column = _random_index(keys[1], inside_HxW[row])
    return jnp.stack([row, column]).astype(jnp.float32)


def _random_index(key: jax.Array, counts_N: jax.Array) -> jax.Array:
    """Draws an index, int32 [], as likely as its count."""
    running_N = jnp.cumsum(counts_N)
    # Drawn in [1, sum]: the first index whose running sum reaches it has a count above 0.
    drawn = 1 + jnp.floor(jax.random.uniform(key) * running_N[-1]).astype(jnp.int32)
    return jnp.minimum((running_N < drawn).sum(), len(running_N) - 1)
