"""Appearance: what each change does, and what it leaves alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.augmentation import appearance

SHAPE = (48, 64)


def image(seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.1, 0.9, (*SHAPE, 1)), jnp.float32)


def two_lungs():
    mask = np.zeros((*SHAPE, 1), np.float32)
    mask[8:40, 6:26] = mask[8:40, 38:58] = 1
    return jnp.asarray(mask)


def dark_lungs():
    """Lungs of 0.2 in a body of 0.7, with a marker of 1."""
    out = np.where(np.asarray(two_lungs()) > 0, 0.2, 0.7).astype(np.float32)
    out[0, 0] = 1
    return jnp.asarray(out)


@functools.cache  # one compile of each change serves all tests
def compiled(function):
    def draw(keys, *arguments):
        return jax.vmap(lambda key: function(key, *arguments))(keys)

    return jax.jit(draw, compiler_options={"xla_backend_optimization_level": 0})


def draws(function, *arguments, seed=0):
    """200 draws."""
    return np.asarray(compiled(function)(jax.random.split(jax.random.key(seed), 200), *arguments))


# Function, and what it is given before its strength.
CHANGES = {
    "opacity": (appearance.random_opacity, image(), two_lungs()),
    "shade": (appearance.random_shade, image()),
    "blur": (appearance.random_blur, image()),
    "noise": (appearance.random_noise, image()),
    "invert": (appearance.random_invert, image()),
    "occlusion": (appearance.random_occlusion, image()),
    "window": (appearance.random_window, image()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_zero_strength_changes_nothing(change):
    out = draws(*change, 0.0)
    np.testing.assert_allclose(out, np.broadcast_to(image(), out.shape), atol=1e-6)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_full_strength_stays_in_range_and_is_a_function_of_the_key(change):
    first, second = (draws(*change, 1.0) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32 and first.shape == (200, *SHAPE, 1)
    assert np.isfinite(first).all() and first.min() >= 0 and first.max() <= 1
    changed = np.abs(first - np.asarray(image())).max((1, 2, 3)) > 1e-3
    assert changed.mean() > 0.2


def test_opacity_brightens_what_is_dark_near_the_lungs():
    before = np.asarray(dark_lungs())
    out = draws(appearance.random_opacity, dark_lungs(), two_lungs(), 1.0)
    assert (out >= before - 1e-6).all()
    lungs = np.asarray(two_lungs()) > 0
    brightened = (out - before)[:, lungs].max(1)
    assert (brightened > 0.02).mean() > 0.9
    assert np.abs((out - before)[:, ~lungs]).max() < 0.4  # the body is brighter than most opacities
    small = ((out - before) > 0.05).mean((1, 2, 3))
    assert small.min() < 0.05 and small.max() > 0.3  # nodules and white-outs


def test_opacity_comes_as_often_as_asked():
    before = np.asarray(dark_lungs())
    changed = [
        np.abs(draws(appearance.random_opacity, before, two_lungs(), 0.3, seed=seed) - before).max(
            (1, 2, 3)
        )
        > 1e-3
        for seed in range(5)
    ]
    assert 0.25 < np.mean(changed) < 0.35


def test_no_opacity_without_lungs():
    out = draws(appearance.random_opacity, dark_lungs(), 0 * two_lungs(), 1.0)
    np.testing.assert_allclose(out, np.broadcast_to(dark_lungs(), out.shape), atol=1e-6)


def test_random_pixel_is_of_the_mask_and_reaches_all_of_it():
    mask = np.zeros((5, 7), np.float32)
    mask[1, 2] = mask[4, 6] = mask[0, 0] = 1
    rows = draws(appearance._random_pixel, jnp.asarray(mask)).astype(int)
    assert {tuple(row) for row in rows} == {(1, 2), (4, 6), (0, 0)}


def test_shade_is_smooth_and_bounded():
    change = draws(appearance.random_shade, jnp.full((*SHAPE, 1), 0.5), 0.2) - 0.5
    assert 0.15 < np.abs(change).max() <= 0.2 + 1e-6
    assert np.abs(np.diff(change, axis=1)).max() < 0.05


def test_blur_keeps_a_constant_and_takes_from_what_varies():
    constant = jnp.full((*SHAPE, 1), 0.4)
    np.testing.assert_allclose(draws(appearance.random_blur, constant, 2.0), 0.4, atol=1e-5)
    spread = draws(appearance.random_blur, image(), 2.0).std((1, 2, 3))
    original = float(image().std())
    assert (spread < original + 1e-5).all()
    assert 0.35 < (spread < 0.98 * original).mean() < 0.55  # half, less those of hardly any width
    assert spread.min() < 0.3 * original


def test_blur_is_a_gaussian_of_its_deviation():
    """The variance of a blurred point is the kernel's."""
    point = jnp.zeros((*SHAPE, 1)).at[24, 32].set(1.0)
    out = draws(appearance.random_blur, point, 1.5)[:, 8:41, 16:49, 0]
    np.testing.assert_allclose(out.sum((1, 2)), 1, atol=1e-5)
    offsets = np.arange(33) - 16
    deviation = np.sqrt((out.sum(2) * offsets**2).sum(1))
    assert 1.3 < deviation.max() <= 1.5
    np.testing.assert_allclose(out, out.transpose(0, 2, 1), atol=1e-6)


def test_noise_has_no_bias_and_the_deviation_asked_for():
    noise = draws(appearance.random_noise, jnp.full((*SHAPE, 1), 0.5), 0.05) - 0.5
    deviation = noise.std((1, 2, 3))
    assert 0.045 < deviation.max() <= 0.052
    assert 0.4 < (deviation > 1e-4).mean() < 0.6
    assert np.abs(noise.mean((1, 2, 3))).max() < 0.005


def test_inversion_is_the_negative():
    out = draws(appearance.random_invert, image(), 0.5)
    negative = np.abs(out - (1 - np.asarray(image()))).max((1, 2, 3)) < 1e-6
    same = np.abs(out - np.asarray(image())).max((1, 2, 3)) < 1e-6
    assert (negative ^ same).all() and 0.35 < negative.mean() < 0.65


def test_a_window_keeps_the_order_of_greys_and_clips_the_rest():
    ramp = jnp.linspace(0, 1, 256).reshape(16, 16, 1)
    out = draws(appearance.random_window, ramp, 1.0).reshape(200, 256)
    steps = np.diff(out, axis=1)
    assert (steps >= -1e-6).all()
    inside = (out[:, 1:] < 1) & (out[:, :-1] > 0)
    for row, within in zip(steps, inside, strict=True):
        slope = row[within] * 255
        assert np.ptp(slope) < 1e-2 and (1 / 2.6 - 1e-3 < slope).all() and (slope < 5 + 1e-2).all()
    # Some show the lung black, as a window of the mediastinum does, and some show no white.
    assert (out[:, 51] == 0).any() and (out[:, -1] < 0.9).any()
    # -300 HU is black and 300 HU white: the mediastinum's, a third of them at least.
    soft = (out[:, round(255 * 724 / 1624)] == 0) & (out[:, round(255 * 1548 / 1624)] > 0.99)
    assert 0.25 < soft.mean() < 0.5


def test_occlusions_are_rectangles_of_one_grey():
    out = draws(appearance.random_occlusion, image(), 1.0)[..., 0]
    covered = np.abs(out - np.asarray(image())[..., 0]) > 1e-6
    assert covered.any((1, 2)).all() and covered.mean() < 0.15
    for picture, where in zip(out, covered, strict=True):
        assert len(np.unique(picture[where])) <= 3
