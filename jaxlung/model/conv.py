"""A 3x3 convolution that is fast on a CPU with few channels too.

XLA runs convolutions of 16 channels and fewer at half of a core's speed, and their filter gradients
at a tenth to a half. The finest level of a U-Net has so few channels, and most pixels. On other
devices, and with more channels, this is XLA's own convolution.

Remove this module when XLA runs narrow convolutions as fast as wide ones. Two benchmarks would show
it: benchmarks/speed/xla_cpu.py without jaxlung (16 channels against 32, and filter gradients with
and without explicit padding), and benchmarks/speed/layers.py in the network (equal sums of "conv"
for jaxlung and XLA).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

FEW = 16  # XLA hands convolutions of so many channels and fewer to its slower kernels
BLOCKS = 4  # of rows in a filter gradient, so that a transposed block fits into a core's cache
_NHWC = ("NHWC", "HWIO", "NHWC")
# What `nn.Conv` hands over for a plain 3x3 convolution.
_FLAX_OPTIONS = {
    "kernel": (3, 3),
    "strides": (1, 1),
    "padding": "SAME",
    "lhs_dilation": (1, 1),
    "rhs_dilation": (1, 1),
    "dimension_numbers": lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)),
    "feature_group_count": 1,
    "precision": None,
}
# Both sides [B, H, W, channels]: channels stay, batch and pixels are summed over.
_CORRELATION = lax.ConvDimensionNumbers((3, 0, 1, 2), (3, 0, 1, 2), (2, 3, 0, 1))


def conv3x3(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    """Convolves an image with a 3x3 kernel, with zeros around the image.

    On a CPU the algorithm depends on the shapes and on the number of JAX's devices, over which
    the batch is assumed to be split. Results of different algorithms differ by rounding.

    Args:
        x_BxHxWxC: float32 or bfloat16.
        kernel_3x3xCxF: of the same dtype.

    Returns:
        [B, H, W, F] of the same dtype. In float32 with `FEW` features or fewer it has a
        `jax.custom_vjp`, so only reverse mode differentiates it.

    Example:
        >>> x, kernel = jnp.ones((1, 8, 8, 16)), jnp.ones((3, 3, 16, 16))
        >>> y = conv3x3(x, kernel)
        >>> y.shape, float(y[0, 4, 4, 0]), float(y[0, 0, 0, 0])  # 9 and 4 pixels x 16 channels
        ((1, 8, 8, 16), 144.0, 64.0)
    """
    few = kernel_3x3xCxF.shape[3] <= FEW and x_BxHxWxC.dtype == jnp.float32
    y_BxHxWxF: jax.Array = (_conv_of_few if few else by_xla)(x_BxHxWxC, kernel_3x3xCxF)
    return y_BxHxWxF


@jax.custom_vjp
def _conv_of_few(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    batch, _, width, channels = x_BxHxWxC.shape
    # A pair of pixels with 8 features or fewer each still has no more than FEW.
    pays = channels <= FEW < 2 * kernel_3x3xCxF.shape[3]
    # The fast kernels use one core of a device, the slower ones all free cores.
    spread = batch >= jax.device_count()
    if not (pays and spread) or width % 2:
        return by_xla(x_BxHxWxC, kernel_3x3xCxF)
    y: jax.Array = lax.platform_dependent(x_BxHxWxC, kernel_3x3xCxF, cpu=by_pairs, default=by_xla)
    return y


def for_flax(
    x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """Calls `conv3x3` for the field `conv_general_dilated` of an `nn.Conv`.

    Raises:
        ValueError: the layer is not 3x3, or asks for other strides than 1, other padding than
            SAME, dilation, groups of features, or a precision.
    """
    given = {"kernel": kernel.shape[:-2], "strides": tuple(strides), "padding": padding, **options}
    for name, value in given.items():
        if value != _FLAX_OPTIONS.get(name):  # a newer Flax may hand over more, as None
            raise ValueError(f"conv3x3 stands for a plain 3x3 convolution, got {name}={value!r}")
    return conv3x3(x, kernel)


def by_xla(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    """Convolves by XLA's own algorithm: [B, H, W, F], any dtype and size."""
    return lax.conv_general_dilated(
        x_BxHxWxC, kernel_3x3xCxF, (1, 1), "SAME", dimension_numbers=_NHWC
    )


def by_pairs(x_BxHxWxC: jax.Array, kernel_3x3xCxF: jax.Array) -> jax.Array:
    """Convolves two neighbouring pixels as one of 2F channels: [B, H, W, F], for an even W.

    It takes a third more arithmetic and 0.65 to 0.8 of the time. The 3x4 kernel holds the 3x3 one
    twice, for the left pixel and for the right one.
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
    """Computes the gradient of the loss by the kernel, [3, 3, C, F].

    Args:
        x_BxHxWxC: the convolution's input.
        grad_BxHxWxF: the gradient of the loss by the convolution's result.
    """
    channels, features = x_BxHxWxC.shape[3], grad_BxHxWxF.shape[3]

    def plain(x: jax.Array, grad: jax.Array) -> jax.Array:
        kernel = jnp.zeros((3, 3, channels, features), x.dtype)
        by_kernel: jax.Array = jax.vjp(lambda kernel: by_xla(x, kernel), kernel)[1](grad)[0]
        return by_kernel

    batch, height = x_BxHxWxC.shape[:2]
    if channels <= FEW:  # XLA's own is as fast from eight images a device on
        by_hand, pays = by_padding, batch < 8 * jax.device_count()
    else:
        by_hand, pays = by_blocks, height % BLOCKS == 0
    if not pays:
        return plain(x_BxHxWxC, grad_BxHxWxF)
    grad: jax.Array = lax.platform_dependent(x_BxHxWxC, grad_BxHxWxF, cpu=by_hand, default=plain)
    return grad


def by_padding(x_BxHxWxC: jax.Array, grad_BxHxWxF: jax.Array) -> jax.Array:
    """Computes the filter gradient [3, 3, C, F] of a padded copy, by a faster kernel of XLA."""
    return _correlate(_pad(x_BxHxWxC), grad_BxHxWxF)


def by_blocks(x_BxHxWxC: jax.Array, grad_BxHxWxF: jax.Array) -> jax.Array:
    """Computes the filter gradient [3, 3, C, F] by `BLOCKS` blocks of rows, which divide H.

    The images of a block are stacked into a single tall one, with two rows of zeros between them,
    so that nothing is transposed across images. `x` slides over the gradient, which gives the
    kernel turned by 180 degrees. Where rows are split over devices, XLA has neighbours exchange
    two rows.
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
