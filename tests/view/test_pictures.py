"""Pixels for the page and for training: the same grey levels as the film's own."""

import numpy as np
import pytest

from jaxlung.io.grey import to_grey8
from jaxlung.io.images import read_image
from jaxlung.view.pictures import Cache, draw_thumbnail, encode_film, show_film, show_slice

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (9, 11, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "most"),
    [
        (RNG.integers(0, 256, (9, 11)).astype(np.uint8), 0),
        (COLOUR, 0),
        (RNG.integers(0, 4096, (9, 11)).astype(np.uint16), 0),
        (RNG.integers(0, 4096, (9, 11, 3)).astype(np.uint16), 1),
        (RNG.integers(-2000, 90000, (9, 11)).astype(np.int32), 1),
        (RNG.random((9, 11)).astype(np.float32), 1),
        (np.zeros((9, 11), np.float32), 0),
        (np.append(RNG.random((9, 200)), np.full((9, 1), 1e9), axis=1), 1),
    ],
)
def test_training_sees_the_grey_levels_that_prediction_saw(tmp_path, image, most):
    (tmp_path / "a.png").write_bytes(encode_film(show_film(image), inverted=False))
    seen, expected = to_grey8(read_image(tmp_path / "a.png")), to_grey8(image)
    assert np.abs(seen.astype(int) - expected).max() <= most


def test_a_negative_is_handed_on_as_a_positive(tmp_path):
    for image in (COLOUR[..., 0], COLOUR[..., 0].astype(np.uint16) * 16):
        (tmp_path / "a.png").write_bytes(encode_film(show_film(image), inverted=True))
        stored = read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(stored, np.iinfo(image.dtype).max - image)


def test_hounsfield_units_are_sent_without_a_sign():
    shown = show_slice(np.array([[-3024, -1024, 0, 3071]], np.int16))
    assert shown.pixels_HxW.tolist() == [[0, 0, 1024, 4095]]
    assert (shown.bits, shown.low, shown.high) == (16, -326, 1174)


def test_thumbnails_are_small_in_the_films_proportions(tmp_path):
    (tmp_path / "a.jpg").write_bytes(draw_thumbnail(show_film(np.zeros((640, 320), np.uint8))))
    assert read_image(tmp_path / "a.jpg").shape == (160, 80)


def test_the_cache_keeps_the_last_and_makes_each_once():
    cache, made = Cache(most=100), []

    def make(name):
        made.append(name)
        return np.zeros(40, np.uint8)

    for name in "abacab":
        cache.get(name, lambda name=name: make(name))
    assert made == ["a", "b", "c", "b"]
    cache.put("large", np.zeros(1000, np.uint8))
    assert len(cache._values) == 1
