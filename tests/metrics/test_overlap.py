"""Counts and overlap metrics, by hand and against their identities."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.metrics import Counts, accuracy, count_pixels, dice, iou, pool, precision, recall

METRICS = (dice, iou, precision, recall, accuracy)


def random_masks(seed=0, shape=(4, 9, 7)):
    rng = np.random.default_rng(seed)
    return rng.random(shape) < 0.5, rng.random(shape) < 0.3


def counts_of(tp, fp, fn, tn):
    return Counts(*(np.array([value]) for value in (tp, fp, fn, tn)))


def test_counts_by_hand():
    prediction = np.array([[[1, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]], bool)
    truth = np.array([[[1, 0, 1], [0, 1, 0]], [[1, 1, 1], [1, 1, 1]]], bool)
    counts = count_pixels(prediction, truth)
    np.testing.assert_array_equal(counts, [[2, 0], [1, 0], [1, 6], [2, 0]])
    np.testing.assert_allclose(dice(counts), [4 / 6, 0])
    np.testing.assert_allclose(iou(counts), [2 / 4, 0])
    np.testing.assert_allclose(precision(counts), [2 / 3, 0])
    np.testing.assert_allclose(recall(counts), [2 / 3, 0])
    np.testing.assert_allclose(accuracy(counts), [4 / 6, 0])


def test_precision_and_recall_apart():
    counts = counts_of(6, 2, 4, 8)
    np.testing.assert_allclose([precision(counts), recall(counts)], [[6 / 8], [6 / 10]])
    np.testing.assert_allclose(dice(counts), 2 / (1 / precision(counts) + 1 / recall(counts)))


def test_precision_and_recall_swap_with_the_masks():
    prediction, truth = random_masks()
    there, back = count_pixels(prediction, truth), count_pixels(truth, prediction)
    np.testing.assert_array_equal(precision(there), recall(back))


def monai_pairs():
    """Random and degenerate masks [64, 24, 20]: none, one or both empty, full, single pixels."""
    rng = np.random.default_rng(4)
    shares = rng.uniform(0, 1, (2, 56, 1, 1))
    random = rng.random((2, 56, 24, 20)) < shares
    empty, full, dot = np.zeros((24, 20), bool), np.ones((24, 20), bool), np.zeros((24, 20), bool)
    dot[3, 4] = True
    degenerate = [
        (empty, empty),
        (empty, full),
        (full, empty),
        (full, full),
        (dot, empty),
        (dot, full),
        (empty, dot),
        (dot, dot),
    ]
    prediction, truth = np.concatenate([random, np.array(degenerate).swapaxes(0, 1)], axis=1)
    return prediction, truth


def test_agrees_with_monai():
    pytest.importorskip("torch", reason="pip install -e '.[bench]'")
    with warnings.catch_warnings():  # of its own imports
        warnings.simplefilter("ignore")
        monai = pytest.importorskip("monai.metrics", reason="pip install -e '.[bench]'")
        import torch

        prediction, truth = monai_pairs()
        as_tensor = [
            torch.from_numpy(masks[:, None].astype(np.float32)) for masks in (prediction, truth)
        ]
        theirs = monai.DiceMetric(include_background=True, ignore_empty=False)(*as_tensor)
    theirs = theirs.numpy()[:, 0]
    ours = dice(count_pixels(prediction, truth))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_counts_add_up_to_the_pixels():
    prediction, truth = random_masks()
    np.testing.assert_array_equal(sum(count_pixels(prediction, truth)), [63] * 4)


def test_empty_cases():
    empty, full = np.zeros((1, 3, 3), bool), np.ones((1, 3, 3), bool)
    for metric in METRICS:
        np.testing.assert_array_equal(metric(count_pixels(empty, empty)), [1])
        np.testing.assert_array_equal(metric(count_pixels(full, full)), [1])
        np.testing.assert_array_equal(metric(count_pixels(full, empty)), [0])
        np.testing.assert_array_equal(metric(count_pixels(empty, full)), [0])
        np.testing.assert_array_equal(metric(counts_of(0, 0, 0, 0)), [1])


def test_empty_cases_under_jit():
    counts = Counts(*(jnp.zeros(2, jnp.int32) for _ in range(4)))
    for metric in METRICS:
        np.testing.assert_array_equal(jax.jit(metric)(counts), [1, 1])


def test_iou_follows_from_dice():
    counts = count_pixels(*random_masks(1, (50, 5, 5)))
    np.testing.assert_allclose(iou(counts), dice(counts) / (2 - dice(counts)))


@pytest.mark.parametrize("metric", [dice, iou, accuracy])
def test_symmetric_in_truth_and_prediction(metric):
    prediction, truth = random_masks()
    there, back = count_pixels(prediction, truth), count_pixels(truth, prediction)
    np.testing.assert_array_equal(metric(there), metric(back))


@pytest.mark.parametrize("metric", METRICS)
def test_numpy_and_jax_agree(metric):
    prediction, truth = random_masks()
    expected = metric(count_pixels(prediction, truth))
    assert isinstance(expected, np.ndarray) and expected.dtype == np.float64

    def score(prediction, truth):
        return metric(count_pixels(prediction, truth))

    eager = score(jnp.asarray(prediction), jnp.asarray(truth))
    assert isinstance(eager, jax.Array)
    np.testing.assert_allclose(eager, expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(score)(prediction, truth), expected, rtol=1e-6)
    mapped = jax.vmap(score)(prediction.reshape(2, 2, 9, 7), truth.reshape(2, 2, 9, 7))
    np.testing.assert_allclose(mapped.reshape(4), expected, rtol=1e-6)


def test_pooling_equals_concatenating_the_images():
    prediction, truth = random_masks()
    pooled = pool(count_pixels(prediction, truth))
    whole = count_pixels(prediction.reshape(1, -1), truth.reshape(1, -1))
    np.testing.assert_array_equal(pooled, whole)
    for metric in METRICS:
        assert metric(pooled).shape == (1,)
        np.testing.assert_allclose(metric(pooled), metric(whole))


def test_pooled_weighs_pixels_and_not_images():
    counts = Counts(np.array([90, 0]), np.array([10, 0]), np.array([0, 10]), np.array([0, 0]))
    np.testing.assert_allclose(dice(counts), [180 / 190, 0])
    np.testing.assert_allclose(dice(pool(counts)), [180 / 200])


def test_large_counts_do_not_overflow():
    """What comes back from a device is int32; a data set's pixels are more than that holds."""
    image = np.array([2**30] * 6, np.int32)
    pooled = pool(Counts(image, image, image, image))
    np.testing.assert_array_equal(pooled, np.full((4, 1), 6 * 2**30))
    np.testing.assert_allclose(dice(pooled), [0.5])
    np.testing.assert_allclose(iou(pooled), [1 / 3])
    np.testing.assert_allclose(accuracy(pooled), [0.5])


def test_pooled_counts_keep_single_pixels():
    pooled = pool(counts_of(2**40, 1, 0, 2**40))
    assert 0 < 1 - dice(pooled)[0] < 1e-12
