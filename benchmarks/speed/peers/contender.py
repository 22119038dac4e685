"""A contender of `speed.py`, and the cost of the network that all of them share."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Spec(NamedTuple):
    """The network, with GroupNorm of up to 8 groups, and the work."""

    size: int = 256
    width: int = 16
    depth: int = 4
    patch: int = 1
    batch: int = 8
    device: str = "cpu"  # or "gpu"
    dtype: str = "float32"  # of the computation; or "bfloat16"


class Contender(NamedTuple):
    train: Callable[[], float]  # one step on `example(spec)`: forward, Dice loss, backward, Adam
    predict: Callable[[np.ndarray], np.ndarray]  # float32 [B, S, S] to probabilities [B, S, S]
    peak_bytes: Callable[[], int] | None = None  # of the accelerator; None: the process's own
    extra: Callable[[], dict[str, float]] = dict  # further figures, by name


def example(spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Draws a batch of images in [0, 1] and masks of 0 and 1, float32 [B, S, S]."""
    rng = np.random.default_rng(0)
    image_BxSxS = rng.random((spec.batch, spec.size, spec.size), np.float32)
    return image_BxSxS, (image_BxSxS > 0.7).astype(np.float32)


def groups_of(features: int) -> int:
    return max(g for g in range(1, 9) if features % g == 0)


def unet_macs(size: int, width: int, depth: int, patch: int) -> int:
    """Counts the multiply-accumulates of one image's forward pass, in convolutions only."""
    side, channels, macs = size // patch, width if patch == 2 else 1, 0
    if patch == 2:
        macs += side**2 * 4 * width
    for level in range(depth + 1):  # encoder and bottleneck
        features = width * 2**level
        macs += (side >> level) ** 2 * 9 * (channels * features + features**2)
        channels = features
    for level in reversed(range(depth)):
        features = width * 2**level
        macs += (side >> (level + 1)) ** 2 * (2 * features) * 4 * features
        macs += (side >> level) ** 2 * 9 * (2 * features**2 + features**2)
    return macs + side**2 * width * (4 if patch == 2 else 1)
