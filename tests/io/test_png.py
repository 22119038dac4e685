"""PNG of one filter: other readers get the pixels back, whatever deflates it."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxlung.io import png
from jaxlung.io.png import encode_png


def pictures():
    rng = np.random.default_rng(0)
    film = np.cumsum(rng.integers(-2, 3, (61, 47)), axis=0).astype(np.uint8)
    mask = np.zeros((61, 47), np.uint8)
    mask[20:40, 5:20] = 255
    colour = np.repeat(film[..., None], 3, -1)
    colour[30, 10:40] = 255, 130, 0
    return {
        "film": film,
        "mask": mask,
        "colour": colour,
        "with alpha": np.dstack([colour, mask]),
        "noise": rng.integers(0, 256, (9, 200), np.uint8),
        "deep": rng.integers(0, 65536, (20, 31)).astype(np.uint16),
        "a turned deep view": np.rot90(rng.integers(0, 65536, (20, 31)).astype(np.uint16)),
        "one pixel": np.array([[7]], np.uint8),
        "one column": film[:, :1],
        "a view": film[::2, ::-1],
    }


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("deflates", ["isal", "zlib"])
def test_other_readers_get_the_pixels_back(name, deflates, monkeypatch):
    if deflates == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    assert png._import_deflate().__name__ == {"zlib": "zlib", "isal": "isal.isal_zlib"}[deflates]
    image = pictures()[name]
    data = encode_png(image)
    with Image.open(io.BytesIO(data)) as opened:
        opened.verify()  # checksums
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(np.asarray(opened), image)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image.ndim == 3:
        decoded = cv2.cvtColor(
            decoded, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        )
    np.testing.assert_array_equal(decoded, image)


def test_files_are_hardly_larger_than_pillow_makes_them():
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.random((256, 256)), (0, 0), 20)
    film = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    film += rng.integers(0, 3, film.shape, np.uint8)
    lungs = 255 * (smooth > np.median(smooth)).astype(np.uint8)
    for image in (film, cv2.cvtColor(film, cv2.COLOR_GRAY2RGB), lungs):
        by_pillow = io.BytesIO()
        Image.fromarray(image).save(by_pillow, format="PNG", compress_level=3)
        assert len(encode_png(image)) < 1.3 * len(by_pillow.getvalue())


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2), bool),
        np.zeros((2, 2, 3), np.uint16),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((0, 2), np.uint8),
        np.zeros(3, np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match="no picture"):
        encode_png(image)
