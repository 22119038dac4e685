"""Simulated radiographs: keyed, plausible, and a mask that is the geometry's own."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung import phantom
from jaxlung.phantom import anatomy, bones

# Compiling the phantom takes most of the time: the sizes are those that other tests use too.
SIZE = 128


@pytest.fixture(scope="module")
def films():
    return phantom.radiographs(jax.random.key(1), 32, size=SIZE)


@pytest.fixture(scope="module")
def patients():
    """Sixteen patients, of the keys 0 to 15."""
    draw = jax.jit(jax.vmap(lambda seed: anatomy.random_anatomy(jax.random.key(seed))))
    drawn = draw(jnp.arange(16))
    return [jax.tree.map(lambda values, i=i: values[i], drawn) for i in range(16)]


def test_image_i_depends_on_key_and_index_alone(films):
    images, masks = films
    again, again_masks = phantom.radiographs(jax.random.key(1), 3, size=SIZE, start=18)
    np.testing.assert_array_equal(again, images[18:21])
    np.testing.assert_array_equal(again_masks, masks[18:21])
    other, _ = phantom.radiographs(jax.random.key(2), 3, size=SIZE)
    assert not np.array_equal(other, images[:3])
    assert len({image.tobytes() for image in images}) == 32


def test_single_radiograph_agrees_with_the_chunk(films):
    single = jax.jit(functools.partial(phantom.radiograph, size=SIZE))
    image, labels = single(jax.random.fold_in(jax.random.key(1), 7))
    assert image.dtype == jnp.float32 and labels.dtype == jnp.int32
    assert 0 <= float(image.min()) and float(image.max()) <= 1
    np.testing.assert_allclose(np.asarray(image) * 255, films[0][7], atol=0.6)
    np.testing.assert_array_equal(np.asarray(labels) > 0, films[1][7] > 0)
    right, left = (np.argwhere(np.asarray(labels) == side)[:, 1].mean() for side in (1, 2))
    assert right < left  # the patient's right lung is on the image's left


def test_images_are_256_pixels_wide_unless_said_otherwise():
    image, labels = jax.eval_shape(phantom.radiograph, jax.random.key(0))
    assert image.shape == labels.shape == (256, 256)


def test_two_lungs_of_plausible_size(films):
    for mask in films[1]:
        pieces, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        assert pieces == 3  # background and two lungs
        areas = np.sort(stats[1:, cv2.CC_STAT_AREA])
        assert 0.45 < areas[0] / areas[1] <= 1
        assert 0.12 < mask.mean() < 0.40
    assert 0.2 < np.median([mask.mean() for mask in films[1]]) < 0.3


def test_costophrenic_angles_are_lateral_and_the_lungs_within_the_film(films):
    for mask in films[1]:
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        right, left = np.argsort(stats[1:, cv2.CC_STAT_LEFT]) + 1
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
        for lung, lateral in ((right, 0.0), (left, 1.0)):
            x0, y0, width, height = stats[lung, :4]
            lowest = np.nonzero(labels[y0 + height - 1] == lung)[0].mean()
            assert abs((lowest - x0) / width - lateral) < 0.25


def test_images_use_the_range_and_differ_in_exposure(films):
    contrast = [float(image[mask > 0].std()) for image, mask in zip(*films, strict=True)]
    lungs = [float(image[mask > 0].mean()) for image, mask in zip(*films, strict=True)]
    assert min(contrast) > 8
    assert max(lungs) - min(lungs) > 40


def test_lungs_are_darker_than_what_lies_between_and_below(films):
    for image, mask in zip(*films, strict=True):
        lung = image[mask > 0].mean()
        rows, columns = np.nonzero(mask)
        middle = image[rows.min() + 30 : rows.max() - 5, round(columns.mean()) - 2 :][:, :4]
        assert lung + 25 < middle.mean()


def test_right_dome_is_the_higher(patients):
    """On the phantom's own grid, over patients, at the middle of each lung."""
    for a in patients:
        right, left = anatomy.dome_height(a, jnp.array([-6.0, 6.0]))
        assert right < left


def dice_of(mask, other):
    return 2 * (mask & other).sum() / (mask.sum() + other.sum())


def shrink(mask, size):
    return cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) >= 0.5


def test_another_size_shows_the_same_patients(films):
    _, small = phantom.radiographs(jax.random.key(1), 8, size=32)
    for mask, large in zip(small > 0, films[1], strict=False):
        assert dice_of(mask, shrink(large, 32)) > 0.98


@pytest.mark.slow
def test_larger_sizes_show_the_same_patient():
    key = jax.random.key(11)
    masks = {}
    for size in (128, 256, 512):
        labels = jax.jit(lambda k, size=size: phantom.radiograph(k, size=size)[1])(key)
        masks[size] = shrink(np.asarray(labels) > 0, 128)
    for size in (128, 512):
        assert dice_of(masks[size], masks[256]) > 0.98


def test_ellipsoid_chord_by_hand():
    chord = anatomy.ellipsoid_chord
    assert float(chord(jnp.float32(0), jnp.float32(0), 4.5)) == 9.0
    np.testing.assert_allclose(chord(jnp.float32(0.6), jnp.float32(0), 1.0), 1.6, rtol=1e-6)
    assert float(chord(jnp.float32(0.9), jnp.float32(0.9), 2.0)) == 0.0


def test_tube_chord_by_hand():
    # Through the axis: a wall of 0.28 radii on both sides, and two fifths of the marrow.
    expected = 2 * (1 - 0.6 * 0.72)
    np.testing.assert_allclose(bones.tube_chord(jnp.float32(0), 1.0), expected, rtol=1e-6)
    assert float(bones.tube_chord(jnp.float32(1.1), 1.0)) == 0.0


def test_capsule_chord_is_the_integral_along_the_ray():
    depth = np.linspace(-4, 4, 16001)
    start, end, radius = (1.0, 2.0), (4.0, 6.0), 1.5  # five long, along (0.6, 0.8)
    for along, across in ((2.5, 0.0), (1.0, 1.2), (-0.9, 0.8), (2.0, 1.6)):
        x, z = 1 + 0.6 * along - 0.8 * across, 2 + 0.8 * along + 0.6 * across
        nearest = min(max(along, 0.0), 5.0)
        apart2 = (along - nearest) ** 2 + across**2
        inside = apart2 + depth**2 < radius**2
        chord = anatomy.capsule_chord(jnp.float32(x), jnp.float32(z), start, end, (radius, radius))
        np.testing.assert_allclose(chord, inside.mean() * 8, atol=2e-3)


def test_air_is_the_integral_along_the_ray(patients):
    """Beside the mediastinum: the part of the cavity's depth that lies above the diaphragm."""
    a = patients[5]._replace(turn=jnp.float32(0.0))
    depth = np.linspace(-14, 14, 56001)  # backwards
    k = float((a.recess + 1.5) / a.depth**2)
    below_dome = 0
    x_6, dz_6 = np.float32(
        [(-9.0, -6.0), (-7.0, -0.5), (-7.0, 0.5), (-8.0, 1.5), (-6.0, 3.0), (9.5, 0.4)]
    ).T

    @jax.jit
    def maps(x):
        dome = anatomy.dome_height(a, x)
        z = dome + dz_6
        return dome, z, anatomy.chest_half_width(a, z), anatomy.lungs(a, x, z).air_HxW

    for x, dome, z, outer, found in zip(x_6, *map(np.asarray, maps(x_6)), strict=True):
        cavity = (abs(x) / outer) ** 2.6 + (np.abs(depth) / float(a.depth)) ** 2.6 < 1
        diaphragm = dome + k * np.where(depth > 0, depth, depth / 1.8) ** 2
        expected = (cavity & (z < diaphragm)).mean() * 28
        np.testing.assert_allclose(found, expected, atol=4e-3)
        below_dome += 0 < expected < cavity.mean() * 28
    assert below_dome >= 3  # rays that the diaphragm cuts


def test_torso_is_the_integral_along_the_ray(patients):
    a = patients[6]._replace(breast=jnp.float32(0.0))
    depth = np.linspace(-18, 18, 72001)
    z = float(a.apex) + 26.0  # below armpits and shoulders
    width = float(anatomy.chest_half_width(a, jnp.float32(z)) + 0.8 + a.fat)
    half_depth = float(a.depth + 1.0 + 0.7 * a.fat)
    x_3 = np.float32([0.0, 5.0, -8.0])
    found_3 = anatomy.body_chord(a, x_3, jnp.full(3, z))
    for x, found in zip(x_3, found_3, strict=True):
        expected = ((abs(x) / width) ** 2.3 + (np.abs(depth) / half_depth) ** 2.3 < 1).mean() * 36
        np.testing.assert_allclose(found, expected, atol=4e-3)


def test_mask_holds_neither_heart_nor_abdomen_nor_what_is_outside_and_rises_above_the_clavicles(
    patients,
):
    x, z = jnp.meshgrid(jnp.linspace(-20, 20, 161), jnp.linspace(-20, 20, 161))
    z_column = jnp.linspace(-22, 0, 441)
    x_column = jnp.full_like(z_column, -3.5)

    @jax.jit
    def maps(a):
        lungs = anatomy.lungs(a, x, z)
        # The left ventricle's ellipse and the right atrium's, as inequalities.
        dx, dz = x - a.turn - a.heart_x, z - a.heart_z
        cos, sin = jnp.cos(a.heart_tilt), jnp.sin(a.heart_tilt)
        ventricle = jnp.hypot((dx * cos + dz * sin) / a.heart_a, (dz * cos - dx * sin) / a.heart_b)
        atrium = jnp.hypot((x - a.turn + 0.7) / a.atrium, (dz - 0.4) / 5.2)
        heart = ((ventricle < 1) & (x > a.turn)) | ((atrium < 1) & (x < a.turn))
        abdomen = z > anatomy.dome_height(a, x)
        bone = bones.shoulder_chord(a, x_column, z_column) > 0.3
        lung = anatomy.lungs(a, x_column, z_column).labels_HxW > 0
        return lungs, heart, abdomen, anatomy.body_chord(a, x, z), bone, lung

    for a in patients[:8]:
        lungs, heart, abdomen, body, bone, lung = jax.tree.map(np.asarray, maps(a))
        mask = lungs.labels_HxW > 0
        assert mask.any() and heart.any()
        assert np.asarray(x)[heart].mean() > 0  # the heart lies to the patient's left
        assert not (mask & heart).any()
        assert not (mask & abdomen).any()
        assert (body[mask] > lungs.air_HxW[mask]).all()
        # Lung is seen through the dome's shadow too: air below it that the mask leaves out.
        assert (lungs.air_HxW[abdomen] > 1).any()
        assert bone.any() and lung.any()
        assert float(z_column[bone].min()) > float(z_column[lung].min()) + 1.0
