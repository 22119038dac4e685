"""Simulated radiographs: keyed, plausible, and a mask that is the geometry's own."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung import phantom
from jaxlung.phantom import anatomy, bones


@pytest.fixture(scope="module")
def films():
    return phantom.radiographs(jax.random.key(1), 32)


def test_image_i_depends_on_key_and_index_alone(films):
    images, masks = films
    again, again_masks = phantom.radiographs(jax.random.key(1), 3, start=20)
    np.testing.assert_array_equal(again, images[20:23])
    np.testing.assert_array_equal(again_masks, masks[20:23])
    other, _ = phantom.radiographs(jax.random.key(2), 3)
    assert not np.array_equal(other, images[:3])
    assert len({image.tobytes() for image in images}) == 32


def test_single_radiograph_agrees_with_the_chunk(films):
    image, labels = jax.jit(phantom.radiograph)(jax.random.fold_in(jax.random.key(1), 7))
    assert image.dtype == jnp.float32 and labels.dtype == jnp.int32
    assert 0 <= float(image.min()) and float(image.max()) <= 1
    np.testing.assert_allclose(np.asarray(image) * 255, films[0][7], atol=0.6)
    np.testing.assert_array_equal(np.asarray(labels) > 0, films[1][7] > 0)
    right, left = (np.argwhere(np.asarray(labels) == side)[:, 1].mean() for side in (1, 2))
    assert right < left  # the patient's right lung is on the image's left


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
        middle = image[rows.min() + 60 : rows.max() - 10, round(columns.mean()) - 4 :][:, :8]
        assert lung + 25 < middle.mean()


def test_right_dome_is_the_higher():
    """On the phantom's own grid, over patients, at the middle of each lung."""
    for seed in range(16):
        a = anatomy.random_anatomy(jax.random.key(seed))
        right, left = anatomy.dome_height(a, jnp.array([-6.0, 6.0]))
        assert right < left


def test_another_size_shows_the_same_patient():
    key = jax.random.key(11)
    masks = {}
    for size in (128, 256, 512):
        labels = jax.jit(lambda k, size=size: phantom.radiograph(k, size=size)[1])(key)
        small = cv2.resize(
            (np.asarray(labels) > 0).astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA
        )
        masks[size] = small >= 0.5
    for size in (128, 512):
        both = (masks[size] & masks[256]).sum()
        assert 2 * both / (masks[size].sum() + masks[256].sum()) > 0.98


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


def test_air_is_the_integral_along_the_ray():
    """Beside the mediastinum: the part of the cavity's depth that lies above the diaphragm."""
    a = anatomy.random_anatomy(jax.random.key(5))._replace(turn=jnp.float32(0.0))
    depth = np.linspace(-14, 14, 56001)  # backwards
    k = float((a.recess + 1.5) / a.depth**2)
    below_dome = 0
    for x, dz in ((-9.0, -6.0), (-7.0, -0.5), (-7.0, 0.5), (-8.0, 1.5), (-6.0, 3.0), (9.5, 0.4)):
        dome = float(anatomy.dome_height(a, jnp.float32(x)))
        z = dome + dz
        outer = float(anatomy.chest_half_width(a, jnp.float32(z)))
        cavity = (abs(x) / outer) ** 2.6 + (np.abs(depth) / float(a.depth)) ** 2.6 < 1
        diaphragm = dome + k * np.where(depth > 0, depth, depth / 1.8) ** 2
        expected = (cavity & (z < diaphragm)).mean() * 28
        found = anatomy.lungs(a, jnp.float32([x]), jnp.float32([z])).air_HxW[0]
        np.testing.assert_allclose(found, expected, atol=4e-3)
        below_dome += 0 < expected < cavity.mean() * 28
    assert below_dome >= 3  # rays that the diaphragm cuts


def test_torso_is_the_integral_along_the_ray():
    a = anatomy.random_anatomy(jax.random.key(6))._replace(breast=jnp.float32(0.0))
    depth = np.linspace(-18, 18, 72001)
    z = float(a.apex) + 26.0  # below armpits and shoulders
    width = float(anatomy.chest_half_width(a, jnp.float32(z)) + 0.8 + a.fat)
    half_depth = float(a.depth + 1.0 + 0.7 * a.fat)
    for x in (0.0, 5.0, -8.0):
        expected = ((abs(x) / width) ** 2.3 + (np.abs(depth) / half_depth) ** 2.3 < 1).mean() * 36
        found = anatomy.body_chord(a, jnp.float32(x), jnp.float32(z))
        np.testing.assert_allclose(found, expected, atol=4e-3)


def test_mask_holds_neither_heart_nor_abdomen_nor_anything_outside_the_body():
    x, z = jnp.meshgrid(jnp.linspace(-20, 20, 161), jnp.linspace(-20, 20, 161))

    @jax.jit
    def maps(key):
        a = anatomy.random_anatomy(key)
        lungs = anatomy.lungs(a, x, z)
        # The left ventricle's ellipse and the right atrium's, as inequalities.
        dx, dz = x - a.turn - a.heart_x, z - a.heart_z
        cos, sin = jnp.cos(a.heart_tilt), jnp.sin(a.heart_tilt)
        ventricle = jnp.hypot((dx * cos + dz * sin) / a.heart_a, (dz * cos - dx * sin) / a.heart_b)
        atrium = jnp.hypot((x - a.turn + 0.7) / a.atrium, (dz - 0.4) / 5.2)
        heart = ((ventricle < 1) & (x > a.turn)) | ((atrium < 1) & (x < a.turn))
        abdomen = z > anatomy.dome_height(a, x)
        return lungs, heart, abdomen, anatomy.body_chord(a, x, z)

    for seed in range(8):
        lungs, heart, abdomen, body = jax.tree.map(np.asarray, maps(jax.random.key(seed)))
        mask = lungs.labels_HxW > 0
        assert mask.any() and heart.any()
        assert np.asarray(x)[heart].mean() > 0  # the heart lies to the patient's left
        assert not (mask & heart).any()
        assert not (mask & abdomen).any()
        assert (body[mask] > lungs.air_HxW[mask]).all()
        # Lung is seen through the dome's shadow too: air below it that the mask leaves out.
        assert (lungs.air_HxW[abdomen] > 1).any()


def test_lung_tops_rise_above_the_clavicles():
    z = jnp.linspace(-22, 0, 441)
    x = jnp.full_like(z, -3.5)

    @jax.jit
    def column(key):
        a = anatomy.random_anatomy(key)
        lungs = anatomy.lungs(a, x, z)
        return bones.shoulder_chord(a, x, z) > 0.3, lungs.labels_HxW > 0

    for seed in range(8):
        bone, lung = jax.tree.map(np.asarray, column(jax.random.key(seed)))
        assert bone.any() and lung.any()
        assert float(z[bone].min()) > float(z[lung].min()) + 1.0
