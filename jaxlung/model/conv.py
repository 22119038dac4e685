"""A 3x3 convolution that is fast on a CPU with few channels too.

XLA runs convolutions of 16 channels and fewer at half a core's speed, and their filter gradients at
a tenth to a half (benchmarks/speed/xla_cpu.py shows it without jaxlung); a U-Net's finest level has
so few, and most pixels. Elsewhere, and with more channels, this is XLA's own convolution.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

FEW = 16  # channels up to which XLA hands a convolution to its slower kernels
BLOCKS = 4  # of rows in a filter gradient, so that what is transposed fits into a core's cache
_NHWC = ("NHWC", "HWIO", "NHWC")
# Both sides [B, H, W, channels]: channels stay, batch and pixels are summed over.
_CORRELATION = lax.ConvDimensionNumbers((3, 0, 1, 2), (3, 0, 1, 2), (2, 3, 0, 1))


def conv3x3(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    """Convolution with zeros around the image, of one dtype: [B, H, W, F].

    In float32 with `FEW` features or fewer, reverse mode alone differentiates it
    (`jax.custom_vjp`). Which way a CPU takes then depends on the number of JAX's devices, over
    which the batch is assumed to be split; the ways differ by rounding.
    """
    few = kernel_3x3xCxF.shape[3] <= FEW and x_BxHxWxC.dtype == jnp.float32
    return (_conv_of_few if few else by_xla)(x_BxHxWxC, kernel_3x3xCxF)


@jax.custom_vjp
def _conv_of_few(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    batch, _, width, channels = x_BxHxWxC.shape
    # Of 8 features and fewer a pair still has no more than FEW.
    pays = channels <= FEW < 2 * kernel_3x3xCxF.shape[3]
    # The fast kernels keep one core of a device busy, the slower ones all that are free.
    spread = batch >= jax.device_count()
    if not (pays and spread) or width % 2:
        return by_xla(x_BxHxWxC, kernel_3x3xCxF)
    return lax.platform_dependent(x_BxHxWxC, kernel_3x3xCxF, cpu=by_pairs, default=by_xla)


def for_flax(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """`conv3x3` for the field `conv_general_dilated` of an `nn.Conv` of strides 1, padded SAME.

    What else Flax hands over (strides, padding, precision) is taken to be that.
    """
    return conv3x3(x, kernel)


def by_xla(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    """XLA's own: [B, H, W, F] of any dtype and size."""
    return lax.conv_general_dilated(
        x_BxHxWxC, kernel_3x3xCxF, (1, 1), "SAME", dimension_numbers=_NHWC
    )


def by_pairs(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    """Two neighbouring pixels as one of 2F channels: [B, H, W, F], for an even W.

    A third more arithmetic, in 0.65 to 0.8 of the time. The 3x4 kernel holds the 3x3 one twice,
    for the left pixel and for the right one.
    """
    left, right = (
        jnp.pad(kernel_3x3xCxF, ((0, 0), sides, (0, 0), (0, 0))) for sides in ((0, 1), (1, 0))
    )
    y_BxHxPx2F = lax.conv_general_dilated(
        x_BxHxWxC,
        jnp.concatenate([left, right], 3),
        (1, 2),
        ((1, 1), (1, 1)),
        dimension_numbers=_NHWC,
    )
    return y_BxHxPx2F.reshape(*x_BxHxWxC.shape[:3], kernel_3x3xCxF.shape[3])


def filter_gradient(x_BxHxWxC: jax.Array, grad_BxHxWxF: jax.Array) -> jax.Array:
    """The loss's gradient by the kernel, [3, 3, C, F], from that by the convolution's result."""
    channels, features = x_BxHxWxC.shape[3], grad_BxHxWxF.shape[3]

    def plain(x: jax.Array, grad: jax.Array) -> jax.Array:
        kernel = jnp.zeros((3, 3, channels, features), x.dtype)
        return jax.vjp(lambda kernel: by_xla(x, kernel), kernel)[1](grad)[0]

    batch, height = x_BxHxWxC.shape[:2]
    if channels <= FEW:  # on both sides: XLA's own is as fast from eight images a device on
        by_hand, pays = by_padding, batch < 8 * jax.device_count()
    else:
        by_hand, pays = by_blocks, height % BLOCKS == 0
    if not pays:
        return plain(x_BxHxWxC, grad_BxHxWxF)
    return lax.platform_dependent(x_BxHxWxC, grad_BxHxWxF, cpu=by_hand, default=plain)


def by_padding(x_BxHxWxC: jax.Array, grad_BxHxWxF: jax.Array) -> jax.Array:
    """Filter gradient [3, 3, C, F], of zeros written out, for which XLA takes another way."""
    return _correlate(_pad(x_BxHxWxC), grad_BxHxWxF)


def by_blocks(x_BxHxWxC: jax.Array, grad_BxHxWxF: jax.Array) -> jax.Array:
    """Filter gradient [3, 3, C, F] by blocks of rows, `x` over the gradient, for H of whole blocks.

    A block's images stand one above the other as a single one, so that nothing is transposed
    across images; two rows of zeros keep them apart. Where the batch is split over devices, XLA
    has each block's neighbours exchange two rows.
    """
    batch, height, width, _ = x_BxHxWxC.shape
    rows, padded = height // BLOCKS, _pad(grad_BxHxWxF)
    parts = []
    for start in range(0, height, rows):
        image = padded[:, start : start + rows + 2].reshape(1, batch * (rows + 2), width + 2, -1)
        window = jnp.pad(x_BxHxWxC[:, start : start + rows], ((0, 0), (0, 2), (0, 0), (0, 0)))
        window = window.reshape(1, batch * (rows + 2), width, -1)[:, :-2]
        parts.append(_correlate(image, window))
    turned = sum(parts[1:], parts[0])
    return turned[::-1, ::-1].transpose(0, 1, 3, 2)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv3x3(x, kernel), (x, kernel)


def _backward(
    saved: tuple[jax.Array, jax.Array], grad_BxHxWxF: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x_BxHxWxC, kernel_3x3xCxF = saved
    turned_3x3xFxC = kernel_3x3xCxF[::-1, ::-1].transpose(0, 1, 3, 2)
    return conv3x3(grad_BxHxWxF, turned_3x3xFxC), filter_gradient(x_BxHxWxC, grad_BxHxWxF)


_conv_of_few.defvjp(_forward, _backward)


def _pad(x_BxHxWxC: jax.Array) -> jax.Array:
    return jnp.pad(x_BxHxWxC, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _correlate(image: jax.Array, window: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(image, window, (1, 1), "VALID", dimension_numbers=_CORRELATION)
