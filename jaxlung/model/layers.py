"""Layers of the U-Net that XLA runs faster on a CPU than Flax's own, with the same values.

Remove `UpConv`, `GroupNorm` and `max_pool` when XLA runs `nn.ConvTranspose`, `nn.GroupNorm` and
`nn.max_pool` as fast on a CPU. Two benchmarks would show it: benchmarks/speed/xla_cpu.py without
jaxlung (sums by group, gradients of max pooling), and benchmarks/speed/layers.py beside PyTorch.
Remove `PatchStem` when XLA partitions that convolution correctly.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., Any]

he_normal = nn.initializers.he_normal()


class UpConv(nn.Module):
    """Transposed convolution of kernel and stride f, as a 1x1 convolution and depth-to-space.

    The kernel's steps do not overlap, so each input pixel alone makes its f x f block of outputs,
    and the two are the same operator. XLA runs this form faster than `nn.ConvTranspose`.
    [B, H, W, C] -> [B, fH, fW, features] with f = factor, of `dtype`.

    Example:
        >>> up, x = UpConv(features=3), jnp.ones((1, 8, 8, 6))
        >>> jax.eval_shape(up.init_with_output, jax.random.key(0), x)[0].shape
        (1, 16, 16, 3)
    """

    features: int
    dtype: str = "float32"
    factor: int = 2
    kernel_init: Initializer = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, _ = x.shape
        f = self.factor
        x = nn.Dense(
            f * f * self.features,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="blocks",
        )(x)
        x = x.reshape(batch, height, width, f, f, self.features)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, f * height, f * width, self.features)
        bias = self.param("bias", nn.initializers.zeros, (1, 1, 1, self.features))
        return x + bias.astype(x.dtype)


class PatchStem(nn.Module):
    """Convolution of kernel and stride `side`, as space-to-depth and a matrix product.

    It has the parameters and values of `nn.Conv`. XLA's partitioner loses a part of that
    convolution's gradients where rows and channels are both split over devices (jax 0.10.2).
    [B, H, W, C] -> [B, H/side, W/side, features], of `dtype`.

    Example:
        >>> stem, x = PatchStem(features=3, side=2), jnp.ones((1, 8, 8, 1))
        >>> jax.eval_shape(stem.init_with_output, jax.random.key(0), x)[0].shape
        (1, 4, 4, 3)
    """

    features: int
    side: int
    dtype: str = "float32"
    kernel_init: Initializer = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        side, features = self.side, self.features
        kernel = self.param("kernel", self.kernel_init, (side, side, channels, features))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        x = x.reshape(batch, height // side, side, width // side, side, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // side, width // side, -1)
        x = x @ kernel.reshape(-1, features).astype(self.dtype)
        return x + bias[None, None, None].astype(self.dtype)


class GroupNorm(nn.Module):
    """Group normalisation (Wu and He 2018, arXiv:1803.08494) over H, W and a group's channels.

    It equals `nn.GroupNorm`: the same parameters, statistics in float32, variance as
    E[x^2] - E[x]^2, epsilon 1e-6. But it sums each channel before it joins channels to groups: on
    a CPU, XLA reduces [B, H, W, C] to [B, C] up to 30 times as fast as [B, H, W, G, C / G] to
    [B, G]. Each pixel then takes one multiplication and one addition.
    [B, H, W, C] -> [B, H, W, C], of `dtype`; `groups` divides C.

    Example:
        >>> norm, x = GroupNorm(groups=2), jnp.ones((1, 8, 8, 4))
        >>> jax.eval_shape(norm.init_with_output, jax.random.key(0), x)[0].shape
        (1, 8, 8, 4)
    """

    groups: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        batch, height, width, channels = x_BxHxWxC.shape
        scale_C = self.param("scale", nn.initializers.ones, (channels,))
        bias_C = self.param("bias", nn.initializers.zeros, (channels,))
        x_BxHxWxC = x_BxHxWxC.astype(jnp.float32)

        def group_mean(values_BxHxWxC: jax.Array) -> jax.Array:
            sum_BxGxN = values_BxHxWxC.sum((1, 2)).reshape(batch, self.groups, -1)
            count = height * width * sum_BxGxN.shape[2]
            mean_BxGx1 = sum_BxGxN.sum(2, keepdims=True) / count
            return jnp.broadcast_to(mean_BxGx1, sum_BxGxN.shape).reshape(batch, channels)

        mean_BxC = group_mean(x_BxHxWxC)
        variance_BxC = jnp.maximum(group_mean(jnp.square(x_BxHxWxC)) - jnp.square(mean_BxC), 0)
        factor_BxC = scale_C[None] * jax.lax.rsqrt(variance_BxC + 1e-6)
        offset_BxC = bias_C[None] - mean_BxC * factor_BxC
        y = x_BxHxWxC * factor_BxC[:, None, None] + offset_BxC[:, None, None]
        return y.astype(self.dtype)


def max_pool(x_BxHxWxC: jax.Array) -> jax.Array:
    """Pools each 2x2 block to its maximum: [B, H, W, C] -> [B, H/2, W/2, C], for even H and W.

    `nn.max_pool` is a window reduction. Its gradient is slow on a CPU, where XLA looks up each
    window's maximum and scatters to it. Here equal maxima share the gradient evenly.

    Example:
        >>> max_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).tolist()
        [[[[3.0]]]]
    """
    batch, height, width, channels = x_BxHxWxC.shape
    return x_BxHxWxC.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
