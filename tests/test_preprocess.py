"""The canvas: nothing shifts, nothing is lost that need not be, and every input is read alike."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlung
from jaxlung.errors import InputError
from jaxlung.io.grey import find_range, to_grey8
from jaxlung.preprocess import (
    canvas_geometry,
    from_canvas,
    is_lung,
    normalize,
    preprocess_image,
    to_canvas,
)

FITS = ("letterbox", "stretch")
SIZE = 64
# The canvas's size, larger, smaller, one axis larger and the other smaller, odd, elongated.
SHAPES = [(64, 64), (200, 150), (301, 257), (40, 48), (31, 23), (150, 40), (33, 97), (63, 65)]
CENTRES = [(0.3, 0.35), (0.65, 0.3), (0.4, 0.7)]  # (down, across), off the middle: a wrong scale
# leaves the middle where it is


def noise(shape, seed=0):
    """uint8 over the full range."""
    image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    image.flat[0], image.flat[-1] = 0, 255
    return image


def relative(shape, centre):
    down, across = np.mgrid[: shape[0], : shape[1]] + 0.5
    return down / shape[0] - centre[0], across / shape[1] - centre[1]


def ellipse(shape, centre, radii=(0.25, 0.22)):
    down, across = relative(shape, centre)
    return (down / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1


def blob(shape, centre):
    down, across = relative(shape, centre)
    return np.rint(255 * np.exp(-(down**2 + across**2) / (2 * 0.09**2))).astype(np.uint8)


def centroid(plane):
    """(down, across) in pixels from the edge, pixel i covering [i, i + 1)."""
    plane = np.asarray(plane, np.float64)
    rows, columns = (np.arange(side) + 0.5 for side in plane.shape)
    return np.array([rows @ plane.sum(1), columns @ plane.sum(0)]) / plane.sum()


def box_scale(geometry):
    return np.array([geometry.box_height / geometry.height, geometry.box_width / geometry.width])


def dice(left, right):
    return 2 * (left & right).sum() / (left.sum() + right.sum())


@pytest.mark.parametrize("size", [16, 64, 255, 256])
def test_letterbox_geometry(size):
    rng = np.random.default_rng(size)
    sides = np.exp(rng.uniform(0, np.log(5000), (300, 2))).astype(int)
    for height, width in [*sides.tolist(), (1, 1), (1, 5000), (5000, 1), (size, size)]:
        geometry = canvas_geometry(height, width, size)
        box = np.array([geometry.box_height, geometry.box_width])
        corner = np.array([geometry.top, geometry.left])
        assert (geometry.height, geometry.width, geometry.size) == (height, width, size)
        assert box.max() == size and box.min() >= 1
        assert (corner >= 0).all() and (corner + box <= size).all()
        assert (np.abs(size - box - 2 * corner) <= 1).all()  # centred, to the pixel
        exact = np.array([height, width]) * size / max(height, width)
        assert (np.abs(box - np.maximum(exact, 1)) <= 0.5).all()


def test_stretch_geometry_fills_the_canvas():
    for height, width in [(1, 1), (10, 300), (300, 10), (64, 64)]:
        assert canvas_geometry(height, width, 64, "stretch") == (height, width, 64, 0, 0, 64, 64)


def test_unknown_fit():
    with pytest.raises(InputError, match="crop"):
        canvas_geometry(10, 10, 64, "crop")


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_shifts_on_the_canvas_or_on_the_way_back(shape, fit):
    """A smooth blob's centroid stays within 0.03 canvas pixels each way."""
    for centre in CENTRES:
        image = blob(shape, centre)
        canvas, _, geometry = to_canvas(image, size=SIZE, fit=fit)
        expected = centroid(image) * box_scale(geometry) + [geometry.top, geometry.left]
        np.testing.assert_allclose(centroid(canvas), expected, atol=0.03)
        back = from_canvas(canvas.astype(np.float32), geometry)
        moved = (centroid(back) - centroid(image)) * box_scale(geometry)
        np.testing.assert_allclose(moved, 0, atol=0.03)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_mask_survives_the_round_trip(shape, fit):
    """A binary mask comes back as it was, but for pixels of its outline."""
    for centre in CENTRES:
        mask = ellipse(shape, centre)
        _, canvas_mask, geometry = to_canvas(noise(shape), mask, size=SIZE, fit=fit)
        assert canvas_mask.dtype == np.uint8 and canvas_mask.max() == 255
        expected = centroid(mask) * box_scale(geometry) + [geometry.top, geometry.left]
        np.testing.assert_allclose(centroid(canvas_mask), expected, atol=0.03)
        back = from_canvas(canvas_mask / 255, geometry)
        assert back.shape == shape and back.dtype == np.float32
        back = back >= 0.5
        moved = (centroid(back) - centroid(mask)) * box_scale(geometry)
        np.testing.assert_allclose(moved, 0, atol=0.25)
        assert dice(back, mask) > (0.97 if min(geometry[5:]) > 25 else 0.94)


@pytest.mark.parametrize("fit", FITS)
def test_mask_keeps_its_edges_at_half_the_size(fit):
    """Coverage, not a count of half-covered pixels: neither area nor outline gives way."""
    masks = [ellipse((512, 512), centre) for centre in CENTRES]
    backs = []
    for mask in masks:
        _, coverage, geometry = to_canvas(noise((512, 512)), mask, size=256, fit=fit)
        backs.append(from_canvas(coverage / 255, geometry) >= 0.5)
        assert dice(backs[-1], mask) >= 0.999
    assert np.sum(backs) == pytest.approx(np.sum(masks), rel=5e-4)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_image_and_mask_stay_aligned(shape, fit):
    """They differ only where rounding decides, at pixels that are half covered."""
    for centre in CENTRES:
        mask = ellipse(shape, centre)
        image, canvas_mask, _ = to_canvas(mask.astype(np.uint8) * 255, mask, size=SIZE, fit=fit)
        differs = (image >= 127.5) != is_lung(canvas_mask)
        assert (np.abs(image[differs] - 127.5) <= 2).all()
        assert canvas_mask.any()


@pytest.mark.parametrize("fit", FITS)
def test_area_average_in_each_axis_that_shrinks(fit):
    """A fine grating must come out grey, not as the moire of single samples."""
    shapes = {"stretch": [(512, 512), (512, 20), (20, 512)], "letterbox": [(512, 512), (512, 384)]}
    for shape in shapes[fit]:
        for axis in (0, 1):
            if shape[axis] == 512:
                grating = np.indices(shape)[axis].astype(np.uint8) % 2 * 255
                canvas, _, geometry = to_canvas(grating, size=SIZE, fit=fit)
                box = canvas[:, geometry.left : geometry.left + geometry.box_width]
                assert np.abs(box - 127.5).max() <= 1, shape


def test_letterbox_pads_with_zeros_and_stretch_does_not_pad():
    white = np.full((30, 60), 255, np.uint8)
    canvas, mask, geometry = to_canvas(white, white, size=SIZE)
    assert (geometry.top, geometry.box_height) == (16, 32)
    for plane in (canvas, mask):
        assert (plane[16:48] == 255).all() and not plane[:16].any() and not plane[48:].any()
    canvas, mask, _ = to_canvas(white, white, size=SIZE, fit="stretch")
    assert (canvas == 255).all() and (mask == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (513, 255)])
@pytest.mark.parametrize("fit", FITS)
def test_from_canvas_gives_the_original_shape_exactly(shape, fit):
    _, mask, geometry = to_canvas(noise(shape), np.ones(shape), size=SIZE, fit=fit)
    back = from_canvas(mask / 255, geometry)
    assert back.shape == shape
    # The padding around the box does not bleed in.
    np.testing.assert_allclose(back, 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (7, 5), (30, 44), (100, 300)])
def test_from_canvas_of_probabilities_gives_probabilities(shape):
    """Never above 1, not even by a rounding error: callers take logarithms and make bytes."""
    geometry = canvas_geometry(*shape, SIZE)
    for plane in (np.ones((SIZE, SIZE), np.float32), noise((SIZE, SIZE)).astype(np.float32) / 255):
        back = from_canvas(plane, geometry)
        assert back.min() >= 0 and back.max() <= 1


def test_from_canvas_refuses_a_plane_of_another_size():
    geometry = canvas_geometry(30, 40, 64)
    for shape in [(32, 64), (64, 64, 1), (65, 65)]:
        with pytest.raises(InputError, match="64"):
            from_canvas(np.zeros(shape, np.float32), geometry)


def test_from_canvas_leaves_its_input_alone():
    plane = noise((64, 64)).astype(np.float32)
    before = plane.copy()
    back = from_canvas(plane, canvas_geometry(64, 64, 64))
    back += 1
    np.testing.assert_array_equal(plane, before)


@pytest.mark.parametrize("fit", FITS)
def test_image_of_the_canvas_size_is_taken_as_it_is(fit):
    image, mask = noise((64, 64)), noise((64, 64), 1) > 127
    canvas, canvas_mask, geometry = to_canvas(image, mask, size=64, fit=fit)
    np.testing.assert_array_equal(canvas, image)
    np.testing.assert_array_equal(canvas_mask, 255 * mask)
    plane = np.random.default_rng(2).random((64, 64), np.float32)
    np.testing.assert_array_equal(from_canvas(plane, geometry), plane)


@pytest.mark.parametrize("fit", FITS)
def test_preprocess_image_is_normalize_of_to_canvas(fit):
    image, mask = noise((50, 91)), noise((50, 91), 1) > 99
    canvas, canvas_mask, _ = to_canvas(image, mask, size=SIZE, fit=fit)
    given, given_mask = preprocess_image(image, mask, SIZE, fit=fit)
    assert given.dtype == given_mask.dtype == np.float32
    assert given.shape == given_mask.shape == (SIZE, SIZE)
    assert given.min() >= 0 and given.max() <= 1
    assert (given_mask.min(), given_mask.max()) == (0, 1)
    np.testing.assert_allclose(given, normalize(jnp.asarray(canvas[None]))[0, ..., 0], atol=1e-7)
    np.testing.assert_allclose(given_mask, canvas_mask / 255, atol=1e-7)
    assert preprocess_image(image, size=SIZE, fit=fit)[1] is None


def test_files_read_by_opencv(tmp_path, monkeypatch):
    """The two lines by which users of plain OpenCV know the recipe."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("lung_image.png", noise((300, 280)))
    cv2.imwrite("mask.png", 255 * ellipse((300, 280), (0.5, 0.5)).astype(np.uint8))
    image, mask = jaxlung.preprocess_image(
        cv2.imread("lung_image.png", 0), cv2.imread("mask.png", 0)
    )
    assert image.shape == mask.shape == (256, 256) and image.dtype == mask.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1
    assert (mask.min(), mask.max()) == (0, 1)
    assert jaxlung.preprocess_image(cv2.imread("lung_image.png", 0), None)[1] is None


def test_normalize_is_of_the_documented_shape_and_range():
    canvas = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16)
    network_input = normalize(canvas)
    assert network_input.shape == (1, 16, 16, 1) and network_input.dtype == jnp.float32
    assert network_input[0, 0, 0, 0] == 0 and network_input[0, -1, -1, 0] == 1
    np.testing.assert_allclose(
        network_input[0, ..., 0], np.arange(256).reshape(16, 16) / 255, rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(40, 48), (100, 30)])
def test_same_picture_in_every_encoding_gives_the_same_canvas(shape):
    image = noise(shape)
    expected, _, _ = to_canvas(image, size=SIZE)
    alpha = noise(shape, 1)
    rgb = np.repeat(image[..., None], 3, axis=-1)
    encodings = {
        "uint16": image.astype(np.uint16) * 257,
        "12 bit": image.astype(np.uint16) * 16,
        "big-endian": (image.astype(np.uint16) * 257).astype(">u2"),
        "int32": image.astype(np.int32) * 1000 - 5000,
        "float32": image / np.float32(255),
        "float64": image / 51 - 2,
        "one channel": image[..., None],
        "RGB": rgb,
        "RGBA": np.dstack([rgb, alpha]),
        "RGB uint16": rgb.astype(np.uint16) * 257,
        "Fortran order": np.asfortranarray(image),
        "read-only": np.frombuffer(image.tobytes(), np.uint8).reshape(shape),
        "strided": np.repeat(image, 2, axis=1)[:, ::2],
        "backwards": image[::-1, ::-1].copy()[::-1, ::-1],
    }
    for name, encoded in encodings.items():
        np.testing.assert_array_equal(to_canvas(encoded, size=SIZE)[0], expected, err_msg=name)


def test_uint8_is_not_stretched():
    np.testing.assert_array_equal(to_grey8(np.array([[10, 20]], np.uint8)), [[10, 20]])
    np.testing.assert_array_equal(to_grey8(np.array([[10, 20]], np.uint16)), [[0, 255]])


def test_colour_is_weighed_by_luma_and_alpha_ignored():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(to_grey8(colours), [[76, 150, 29, 255]])
    alpha = np.array([[[0], [7], [200], [255]]], np.uint8)
    np.testing.assert_array_equal(to_grey8(np.dstack([colours, alpha])), [[76, 150, 29, 255]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_constant_image_gives_a_constant_canvas(dtype):
    grey = to_grey8(np.full((5, 4), 7, dtype))
    np.testing.assert_array_equal(grey, 7 if dtype == np.uint8 else 0)


@pytest.mark.parametrize(
    ("low", "step", "dtype"),
    [
        (-3e38, 6e38 / 255, np.float32),  # a range above the largest float32
        (0, 1e-41, np.float32),  # and one below the smallest normal
        (0, 1e300, np.float64),
        (1e9, 1, np.float64),  # a small range far from 0
        (2**40, 1, np.int64),
        (2**31 - 300, 1, np.int32),
    ],
)
def test_any_finite_range_is_scaled_to_0_to_255(low, step, dtype):
    image = (np.arange(256) * step + low).astype(dtype).reshape(16, 16)
    grey = to_grey8(image).astype(int).ravel()
    assert np.abs(grey - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    "mask",
    [
        np.eye(8, dtype=bool),
        np.eye(8),
        255 * np.eye(8, dtype=np.uint8),
        -np.eye(8),
        0.001 * np.eye(8),
    ],
)
def test_any_mask_value_but_0_is_lung(mask):
    np.testing.assert_array_equal(to_canvas(noise((8, 8)), mask, size=8)[1], 255 * np.eye(8))


@pytest.mark.parametrize(
    "image",
    [
        np.array([[0.0, np.nan]]),
        np.array([[0.0, np.inf]], np.float32),
        np.array([[-np.inf, 0.0]]),
        np.full((4, 4, 3), np.nan),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 0), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(16, np.uint8),
        np.uint8(3),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4), bool),
        np.zeros((4, 4), complex),
        np.array([["a"]]),
    ],
)
def test_what_is_no_image_is_refused(image):
    for function in (to_canvas, preprocess_image):
        with pytest.raises(InputError, match="image"):
            function(image, size=16)


@pytest.mark.parametrize("dtype", [bool, complex])
def test_dtype_that_is_no_image_is_refused_in_colour_too(dtype):
    with pytest.raises(InputError, match="dtype"):
        to_grey8(np.eye(3)[None].astype(dtype))


@pytest.mark.parametrize("shape", [(4, 5), (5, 4), (16,), (4, 4, 1), (8, 8)])
def test_mask_of_another_size_is_refused(shape):
    for function in (to_canvas, preprocess_image):
        with pytest.raises(InputError, match="mask"):
            function(noise((4, 4)), np.ones(shape), size=16)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(64, 64), (100, 64), (37, 91), (20, 12), (64, 32), (300, 75)])
def test_mirrored_input_gives_the_mirrored_canvas(shape, fit):
    image, mask = noise(shape), ellipse(shape, (0.4, 0.3))
    canvas, canvas_mask, geometry = to_canvas(image, mask, size=SIZE, fit=fit)
    mirrored, mirrored_mask, _ = to_canvas(image[:, ::-1], mask[:, ::-1], size=SIZE, fit=fit)
    if (SIZE - geometry.box_width) % 2:  # an odd margin has its spare column on the right
        assert not canvas[:, -1].any() and not mirrored[:, -1].any()
        mirrored, mirrored_mask = (np.roll(p, 1, 1) for p in (mirrored, mirrored_mask))
    np.testing.assert_array_equal(mirrored[:, ::-1], canvas)
    np.testing.assert_array_equal(mirrored_mask[:, ::-1], canvas_mask)


def test_inputs_are_left_alone():
    image, mask = noise((64, 64)), ellipse((64, 64), (0.5, 0.5))
    before = image.copy(), mask.copy()
    canvas, canvas_mask, _ = to_canvas(image, mask, size=64)
    canvas += 1
    canvas_mask += 1
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


FILM = (np.add.outer(np.arange(100), np.arange(100)) * 20 + 100).astype(np.uint16)  # 100 to 4060


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize(
    ("low", "high"), [((), (65535,)), ((), (40000, 65535)), ((-50000,), ()), ((-50000,), (65535,))]
)
@pytest.mark.parametrize("count", [1, 90])
def test_a_marker_or_dead_pixel_leaves_the_film_its_greys(dtype, low, high, count):
    if low and dtype == np.uint16:
        pytest.skip("has no negative values")
    film = FILM.astype(dtype)
    expected = to_grey8(film)
    for i, value in enumerate((*low, *high)):
        film[10 + i, 5 : 5 + count] = value
    is_film = (film >= 100) & (film <= 4060)
    grey = to_grey8(film)
    np.testing.assert_array_equal(grey[is_film], expected[is_film])
    assert (grey[film > 4060] == 255).all() and (grey[film < 100] == 0).all()


def test_a_dead_pixel_of_0_in_a_bright_film():
    film = FILM + 20000
    film[3, 3] = 0
    grey = to_grey8(film)
    assert grey[3, 3] == 0
    np.testing.assert_array_equal(np.delete(grey, 303), np.delete(to_grey8(FILM), 303))


@pytest.mark.parametrize(
    "change",
    [
        lambda film: film,
        lambda film: np.where(np.arange(100) < 6, 12000, film),  # 6 %: too much for a marker
        lambda film: np.where(film > 4000, 7900, film),  # a gap narrower than the film is wide
        lambda film: np.where(film > 4050, 4095, film),
        lambda film: np.where(film < 300, 0, film),
        lambda film: np.where(film > 150, 60000, film),  # all but a few values are one
        lambda film: np.exp(film / 400.0),  # a long tail without a gap
    ],
)
def test_other_films_keep_minimum_and_maximum(change):
    film = change(FILM.astype(np.float64))
    expected = np.rint((film - film.min()) / np.ptp(film) * 255)
    np.testing.assert_allclose(to_grey8(film), expected, rtol=0, atol=1)
    assert find_range(film) == (film.min(), film.max())


def soft_marker(kind):
    """A noisy film of 200 to 4000 with an L at 65535, and the same film without it."""
    rows, columns = np.mgrid[:600, :500]
    film = 2100 + 1900 * np.sin(rows / 90) * np.cos(columns / 70)
    film = film + np.random.default_rng(0).normal(0, 30, film.shape)
    film = film.clip(200, 4000).astype(np.float32)
    ink = np.zeros((2400, 2000), np.float32)
    side = {"small": 4, "wide": 40}.get(kind.split()[1])
    cv2.line(ink, (200, 200), (200, 200 + 8 * side), 1, side)
    cv2.line(ink, (200, 200 + 8 * side), (200 + 5 * side, 200 + 8 * side), 1, side)
    ink = cv2.resize(ink, (500, 600), interpolation=cv2.INTER_AREA)
    if kind.startswith("blurred"):
        ink = cv2.GaussianBlur(ink, (0, 0), 1)
    return (film + (65535 - film) * ink).astype(np.uint16), film.astype(np.uint16)


@pytest.mark.parametrize("kind", ["smooth small", "smooth wide", "blurred small", "blurred wide"])
def test_a_marker_with_soft_edges_leaves_the_film_its_greys(kind):
    marked, film = soft_marker(kind)
    low, high = find_range(marked)
    assert low == 200 and 3900 <= high <= 4400
    is_film = marked == film
    assert is_film.mean() > 0.9
    difference = to_grey8(marked)[is_film].astype(int) - to_grey8(film)[is_film]
    assert abs(difference).max() <= 24
    assert (to_grey8(marked)[marked > 5000] == 255).all()


def test_a_hard_marker_of_4_percent_leaves_the_film_its_greys():
    film = FILM.copy()
    film[10:30, 10:30] = 65535
    assert find_range(film) == (100, 4060)


def test_one_dead_pixel_of_a_large_film_is_found():
    film = np.tile(FILM, (30, 20))
    for i in (0, 1, 12345, film.size - 1):  # whatever a sample of the values passes over
        dead = film.copy()
        dead.flat[i] = 65535
        assert find_range(dead) == (100, 4060)
    noise = np.random.default_rng(0).normal(2000, 300, (1500, 2000)).astype(np.float32)
    assert find_range(noise) == (noise.min(), noise.max())
