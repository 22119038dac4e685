"""Overlap of masks from counts of pixels: of each image, or of all images with their counts summed.

The functions take numpy or JAX arrays and return one value for each image. They run under jit and
vmap, but for `pool` and `pool_groups`, which are for the host. Names and formulas are those of
Metrics Reloaded (Maier-Hein et al. 2024, Nature Methods 21:195).

Empty masks: if truth and prediction are both empty, every metric is 1. If only one of them is
empty, dice, iou, precision and recall are 0, also where the formula says 0/0: an image that a model
failed on never scores. Distances between outlines are in `metrics.surface`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = Any  # numpy.ndarray or jax.Array


class Counts(NamedTuple):
    """Pixels of each image, integers [B]."""

    tp: Array  # lung in truth and prediction
    fp: Array  # lung in the prediction only
    fn: Array  # lung in the truth only
    tn: Array  # lung in neither


def count_pixels(prediction: Array, truth: Array) -> Counts:
    """Counts the pixels of each image, over all axes but the first.

    Args:
        prediction: bool [B, ...].
        truth: bool [B, ...], of the same shape.

    Returns:
        integers [B].

    Example:
        >>> prediction, truth = np.array([[True, True, False]]), np.array([[True, False, False]])
        >>> [int(count[0]) for count in count_pixels(prediction, truth)]
        [1, 1, 0, 1]
    """
    axes = tuple(range(1, prediction.ndim))
    return Counts(
        tp=(prediction & truth).sum(axes),
        fp=(prediction & ~truth).sum(axes),
        fn=(~prediction & truth).sum(axes),
        tn=(~prediction & ~truth).sum(axes),
    )


def count_pixels_of_each(prediction_BxHxWxC: Array, truth_BxHxWxC: Array) -> Counts:
    """Counts the pixels of each image for each structure.

    Args:
        prediction_BxHxWxC, truth_BxHxWxC: bool.

    Returns:
        integers [B, C].

    Example:
        >>> counts = count_pixels_of_each(np.ones((1, 2, 2, 3), bool), np.zeros((1, 2, 2, 3), bool))
        >>> counts.fp.tolist()
        [[4, 4, 4]]
    """
    xp = jnp if isinstance(prediction_BxHxWxC, jax.Array) else np
    planes = [
        count_pixels(prediction_BxHxWxC[..., i], truth_BxHxWxC[..., i])
        for i in range(truth_BxHxWxC.shape[-1])
    ]
    return Counts(*(xp.stack(counts, axis=-1) for counts in zip(*planes, strict=True)))


def pool(counts: Counts) -> Counts:
    """Sums counts over images. Metrics of the sums are called *pooled*.

    Args:
        counts: numpy arrays [B].

    Returns:
        int64 [1], so that every metric takes them as those of one image.

    Example:
        >>> counts = Counts(*np.array([[90, 0], [10, 0], [0, 10], [0, 0]]))
        >>> dice(counts).round(4).tolist(), dice(pool(counts)).tolist()
        ([0.9474, 0.0], [0.9])
    """
    return Counts(*(count.sum(keepdims=True, dtype=np.int64) for count in counts))


def pool_groups(counts: Counts, names: Sequence[str]) -> tuple[Counts, np.ndarray]:
    """Sums counts over the images of each group, such as the slices of a volume.

    Args:
        counts: numpy arrays [B].
        names: of each image's group, [B].

    Returns:
        float64 [G], in the order of the groups' names, and each group's first image, int [G].

    Example:
        >>> counts = Counts(*np.array([[90, 0, 5], [10, 0, 0], [0, 10, 0], [0, 0, 0]]))
        >>> pooled, first = pool_groups(counts, ("b", "b", "a"))
        >>> dice(pooled).tolist(), first.tolist()
        ([1.0, 0.9], [2, 0])
    """
    _, first_G, group_B = np.unique(names, return_index=True, return_inverse=True)
    return Counts(*(np.bincount(group_B, count) for count in counts)), first_G


def dice(counts: Counts) -> Array:
    """Computes the Dice coefficient, 2 TP / (2 TP + FP + FN) (Dice 1945); also called F1.

    Args:
        counts: integers [B].

    Returns:
        float [B] in [0, 1]; 1 where truth and prediction are both empty.

    Example:
        >>> truth = np.array([[True, True, False], [False, False, False]])
        >>> dice(count_pixels(np.roll(truth, 1, axis=1), truth)).tolist()
        [0.5, 1.0]
    """
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: Counts) -> Array:
    """Computes intersection over union, TP / (TP + FP + FN) (Jaccard 1912).

    It orders images as Dice does: IoU = Dice / (2 - Dice).

    Args:
        counts: integers [B].

    Returns:
        float [B] in [0, 1]; 1 where truth and prediction are both empty.

    Example:
        >>> iou(Counts(*np.array([[2], [1], [1], [0]])))
        array([0.5])
    """
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: Counts) -> Array:
    """Computes precision, TP / (TP + FP): the share of the prediction that is lung.

    Args:
        counts: integers [B].

    Returns:
        float [B] in [0, 1]. If the prediction is empty: 1 if the truth is empty too, else 0.

    Example:
        >>> precision(Counts(*np.array([[3], [1], [5], [0]])))
        array([0.75])
    """
    return _ratio(counts.tp, counts.tp + counts.fp, empty=counts.fn == 0)


def recall(counts: Counts) -> Array:
    """Computes recall, TP / (TP + FN): the share of the lung that is predicted. Also sensitivity.

    Args:
        counts: integers [B].

    Returns:
        float [B] in [0, 1]. If the truth is empty: 1 if the prediction is empty too, else 0.

    Example:
        >>> recall(Counts(*np.array([[3], [5], [1], [0]])))
        array([0.75])
    """
    return _ratio(counts.tp, counts.tp + counts.fn, empty=counts.fp == 0)


def accuracy(counts: Counts) -> Array:
    """Computes accuracy, (TP + TN) / pixels. The background counts too, so it is high for any mask.

    Args:
        counts: integers [B].

    Returns:
        float [B] in [0, 1]; 1 for an image without pixels.

    Example:
        >>> accuracy(Counts(*np.array([[1], [1], [0], [2]])))
        array([0.75])
    """
    return _ratio(counts.tp + counts.tn, counts.tp + counts.tn + counts.fp + counts.fn)


def _ratio(numerator: Array, denominator: Array, empty: Array | float = 1.0) -> Array:
    """Divides; the value is `empty` where the denominator is 0."""
    # On the host in float64: pooled counts of large images do not fit JAX's default int32.
    xp = jnp if isinstance(denominator, jax.Array) else np
    return xp.where(denominator == 0, empty * 1.0, numerator / xp.maximum(denominator, 1))
