"""Simulated radiographs: keyed, plausible, and a mask that is the geometry's own."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung import phantom, phantom_anatomy, phantom_bones


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
        assert 0.12 < mask.mean() < 0.42


def test_lungs_are_darker_than_what_lies_between_and_below(films):
    for image, mask in zip(*films, strict=True):
        lung = image[mask > 0].mean()
        rows, columns = np.nonzero(mask)
        middle = image[rows.min() + 60 : rows.max() - 10, round(columns.mean()) - 4 :][:, :8]
        assert lung + 25 < middle.mean()


def test_right_dome_is_the_higher():
    """On the phantom's own grid, over patients, at the middle of each lung."""
    for seed in range(16):
        a = phantom_anatomy.random_anatomy(jax.random.key(seed))
        right, left = phantom_anatomy.dome_height(a, jnp.array([-6.0, 6.0]))
        assert right < left


def test_another_size_shows_the_same_patient():
    key = jax.random.key(11)
    masks = {}
    for size in (128, 256, 512):
        labels = jax.jit(lambda k, size=size: phantom.radiograph(k, size=size)[1])(key)
        small = cv2.resize((np.asarray(labels) > 0).astype(np.float32), (128, 128),
                           interpolation=cv2.INTER_AREA)  # fmt: skip
        masks[size] = small >= 0.5
    for size in (128, 512):
        both = (masks[size] & masks[256]).sum()
        assert 2 * both / (masks[size].sum() + masks[256].sum()) > 0.98


def test_ellipsoid_chord_by_hand():
    chord = phantom_anatomy.ellipsoid_chord
    assert float(chord(jnp.float32(0), jnp.float32(0), 4.5)) == 9.0
    np.testing.assert_allclose(chord(jnp.float32(0.6), jnp.float32(0), 1.0), 1.6, rtol=1e-6)
    assert float(chord(jnp.float32(0.9), jnp.float32(0.9), 2.0)) == 0.0


def test_tube_chord_by_hand():
    # Through the axis: a wall of 0.28 radii on both sides, and a fifth of the marrow.
    expected = 2 * (1 - 0.8 * 0.72)
    np.testing.assert_allclose(phantom_bones.tube_chord(jnp.float32(0), 1.0), expected, rtol=1e-6)
    assert float(phantom_bones.tube_chord(jnp.float32(1.1), 1.0)) == 0.0


def test_heart_chord_is_the_integral_along_the_ray():
    a = phantom_anatomy.random_anatomy(jax.random.key(5))._replace(heart_tilt=jnp.float32(0.6))
    depth = np.linspace(-6, 6, 24001)
    for dx, dz in ((0.0, 0.0), (3.0, 2.0), (-1.0, 1.5), (9.0, 9.0)):
        x, z = a.heart_x + dx, a.heart_z + dz
        u = (dx * np.cos(0.6) + dz * np.sin(0.6)) / a.heart_a
        v = (dz * np.cos(0.6) - dx * np.sin(0.6)) / a.heart_b
        main = (u**2 + v**2 + (depth / 4.5) ** 2 < 1).mean() * 12
        atrium = ((x + 1.6) / 2.9) ** 2 + ((z - a.heart_z + 0.3) / 4.2) ** 2
        right = (atrium + (depth / 3.5) ** 2 < 1).mean() * 12
        chord = phantom_anatomy.heart_chord(a, x, z)
        np.testing.assert_allclose(chord, max(main, right), atol=2e-3)


def test_mask_holds_neither_heart_nor_anything_outside_the_body():
    x, z = jnp.meshgrid(jnp.linspace(-20, 20, 161), jnp.linspace(-20, 20, 161))
    for seed in range(8):
        a = phantom_anatomy.random_anatomy(jax.random.key(seed))
        lungs = phantom_anatomy.lungs(a, x, z)
        mask = np.asarray(lungs.labels_HxW) > 0
        assert mask.any()
        heart = np.asarray(phantom_anatomy.heart_chord(a, x - a.turn, z)) > 0
        assert not (mask & heart).any()
        assert not (mask & (np.asarray(z) > np.asarray(phantom_anatomy.dome_height(a, x)))).any()
        body = np.asarray(phantom_anatomy.body_chord(a, x, z))
        assert (body[mask] > np.asarray(lungs.air_HxW)[mask]).all()
        # Lung is seen through the dome's shadow too: air below it that the mask leaves out.
        assert (np.asarray(lungs.air_HxW)[~mask] > 1).any()


def test_heart_edges_lie_on_the_heart():
    a = phantom_anatomy.random_anatomy(jax.random.key(2))
    z = a.heart_z + jnp.linspace(-3, 3, 13)
    right, left = phantom_anatomy.heart_edges(a, z)
    for x in (-right, left):
        u, v = phantom_anatomy._rotate(x - a.heart_x, z - a.heart_z, a.heart_tilt)
        np.testing.assert_allclose((u / a.heart_a) ** 2 + (v / a.heart_b) ** 2, 1, atol=1e-4)
    assert (-right < left).all()
