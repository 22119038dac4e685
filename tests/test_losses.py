"""Losses against closed forms in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.losses import bce_loss, segmentation_loss, soft_dice_loss


def logit(probability):
    probability = np.asarray(probability, np.float64)
    return jnp.asarray(np.log(probability / (1 - probability)), jnp.float32)


def image(rows):
    return jnp.asarray(rows, jnp.float32)[None, ..., None]


def random_case(seed=0, shape=(3, 8, 6, 1)):
    rng = np.random.default_rng(seed)
    probability = rng.uniform(0.01, 0.99, shape)
    return probability, (rng.random(shape) < 0.4).astype(np.float32)


def test_dice_by_hand():
    logits = logit([[[[0.9], [0.2]], [[0.5], [0.4]]]])
    mask = image([[1, 0], [1, 0]])
    # intersection 1.4, probabilities 2.0, mask 2
    np.testing.assert_allclose(soft_dice_loss(logits, mask), [1 - (2.8 + 1) / (4 + 1)], rtol=1e-5)


def test_dice_closed_form_per_image():
    probability, mask = random_case()
    loss_B = soft_dice_loss(logit(probability), jnp.asarray(mask))
    assert loss_B.shape == (3,) and loss_B.dtype == jnp.float32
    for i in range(3):
        overlap, total = (probability[i] * mask[i]).sum(), probability[i].sum() + mask[i].sum()
        np.testing.assert_allclose(loss_B[i], 1 - (2 * overlap + 1) / (total + 1), rtol=1e-5)
        assert 0 < loss_B[i] < 1


def test_dice_of_a_perfect_and_a_disjoint_prediction():
    mask = jnp.zeros((1, 16, 16, 1)).at[:, 4:12, 2:10].set(1.0)
    np.testing.assert_allclose(soft_dice_loss(60 * mask - 30, mask), [0], atol=1e-6)
    np.testing.assert_allclose(soft_dice_loss(30 - 60 * mask, mask), [1 - 1 / 257], rtol=1e-6)


@pytest.mark.parametrize("tversky", [0.3, 0.5, 0.7])
def test_dice_of_a_soft_mask_is_least_at_the_mask_itself(tversky):
    """And not at 0 and 1 on either side of one half, where a product of the two would be."""
    mask = jnp.asarray(np.random.default_rng(3).uniform(0.05, 0.95, (1, 8, 8, 1)), jnp.float32)
    loss = functools.partial(soft_dice_loss, mask_BxHxWx1=mask, tversky=tversky)
    [least] = loss(logit(mask))
    np.testing.assert_allclose(least, 0, atol=1e-6)
    for other in (jnp.where(mask > 0.5, 0.999, 0.001), 0.9 * mask, jnp.minimum(1.1 * mask, 0.99)):
        assert loss(logit(other))[0] > least + 0.01


def test_more_smoothing_makes_empty_masks_weigh_less():
    empty, logits = jnp.zeros((1, 8, 8, 1)), jnp.full((1, 8, 8, 1), -2.0)
    pixels = float(jax.nn.sigmoid(logits).sum())
    for smooth in (1.0, 10.0, 100.0):
        loss = float(soft_dice_loss(logits, empty, smooth=smooth)[0])
        assert loss == pytest.approx(pixels / (pixels + smooth), rel=1e-5)
        assert loss == segmentation_loss(logits, empty, smooth=smooth)[0]


def test_dice_with_an_empty_mask():
    empty = jnp.zeros((1, 4, 4, 1))
    losses = [float(soft_dice_loss(empty + logit, empty)[0]) for logit in (0, -5, -10, -30)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(0, abs=1e-6)
    assert float(soft_dice_loss(empty + 30, empty)[0]) == pytest.approx(1 - 1 / 17, rel=1e-6)
    for value in (-5.0, 0.0, 5.0):
        gradient = jax.grad(lambda x: soft_dice_loss(x, empty).sum())(empty + value)
        assert np.isfinite(gradient).all() and (gradient > 0).all()  # less lung, less loss


def test_bce_closed_form():
    probability, mask = random_case()
    expected = -(mask * np.log(probability) + (1 - mask) * np.log1p(-probability))
    loss_B = bce_loss(logit(probability), jnp.asarray(mask))
    assert loss_B.shape == (3,) and loss_B.dtype == jnp.float32
    np.testing.assert_allclose(loss_B, expected.mean((1, 2, 3)), rtol=1e-5)


def test_bce_stays_finite_where_the_sigmoid_saturates():
    ones = jnp.ones((1, 2, 2, 1))
    np.testing.assert_allclose(bce_loss(-200 * ones, ones), [200])
    np.testing.assert_allclose(bce_loss(200 * ones, ones), [0], atol=1e-6)
    gradient = jax.grad(lambda x: bce_loss(x, ones).sum())(-200 * ones)
    np.testing.assert_allclose(gradient, -0.25 * ones, rtol=1e-6)


@pytest.mark.parametrize("loss", [soft_dice_loss, bce_loss])
def test_images_of_a_batch_are_independent(loss):
    probability, mask = random_case()
    before = loss(logit(probability), jnp.asarray(mask))
    probability[1], mask[1] = 0.5, 1 - mask[1]
    after = loss(logit(probability), jnp.asarray(mask))
    np.testing.assert_array_equal(after[::2], before[::2])
    assert after[1] != before[1]


@pytest.mark.parametrize(("dice", "bce"), [(1, 0), (0, 1), (0.5, 2.0), (3.0, 0.25)])
def test_weights(dice, bce):
    probability, mask = random_case()
    logits, mask = logit(probability), jnp.asarray(mask)
    loss_B = segmentation_loss(logits, mask, dice=dice, bce=bce)
    expected = dice * soft_dice_loss(logits, mask) + bce * bce_loss(logits, mask)
    assert loss_B.dtype == jnp.float32
    np.testing.assert_allclose(loss_B, expected, rtol=1e-6)


def test_default_is_dice_alone():
    probability, mask = random_case()
    logits, mask = logit(probability), jnp.asarray(mask)
    np.testing.assert_array_equal(segmentation_loss(logits, mask), soft_dice_loss(logits, mask))


def test_tversky_by_hand():
    logits = logit([[[[0.9], [0.2]], [[0.5], [0.4]]]])
    mask = image([[1, 0], [1, 0]])
    # TP 1.4, FP 0.6, FN 0.6; a pixel's worth is added as in Dice, where it is 1 to 2 TP
    for share in (0.0, 0.3, 1.0):
        total = 2 * (1.4 + share * 0.6 + (1 - share) * 0.6)
        expected = 1 - (2.8 + 1) / (total + 1)
        np.testing.assert_allclose(
            soft_dice_loss(logits, mask, tversky=share), [expected], rtol=1e-5
        )


def test_tversky_share_weighs_what_is_drawn_too_much():
    mask = jnp.zeros((1, 16, 16, 1)).at[:, 4:12, 4:12].set(1.0)
    more = jnp.full_like(mask, -30.0).at[:, 2:14, 4:12].set(30.0)
    losses = [float(soft_dice_loss(more, mask, tversky=share)[0]) for share in (0.3, 0.5, 0.7)]
    assert losses[0] < losses[1] < losses[2]


def test_generalised_cross_entropy_by_hand_and_in_the_limit():
    probability, mask = random_case()
    true = np.where(mask > 0, probability, 1 - probability)
    for q in (0.3, 0.7, 1.0):
        found = bce_loss(logit(probability), jnp.asarray(mask), robust=q)
        np.testing.assert_allclose(found, ((1 - true**q) / q).mean((1, 2, 3)), rtol=1e-4)
    plain = bce_loss(logit(probability), jnp.asarray(mask))
    nearly = bce_loss(logit(probability), jnp.asarray(mask), robust=1e-3)
    np.testing.assert_allclose(nearly, plain, rtol=5e-3)


def test_wrong_labels_pull_less_on_the_robust_loss():
    logits, wrong = image([[8.0]]), image([[0.0]])
    slopes = [
        float(jax.grad(lambda x, q=q: bce_loss(x, wrong, robust=q).sum())(logits)[0, 0, 0, 0])
        for q in (0.0, 0.5)
    ]
    assert 0 < slopes[1] < 0.1 * slopes[0]


def test_edge_weight_is_of_the_pixels_within_two_of_the_outline():
    mask = jnp.zeros((1, 16, 16, 1)).at[:, 4:12, 4:12].set(1.0)
    logits = jnp.zeros_like(mask)  # each pixel costs log 2
    near = np.zeros((16, 16), bool)
    near[2:14, 2:14] = True  # within two outside
    near[6:10, 6:10] = False  # further than two inside
    expected = np.log(2) * (1 + 3 * near.mean())
    np.testing.assert_allclose(bce_loss(logits, mask, edge=3.0), [expected], rtol=1e-5)
    full = jnp.ones_like(mask)  # no outline within the image
    np.testing.assert_allclose(bce_loss(logits, full, edge=3.0), [np.log(2)], rtol=1e-5)


def test_segmentation_loss_passes_its_fields_on():
    probability, mask = random_case()
    logits, truth = logit(probability), jnp.asarray(mask)
    found = segmentation_loss(logits, truth, dice=0.5, bce=2.0, tversky=0.3, robust=0.4, edge=1.5)
    expected = 0.5 * soft_dice_loss(logits, truth, tversky=0.3) + 2.0 * bce_loss(
        logits, truth, robust=0.4, edge=1.5
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
