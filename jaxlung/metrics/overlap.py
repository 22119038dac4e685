"""Metrics of masks. Overlap from pixel counts: per image, or pooled by summing the counts first.

The overlap functions take numpy or JAX arrays, run under jit and vmap (but for `pool`, of the
host), and return one value an image. Names and formulas as in Metrics Reloaded (Maier-Hein et al.
2024, Nature Methods 21:195). The surface distances are those of `jaxlung.surface`, on the host.

Empty masks: where truth and prediction are both empty every overlap metric is 1; where only one
of them is, dice, iou, precision and recall are all 0, the 0/0 among them too, so that an image
that was failed never scores. `hausdorff` and `assd` are then the image's diagonal, `nsd` is 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = Any  # numpy.ndarray or jax.Array


class Counts(NamedTuple):
    """Pixels per image, [B]: truth and prediction both lung, prediction only, truth only, none."""

    tp: Array
    fp: Array
    fn: Array
    tn: Array


def count_pixels(prediction: Array, truth: Array) -> Counts:
    """Counts over all axes but the first.

    Args:
        prediction, truth: bool [B, ...], of one shape.
    """
    axes = tuple(range(1, prediction.ndim))
    return Counts(
        tp=(prediction & truth).sum(axes),
        fp=(prediction & ~truth).sum(axes),
        fn=(~prediction & truth).sum(axes),
        tn=(~prediction & ~truth).sum(axes),
    )


def pool(counts: Counts) -> Counts:
    """Sums numpy counts over images, keeping a batch axis of 1: their metrics are *pooled*."""
    return Counts(*(count.sum(keepdims=True, dtype=np.int64) for count in counts))


def dice(counts: Counts) -> Array:
    """2 TP / (2 TP + FP + FN), in [0, 1]; 1 where truth and prediction are both empty."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: Counts) -> Array:
    """TP / (TP + FP + FN), in [0, 1]; 1 where truth and prediction are both empty."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: Counts) -> Array:
    """TP / (TP + FP), in [0, 1]; of an empty prediction 1 if the truth is empty too, else 0."""
    return _ratio(counts.tp, counts.tp + counts.fp, empty=counts.fn == 0)


def recall(counts: Counts) -> Array:
    """TP / (TP + FN), in [0, 1]; of an empty truth 1 if the prediction is empty too, else 0."""
    return _ratio(counts.tp, counts.tp + counts.fn, empty=counts.fp == 0)


def accuracy(counts: Counts) -> Array:
    """(TP + TN) / pixels, in [0, 1]; 1 for an image without pixels."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.tn + counts.fp + counts.fn)


def _ratio(numerator: Array, denominator: Array, empty: Array | float = 1.0) -> Array:
    # On the host in float64: pooled counts of large images do not fit JAX's default int32.
    xp = jnp if isinstance(denominator, jax.Array) else np
    return xp.where(denominator == 0, empty * 1.0, numerator / xp.maximum(denominator, 1))
