"""The U-Net: from an image in [0, 1] to logits, and from logits to a mask."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.config import ModelConfig
from jaxlung.model import conv
from jaxlung.model.layers import GroupNorm, Initializer, PatchStem, UpConv, he_normal, max_pool
from jaxlung.structures import LUNG

Array = TypeVar("Array", np.ndarray, jax.Array)


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with same padding.

    The encoder has blocks of (3x3 convolution, norm, ReLU) x 2 and 2x2 max pooling, the decoder
    2x2 transposed convolutions with skip connections. With a patch of 2 or 4, a convolution of
    that kernel and stride comes first and a transposed one last, so all features live at a half or
    a quarter of the resolution. Blocks may be residual (He et al. 2016, arXiv:1512.03385), skip
    connections gated by attention (Oktay et al. 2018, arXiv:1804.03999).

    Fields: `jaxlung.config.ModelConfig` explains them; `split` says that the rows or channels of
    one image lie on several devices, for which XLA's own convolutions are taken. Flax traces
    `kernel_init` at each application too, to compare shapes; he_normal takes half of the tracing.

    Call:
        image_BxHxWx1: float32 in [0, 1]; H and W are multiples of patch * 2**depth.
        train: turns on dropout (needs a "dropout" key) and batch statistics (needs mutable
            "batch_stats").

    Returns:
        logits float32 [B, H, W, C], C as in `outputs`; the probabilities are their sigmoid.

    Raises:
        ValueError: the image has another rank, or sides that are no such multiples.

    Example:
        >>> unet = UNet(width=4, depth=1, patch=1)
        >>> image = jnp.zeros((1, 16, 16, 1))
        >>> variables = jax.eval_shape(unet.init, jax.random.key(0), image)  # without computing
        >>> jax.eval_shape(unet.apply, variables, image).shape
        (1, 16, 16, 1)
    """

    outputs: tuple[str, ...] = (LUNG,)
    width: int = 16
    depth: int = 4
    patch: int = 2
    norm: str = "group"
    residual: bool = False
    attention: bool = False
    dropout: float = 0.0
    dtype: str = "float32"
    remat: bool = False
    standardize: bool = True
    split: bool = False
    kernel_init: Initializer = he_normal

    @nn.compact
    def __call__(self, image_BxHxWx1: jax.Array, *, train: bool = False) -> jax.Array:
        multiple = self.patch * 2**self.depth
        if image_BxHxWx1.ndim != 4 or any(side % multiple for side in image_BxHxWx1.shape[1:3]):
            raise ValueError(
                f"image is {image_BxHxWx1.shape}; expected [B, H, W, 1] with H and W multiples of "
                f"{multiple}"
            )
        x = standardize(image_BxHxWx1) if self.standardize else image_BxHxWx1
        x = x.astype(self.dtype)
        if self.patch > 1 and self.split:
            x = PatchStem(self.width, self.patch, self.dtype, self.kernel_init, name="stem")(x)
        elif self.patch > 1:
            x = self._conv(self.width, self.patch, "stem", strides=self.patch, padding="VALID")(x)
        block = nn.remat(UNet._block, static_argnums=(2, 3, 4)) if self.remat else UNet._block
        skips = []
        for level in range(self.depth):
            x = block(self, x, self.width * 2**level, f"encoder{level}", train)
            skips.append(x)
            x = max_pool(x)
        x = block(self, x, self.width * 2**self.depth, "bottleneck", train)
        for level in reversed(range(self.depth)):
            x = self._up(self.width * 2**level, f"up{level}")(x)
            skip = self._gate(skips[level], x, f"gate{level}") if self.attention else skips[level]
            x = jnp.concatenate([skip, x], axis=-1)
            x = block(self, x, self.width * 2**level, f"decoder{level}", train)
        if self.patch > 1:
            x = self._up(len(self.outputs), "head", self.patch)(x)
        else:
            x = nn.Conv(len(self.outputs), (1, 1), dtype=self.dtype, name="head")(x)
        return x.astype(jnp.float32)

    def _block(self, x: jax.Array, features: int, name: str, train: bool) -> jax.Array:
        shortcut = x
        if self.residual and x.shape[-1] != features:
            shortcut = self._dense(features, f"{name}_shortcut")(x)
        for i in range(2):
            # `conv` regroups rows and channels: devices would have to exchange all of them.
            way = None if self.split else conv.for_flax
            use_bias = self.norm == "none"
            x = self._conv(
                features, 3, f"{name}_conv{i}", use_bias=use_bias, conv_general_dilated=way
            )(x)
            x = self._norm(f"{name}_norm{i}", features, train)(x)
            x = nn.relu(x + shortcut if self.residual and i == 1 else x)
        if self.dropout and features >= self.width * 2 ** (self.depth - 1):
            # Whole channels: the neighbours of a single dropped pixel would give its value away.
            x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        return x

    def _gate(self, skip_BxHxWxC: jax.Array, x_BxHxWxC: jax.Array, name: str) -> jax.Array:
        """Weighs each pixel of a skip connection by the decoder's and the skip's features."""
        features = max(1, skip_BxHxWxC.shape[-1] // 2)
        both = jnp.concatenate([skip_BxHxWxC, x_BxHxWxC], axis=-1)
        hidden = nn.relu(self._dense(features, f"{name}_in")(both))
        weight = nn.sigmoid(nn.Dense(1, dtype=self.dtype, name=f"{name}_out")(hidden))
        return skip_BxHxWxC * weight

    def _conv(self, features: int, side: int, name: str, **options: Any) -> nn.Conv:
        kernel = (side, side)
        return nn.Conv(
            features, kernel, dtype=self.dtype, kernel_init=self.kernel_init, name=name, **options
        )

    def _up(self, features: int, name: str, factor: int = 2) -> UpConv:
        return UpConv(features, self.dtype, factor, self.kernel_init, name=name)

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, kernel_init=self.kernel_init, name=name)

    def _norm(self, name: str, features: int, train: bool) -> Callable[[jax.Array], jax.Array]:
        if self.norm == "group":
            groups = max(g for g in range(1, 9) if features % g == 0)
            return GroupNorm(groups, self.dtype, name=name)
        if self.norm == "batch":
            return nn.BatchNorm(
                use_running_average=not train, momentum=0.95, dtype=self.dtype, name=name
            )
        return lambda x: x


def standardize(image_BxHxWxC: jax.Array) -> jax.Array:
    """Brings each image to zero mean and unit variance; a constant image becomes zeros.

    Args:
        image_BxHxWxC: float32.

    Returns:
        float32 of the same shape; the variance counts with 1e-6 added.

    Example:
        >>> image = standardize(jnp.arange(16.0).reshape(1, 4, 4, 1))
        >>> abs(round(float(image.mean()), 3)), round(float(image.std()), 3)
        (0.0, 1.0)
    """
    axes = (1, 2, 3)
    mean = image_BxHxWxC.mean(axes, keepdims=True)
    variance = image_BxHxWxC.var(axes, keepdims=True)
    return (image_BxHxWxC - mean) * jax.lax.rsqrt(variance + 1e-6)


def to_probability(logits_BxHxWxC: jax.Array) -> jax.Array:
    """Returns the sigmoid of the logits, float32 [B, H, W, C] in [0, 1], for each output alone.

    Structures may overlap, as the heart and the lung behind it do: they do not compete.

    Example:
        >>> to_probability(jnp.zeros((1, 1, 2, 1))).tolist()
        [[[[0.5], [0.5]]]]
    """
    return jax.nn.sigmoid(logits_BxHxWxC)


def to_mask(probability: Array, threshold: float = 0.5) -> Array:
    """Turns probabilities of any shape into a mask: bool, True where >= threshold.

    This is the only place where it happens, so every mask has the same rule.

    Example:
        >>> to_mask(np.array([0.2, 0.5, 0.9])).tolist()
        [False, True, True]
    """
    return probability >= threshold


def build_model(config: ModelConfig, *, split: bool = False, drawn: bool = True) -> UNet:
    """Returns the U-Net of a config. Without outputs it marks the lung.

    Args:
        config: its fields.
        split: as in `UNet`.
        drawn: False: parameters come from elsewhere, and `init` would give kernels of zeros. The
            network computes the same, and is traced in half of the time.

    Example:
        >>> build_model(ModelConfig(width=8)).width
        8
    """
    fields = dataclasses.asdict(config)
    kernel_init = he_normal if drawn else nn.initializers.zeros
    outputs = config.outputs or UNet.outputs
    return UNet(**{**fields, "outputs": outputs}, split=split, kernel_init=kernel_init)
