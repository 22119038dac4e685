"""Augmentation: pure, keyed, and one geometry for image and mask."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.augmentation import appearance, augment
from jaxlung.augmentation.appearance import random_tone
from jaxlung.augmentation.geometry import random_affine, random_bend, warp
from jaxlung.config import AugmentConfig
from jaxlung.structures import lung_places

NOTHING = AugmentConfig(**{field.name: 0.0 for field in dataclasses.fields(AugmentConfig)})
DEFAULT = AugmentConfig()
GEOMETRY = dataclasses.replace(DEFAULT, contrast=0.0, brightness=0.0, gamma=0.0, elastic=0.05)
INTENSITY = dataclasses.replace(
    DEFAULT, rotation=0.0, flip=0.0, scale=0.0, aspect=0.0, shift=0.0, contrast=0.3
)
SHAPE = (24, 32)

# The strengths are arguments of the compiled functions, and batches are of 4 nearly everywhere:
# one compile serves all tests. It takes a third of the time without LLVM's optimisations.
_compile = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@_compile
def _augment(key, image, mask, strengths):
    return augment(key, image, mask, AugmentConfig(**strengths))


@_compile
def _affine(key, strengths):
    keys = jax.random.split(key, 2000)
    return jax.vmap(lambda key: random_affine(key, SHAPE, AugmentConfig(**strengths)))(keys)


@_compile
def _intensity(key, image, strengths):
    keys = jax.random.split(key, 300)
    return jax.vmap(lambda key: random_tone(key, image, AugmentConfig(**strengths)))(keys)


warp_jit = _compile(warp)
_known_strengths = _compile(augment, static_argnums=3)  # what is 0 is left out


def strengths_of(config):
    return {name: float(value) for name, value in dataclasses.asdict(config).items()}


def augment_jit(key, image, mask, config):
    return _augment(key, image, mask, strengths_of(config))


def only(**strengths):
    return dataclasses.replace(NOTHING, **strengths)


def batch(count=4, shape=SHAPE):
    """Smooth images in [0.2, 0.8] and blocky masks, all different."""
    rng = np.random.default_rng(0)
    down, across = np.indices(shape)
    phases = rng.uniform(0, 6, (count, 2, 1, 1))
    image = 0.5 + 0.15 * (np.sin(down / 4 + phases[:, 0]) + np.cos(across / 5 + phases[:, 1]))
    mask = np.kron(rng.random((count, shape[0] // 4, shape[1] // 4)) < 0.5, np.ones((4, 4)))
    return jnp.asarray(image[..., None], jnp.float32), jnp.asarray(mask[..., None], jnp.float32)


def matrices(config):
    return np.asarray(_affine(jax.random.key(7), strengths_of(config)), np.float64)


def planes(shape=SHAPE, channels=2):
    return jnp.asarray(np.random.default_rng(1).random((*shape, channels)), jnp.float32)


def test_zero_strength_is_the_identity():
    image, mask = batch()
    for seed in range(3):
        new_image, new_mask = augment_jit(jax.random.key(seed), image, mask, NOTHING)
        np.testing.assert_allclose(new_image, image, atol=1e-6)
        np.testing.assert_array_equal(new_mask, mask)


def test_mask_follows_the_image():
    """The same array as image and as mask comes out the same, edges included."""
    _, mask = batch()
    for seed in range(8):
        image_out, mask_out = augment_jit(jax.random.key(seed), mask, mask, GEOMETRY)
        # XLA may compute the positions once for each; every operation rounds them to 2e-6 pixels.
        np.testing.assert_allclose(image_out, mask_out, atol=1e-5)
        assert (mask_out != mask).any()


def test_function_of_the_key_alone():
    image, mask = batch()
    first = augment_jit(jax.random.key(1), image, mask, DEFAULT)
    again = augment_jit(jax.random.key(1), image, mask, DEFAULT)
    other = augment_jit(jax.random.key(2), image, mask, DEFAULT)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for i in range(4):
        assert not np.allclose(first[0][i], other[0][i], atol=1e-3)


def test_every_image_has_a_draw_of_its_own():
    image, mask = batch(1)
    image, mask = np.repeat(image, 4, axis=0), np.repeat(mask, 4, axis=0)
    image, _ = augment_jit(jax.random.key(0), image, mask, DEFAULT)
    for i in range(4):
        for j in range(i):
            assert not np.allclose(image[i], image[j], atol=1e-3)


def test_image_of_a_batch_does_not_depend_on_its_neighbours():
    image, mask = batch()
    key = jax.random.key(3)
    together = augment_jit(key, image, mask, DEFAULT)
    changed = augment_jit(key, image.at[1].set(0.9), mask.at[1].set(1 - mask[1]), DEFAULT)
    for before, after in zip(together, changed, strict=True):
        np.testing.assert_array_equal(after[::2], before[::2])
        assert (after[1] != before[1]).any()
    # Image i has key i of the split, with no company at all; and where strengths are known while
    # tracing, changes of strength 0 are left out, which makes no difference.
    alone = _known_strengths(key, image[:1], mask[:1], DEFAULT)
    for before, after in zip(together, alone, strict=True):
        np.testing.assert_allclose(after[0], before[0], atol=1e-5)


def test_ranges_and_types_hold_at_full_strength():
    strongest = AugmentConfig(
        rotation=180,
        flip=0.5,
        scale=4,
        aspect=4,
        squeeze=4,
        shift=1,
        contrast=1,
        brightness=1,
        gamma=9,
        elastic=0.05,
        opacity=1,
        shade=1,
        blur=1.5,
        noise=1,
        invert=0.5,
        occlusion=1,
        window=1,
    )
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.random((4, *SHAPE, 1)), jnp.float32)
    image = image.at[:, 0].set(0.0).at[:, 1].set(1.0)
    mask = (image > 0.5).astype(jnp.float32)
    for seed in range(8):
        image_out, mask_out = augment_jit(jax.random.key(seed), image, mask, strongest)
        assert image_out.shape == mask_out.shape == image.shape
        assert image_out.dtype == mask_out.dtype == jnp.float32
        assert image_out.min() >= 0 and image_out.max() <= 1 and np.isfinite(image_out).all()
        assert mask_out.min() >= 0 and mask_out.max() <= 1


def test_sure_flip_mirrors_exactly():
    image, mask = batch()
    image_out, mask_out = augment_jit(jax.random.key(0), image, mask, only(flip=1.0))
    np.testing.assert_allclose(image_out, image[:, :, ::-1], atol=1e-6)
    np.testing.assert_array_equal(mask_out, mask[:, :, ::-1])


@pytest.mark.slow  # eagerly, each operation is a program of its own
def test_jit_equals_eager():
    image, mask = batch()
    eager = augment(jax.random.key(5), image, mask, DEFAULT)
    jitted = augment_jit(jax.random.key(5), image, mask, DEFAULT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), eager, jitted)


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_warp_by_quarter_turns_about_the_centre(quarter_turns):
    side = 17
    picture = planes((side, side))
    angle = quarter_turns * np.pi / 2
    linear = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = np.full(2, (side - 1) / 2)
    matrix = jnp.asarray(np.c_[linear.round(), centre - linear.round() @ centre], jnp.float32)
    np.testing.assert_array_equal(warp_jit(picture, matrix), np.rot90(picture, quarter_turns))


@pytest.mark.parametrize(("down", "across"), [(0, 0), (3, 0), (-2, 5), (0, -7), (40, 0)])
def test_warp_by_whole_pixels(down, across):
    picture = planes()
    padded = np.pad(picture, ((50, 50), (50, 50), (0, 0)))
    expected = np.roll(padded, (down, across), axis=(0, 1))[50:-50, 50:-50]
    matrix = jnp.array([[1.0, 0.0, -down], [0.0, 1.0, -across]])
    np.testing.assert_array_equal(warp_jit(picture, matrix), expected)


def test_warp_between_pixels_is_bilinear():
    picture = np.asarray(planes())
    matrix = jnp.array([[1.0, 0.0, 0.25], [0.0, 1.0, 0.5]])
    padded = np.pad(picture, ((0, 1), (0, 1), (0, 0)))
    rows = 0.75 * padded[:-1] + 0.25 * padded[1:]
    np.testing.assert_allclose(
        warp_jit(picture, matrix), 0.5 * rows[:, :-1] + 0.5 * rows[:, 1:], atol=1e-6
    )


def test_warp_of_a_plane_is_exact():
    """Bilinear interpolation reproduces what is linear in row and column."""
    rows, columns = np.indices((40, 40)).astype(np.float32)
    picture = jnp.asarray((2 * rows - 3 * columns)[..., None])
    matrix = np.array([[0.9, -0.4, 3.0], [0.3, 1.1, -6.0]], np.float32)
    y = matrix[0, 0] * rows + matrix[0, 1] * columns + matrix[0, 2]
    x = matrix[1, 0] * rows + matrix[1, 1] * columns + matrix[1, 2]
    inside = (y >= 0) & (y <= 39) & (x >= 0) & (x <= 39)
    assert 300 < inside.sum() < 1600
    out = np.asarray(warp_jit(picture, jnp.asarray(matrix)))[..., 0]
    np.testing.assert_allclose(out[inside], (2 * y - 3 * x)[inside], atol=1e-3)
    outside = (y <= -1) | (y >= 40) | (x <= -1) | (x >= 40)
    assert outside.any() and not out[outside].any()


def test_bend_is_smooth_and_bounded():
    keys = jax.random.split(jax.random.key(0), 50)
    bend = np.asarray(_compile(jax.vmap(lambda key: random_bend(key, SHAPE, 0.05)))(keys))
    for axis, side in enumerate(SHAPE):
        assert 0.045 * side < np.abs(bend[:, axis]).max() <= 0.05 * side + 1e-5
    # Neighbours stay in order: the image does not fold.
    assert np.abs(np.diff(bend[:, 0], axis=1)).max() < 1
    assert np.abs(np.diff(bend[:, 1], axis=2)).max() < 1


@pytest.mark.parametrize(
    ("place", "field"),
    [(0, "opacity"), (1, "shade"), (3, "blur"), (4, "noise"), (5, "invert"), (6, "occlusion")],
)
def test_each_strength_of_appearance_reaches_its_change(place, field):
    """Alone, it is traced as the one function of that name, with the key of its place."""
    config, change = only(**{field: 0.5}), getattr(appearance, f"random_{field}")
    more = (batch(1)[1][0],) if field == "opacity" else ()

    def by_hand(key, image, mask):
        keys = jax.random.split(key, 7)
        if place < 2:
            image = change(keys[place], image, *more, 0.5)
        image = random_tone(keys[2], image, config)
        return change(keys[place], image, *more, 0.5) if place > 2 else image

    def traced(function):
        image, mask = batch(1)
        return str(jax.make_jaxpr(function)(jax.random.key(4), image[0], mask[0]))

    found = traced(
        lambda key, image, mask: appearance.random_appearance(key, image, *more or (mask,), config)
    )
    assert found == traced(by_hand)


def test_a_window_comes_before_all_else_and_leaves_other_draws_alone():
    image, mask = batch(1)
    config = only(window=1.0, shade=0.5)

    def by_hand(key, image):
        shown = appearance.random_window(jax.random.fold_in(key, 7), image, 1.0)
        return appearance.random_appearance(key, shown, image, only(shade=0.5))

    key = jax.random.key(4)
    np.testing.assert_allclose(
        _compile(lambda key, image: appearance.random_appearance(key, image, image, config))(
            key, image[0]
        ),
        _compile(by_hand)(key, image[0]),
        atol=1e-6,
    )


def test_opacity_is_of_the_moved_mask():
    image, mask = batch()
    out, moved = augment_jit(jax.random.key(4), image, mask, only(opacity=1.0, flip=1.0))
    keys = jax.random.split(jax.random.split(jax.random.split(jax.random.key(4), 4)[0], 3)[2], 7)
    change = _compile(appearance.random_opacity)
    expected = change(keys[0], image[0, :, ::-1], moved[0], 1.0)
    np.testing.assert_allclose(out[0], expected, atol=1e-5)


def test_an_opacity_lies_in_the_lungs_and_in_no_other_structure():
    """Nor where an image has its heart labelled alone, or a network no lung."""
    image, lung = batch()
    assert 0 < lung.mean() < 1
    heart = jnp.roll(lung, SHAPE[1] // 2, axis=2)
    config, key = only(opacity=1.0), jax.random.key(4)
    change = _compile(augment, static_argnums=(3, 4, 5))
    expected = change(key, image, lung, config)[0]
    assert (expected != image).any()
    both = jnp.concatenate([heart, lung], axis=-1)
    for outputs, masks in ((("heart", "lung"), both), (("lung", "heart"), both[..., ::-1])):
        out, moved = change(key, image, masks, config, (), lung_places(outputs))
        np.testing.assert_allclose(out, expected, atol=1e-6)
        np.testing.assert_allclose(moved, masks, atol=1e-6)
    assert (change(key, image, both, config)[0] != expected).any()  # all may hold it
    for outputs, masks in ((("heart", "lung"), both.at[..., 1].set(0)), (("heart",), heart)):
        out, _ = change(key, image, masks, config, (), lung_places(outputs))
        np.testing.assert_allclose(out, image, atol=1e-6)


def test_affine_stays_within_its_ranges():
    linear, offset = np.split(matrices(DEFAULT), [2], axis=2)
    determinant = np.linalg.det(linear)
    zoom = np.abs(determinant) ** -0.5
    assert 1 / 1.2 - 1e-5 <= zoom.min() < 0.86 and 1.16 < zoom.max() <= 1.2 + 1e-5
    angle = np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert -15.001 <= angle.min() < -14 and 14 < angle.max() <= 15.001
    lengths = np.linalg.norm(linear, axis=1)
    aspect = lengths[:, 0] / lengths[:, 1]
    assert 1 / 1.15 - 1e-5 <= aspect.min() < 0.89 and 1.12 < aspect.max() <= 1.15 + 1e-5
    # The film is stretched along its own sides, after the patient was turned: on the way back to
    # the input its sides stay at a right angle.
    np.testing.assert_allclose((linear[:, :, 0] * linear[:, :, 1]).sum(axis=1), 0, atol=1e-5)
    assert 0.4 < (determinant < 0).mean() < 0.6
    # The output pixel that shows the input's centre is off the middle by the shift alone.
    centre = (np.array(SHAPE) - 1) / 2
    shown_at = np.linalg.solve(linear, centre[None, :, None] - offset)[..., 0]
    shift = (shown_at - centre) / np.array(SHAPE)
    assert (np.abs(shift) <= 0.08 + 1e-5).all() and (np.abs(shift).max(axis=0) > 0.075).all()


def test_draws_are_symmetric_and_independent():
    linear = matrices(DEFAULT)[:, :, :2]
    determinant = np.linalg.det(linear)
    lengths = np.linalg.norm(linear, axis=1)
    draws = np.stack(
        [
            np.arctan2(linear[:, 1, 0], linear[:, 0, 0]) / np.deg2rad(15),
            -np.log(np.abs(determinant)) / 2 / np.log(1.2),
            np.log(lengths[:, 0] / lengths[:, 1]) / np.log(1.15),
            np.sign(determinant),
        ]
    )
    assert np.abs(draws.mean(axis=1)).max() < 0.07
    np.testing.assert_allclose(draws[:3].std(axis=1), 1 / np.sqrt(3), atol=0.03)
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.08


def test_a_squeeze_shrinks_one_side_of_half_of_the_images_and_leaves_bars():
    linear = matrices(only(squeeze=0.5))[:, :, :2]
    np.testing.assert_allclose(linear[:, [0, 1], [1, 0]], 0, atol=1e-6)
    factors = np.sort(np.abs(linear[:, [0, 1], [0, 1]]), axis=1)
    np.testing.assert_allclose(factors[:, 0], 1, atol=1e-6)
    squeezed = factors[:, 1] > 1
    assert 0.45 < squeezed.mean() < 0.55 and 1.45 < factors.max() <= 1.5 + 1e-6
    assert 0.4 < (linear[squeezed, 0, 0] > 1).mean() < 0.6
    # The other draws stay what they are without it.
    both = matrices(only(squeeze=0.5, rotation=20.0, flip=0.5))[:, :, :2]
    without = matrices(only(rotation=20.0, flip=0.5))[:, :, :2]
    scale = np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(both / scale, without, atol=1e-5)
    out, _ = augment_jit(jax.random.key(1), *[jnp.ones((8, 16, 16, 1))] * 2, only(squeeze=1.0))
    assert (np.asarray(out)[:, 0].max((1, 2)) == 0).any() or (
        np.asarray(out)[:, :, 0].max((1, 2)) == 0
    ).any()


@pytest.mark.parametrize(
    ("strengths", "expected"),
    [
        ({}, {"zoom": False, "angle": False, "aspect": False, "flip": False}),
        ({"rotation": 20}, {"zoom": False, "angle": True, "aspect": False, "flip": False}),
        ({"scale": 0.3}, {"zoom": True, "angle": False, "aspect": False, "flip": False}),
        ({"aspect": 0.3}, {"zoom": False, "angle": False, "aspect": True, "flip": False}),
        ({"flip": 0.5}, {"zoom": False, "angle": False, "aspect": False, "flip": True}),
    ],
)
def test_each_strength_moves_one_thing(strengths, expected):
    linear = matrices(only(**strengths))[:, :, :2]
    determinant, lengths = np.linalg.det(linear), np.linalg.norm(linear, axis=1)
    moved = {
        "zoom": np.ptp(np.abs(determinant)) > 1e-5,
        "angle": np.ptp(np.arctan2(linear[:, 1, 0], linear[:, 0, 0])) > 1e-5,
        "aspect": np.ptp(lengths[:, 0] / lengths[:, 1]) > 1e-5,
        "flip": np.ptp(np.sign(determinant)) > 0,
    }
    assert moved == expected


def test_intensity_leaves_geometry_alone():
    """Equal pixels stay equal and brighter ones no darker: nothing moves, nor does the mask."""
    image, mask = batch()
    image = jnp.round(image * 20) / 20
    image_out, mask_out = augment_jit(jax.random.key(0), image, mask, INTENSITY)
    np.testing.assert_array_equal(mask_out, mask)
    for before, after in zip(np.asarray(image), np.asarray(image_out), strict=True):
        order = np.argsort(before, axis=None, kind="stable")
        before, after = before.ravel()[order], after.ravel()[order]
        assert (np.diff(after) >= -1e-6).all()
        assert np.abs(np.diff(after)[np.diff(before) == 0]).max() < 1e-6
        assert np.abs(after - before).max() > 1e-3


def intensity(image, **strengths):
    return np.asarray(_intensity(jax.random.key(2), image, strengths_of(only(**strengths))))


def test_strengths_of_intensity():
    image = jnp.linspace(0.3, 0.6, 4).reshape(2, 2, 1)
    added = intensity(image, brightness=0.2) - image[None]
    assert np.ptp(added, axis=(1, 2, 3)).max() < 1e-6
    assert -0.2001 <= added.min() < -0.19 and 0.19 < added.max() <= 0.2001

    contrasted = intensity(image, contrast=0.4)
    np.testing.assert_allclose(contrasted.mean((1, 2, 3)), 0.45, atol=1e-5)
    factor = contrasted.std((1, 2, 3)) / np.asarray(image).std()
    assert 0.5999 <= factor.min() < 0.62 and 1.38 < factor.max() <= 1.4001

    exponents = np.log(intensity(image, gamma=0.8)) / np.log(image)[None]
    assert np.ptp(exponents, axis=(1, 2, 3)).max() < 1e-4
    assert 1 / 1.8 - 1e-3 <= exponents.min() < 0.58 and 1.72 < exponents.max() <= 1.8 + 1e-3


def test_inputs_outside_0_to_1_stay_finite():
    image = jnp.array([-0.5, 0.0, 1.0, 2.0]).reshape(2, 2, 1)
    out = intensity(image, gamma=9.0, contrast=1.0, brightness=1.0)
    assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 1
