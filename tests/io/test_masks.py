"""Masks are read right or refused by name: those to be scored strictly, those to train on too."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from jaxlung.data.folder import load_folder
from jaxlung.errors import InputError
from jaxlung.io.masks import read_labels, read_mask

BINARY = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
LABELS = np.array([[0, 1, 1], [2, 2, 0]], np.uint8)


def save(folder, pixels, name="mask.png"):
    Image.fromarray(np.asarray(pixels)).save(folder / name)
    return folder / name


def rgb(pixels):
    return np.repeat(np.asarray(pixels, np.uint8)[..., None], 3, axis=-1)


def rgba(pixels):
    alpha = np.arange(pixels.size, dtype=np.uint8).reshape(pixels.shape)
    return np.dstack([rgb(pixels), alpha])


def assert_refused(path, *words, sides=False):
    with pytest.raises(InputError) as caught:
        read_labels(path, sides=sides)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message, message


@pytest.mark.parametrize(
    "pixels",
    [
        BINARY,
        BINARY * np.uint8(255),
        BINARY * np.uint8(2),
        BINARY.astype(bool),
        BINARY * np.uint16(65535),
        BINARY * np.uint16(256),  # its low byte is 0
        rgb(BINARY * 255),
        rgba(BINARY * np.uint8(255)),
    ],
    ids=lambda pixels: f"{pixels.dtype}-{pixels.ndim}-{pixels.max()}",
)
def test_two_values(tmp_path, pixels):
    labels = read_labels(save(tmp_path, pixels))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, BINARY)


def test_one_bit_and_palette(tmp_path):
    Image.fromarray(BINARY * np.uint8(255)).convert("1").save(tmp_path / "bit.png")
    image = Image.new("P", (3, 2))
    image.putpalette([0, 0, 0, 200, 200, 200])
    image.putdata(BINARY.ravel().tolist())
    image.save(tmp_path / "palette.png")
    for name in ("bit.png", "palette.png"):
        np.testing.assert_array_equal(read_labels(tmp_path / name), BINARY)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (255, 1), (1, 1)])
def test_one_value(tmp_path, value, expected):
    labels = read_labels(save(tmp_path, np.full((2, 3), value, np.uint8)))
    assert labels.shape == (2, 3) and (labels == expected).all()


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        ([[0, 1, 255]], ("0, 1, 255", "3 in all")),
        ([[0, 100, 254, 255]], ("4 in all",)),
        ([range(256)], ("...", "256 in all")),
        ([[1, 2]], ("1, 2", "--sides")),
        ([[1, 255]], ("1, 255",)),
        ([[254, 255]], ("254, 255",)),
        ([[0, 1, 2]], ("0, 1, 2", "--sides")),
    ],
)
def test_refuses_other_values(tmp_path, pixels, words):
    assert_refused(save(tmp_path, np.array(pixels, np.uint8)), *words)


def test_only_labels_are_told_of_sides(tmp_path):
    with pytest.raises(InputError) as caught:
        read_labels(save(tmp_path, np.array([[0, 1, 255]], np.uint8)))
    assert "--sides" not in str(caught.value)


def test_refuses_soft_edges_of_jpeg(tmp_path):
    soft = np.zeros((32, 32), np.uint8)
    soft[5:20, 7:23] = 255
    assert_refused(save(tmp_path, soft, "mask.jpg"), "in all")


@pytest.mark.parametrize("sides", [False, True])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_refuses_colour(tmp_path, sides, channel):
    pixels = rgb(BINARY)
    pixels[0, 0, channel] = 1
    assert_refused(save(tmp_path, pixels), "colour", sides=sides)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:1], LABELS[1:], BINARY * 0, BINARY * 0 + 2])
@pytest.mark.parametrize("form", [np.uint8, np.uint16, rgb])
def test_sides(tmp_path, labels, form):
    read = read_labels(save(tmp_path, form(labels)), sides=True)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize(
    ("pixels", "word"),
    [
        (BINARY * np.uint8(255), "0, 255"),
        (BINARY.astype(bool), "0, 255"),
        (np.array([[0, 1, 2, 3]], np.uint8), "0, 1, 2, 3"),
        (np.array([[0, 1, 256]], np.uint16), "0, 1, 256"),  # its low byte would be a label
        (np.array([[0, 1, 258]], np.uint16), "0, 1, 258"),
    ],
)
def test_sides_refuse_other_values(tmp_path, pixels, word):
    assert_refused(save(tmp_path, pixels), word, "--sides", sides=True)


@pytest.mark.parametrize("sides", [False, True])
def test_refuses_what_is_no_image(tmp_path, sides):
    (tmp_path / "text.png").write_text("no image")
    assert_refused(tmp_path / "text.png", sides=sides)
    assert_refused(tmp_path / "nowhere.png", sides=sides)


def test_a_mask_drawn_in_the_alpha_channel_is_refused(tmp_path):
    """Its colour is blank: it would pass for an empty prediction."""
    pixels = np.zeros((4, 5, 4), np.uint8)
    pixels[1:3, 1:4, 3] = 255
    with pytest.raises(InputError, match="alpha"):
        read_labels(save(tmp_path, pixels))


# --- how people draw masks -----------------------------------------------------------------


def two_lungs():
    mask = np.zeros((128, 128), np.uint8)
    mask[30:100, 15:55], mask[30:100, 70:110] = 1, 2
    return mask


def palette(colours, transparent=None):
    image = Image.fromarray(two_lungs(), "P")
    image.putpalette([value for colour in colours for value in colour])
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def coloured(background, *lungs):
    return Image.fromarray(np.array([background, *lungs], np.uint8)[two_lungs()])


def resampled(*values):
    image = Image.fromarray(np.array([0, *values], np.uint8)[two_lungs()])
    return image.resize((171, 171), Image.Resampling.BILINEAR)


RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255,) * 3, (0,) * 3
ALPHA = (two_lungs() > 0).astype(np.uint8) * 255


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.jpg"])
@pytest.mark.parametrize(
    "image",
    [
        coloured(WHITE, RED, GREEN),
        coloured(WHITE, RED, RED),
        coloured((200, 210, 190), RED, GREEN),
        coloured((128, 128, 128), (255, 128, 0), (255, 128, 0)),
        coloured(WHITE, BLACK, RED),
    ],
)
def test_colour_on_a_light_background_is_refused(tmp_path, image, name):
    image.save(tmp_path / name, **({} if name == "a.jpg" else {"lossless": True}))
    with pytest.raises(InputError, match=r"in colour on a background|no background|neither labels"):
        read_mask(tmp_path / name)


def test_palette_with_a_white_background_is_refused(tmp_path):
    palette([WHITE, RED, GREEN]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: is drawn in colour on a background .* 255 for"):
        read_mask(tmp_path / "a.png")
    palette([BLACK, RED, GREEN]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), two_lungs() > 0)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.stack([np.full_like(two_lungs(), 255)] * 3 + [ALPHA], -1)),
        Image.fromarray(np.stack([np.zeros_like(two_lungs())] * 3 + [ALPHA], -1)),
        Image.merge("LA", [Image.new("L", (128, 128), 255), Image.fromarray(ALPHA)]),
        palette([RED, RED, RED], transparent=0),
    ],
)
def test_masks_in_alpha_are_refused(tmp_path, image):
    image.save(tmp_path / "a.png")
    for read in (read_mask, read_labels):
        with pytest.raises(InputError, match=r"a\.png: is drawn in its alpha channel"):
            read(tmp_path / "a.png")


def test_colour_that_alpha_repeats_is_read(tmp_path):
    pixels = np.stack([ALPHA, ALPHA * 0, ALPHA * 0, ALPHA], -1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), two_lungs() > 0)


@pytest.mark.parametrize("values", [(127, 255), (255, 127), (100, 200), (85, 170), (60, 255)])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_two_greys_with_soft_edges_lose_no_lung(tmp_path, values, name):
    resampled(*values).save(tmp_path / name, quality=90)
    with pytest.raises(InputError, match=r"two greys with soft edges|neither labels nor"):
        read_mask(tmp_path / name)


@pytest.mark.parametrize("value", [255, 200, 100])
@pytest.mark.parametrize("blur", [0, 1, 2])
def test_one_grey_with_soft_edges_is_cut_at_half(tmp_path, value, blur):
    image = resampled(value, value).filter(ImageFilter.GaussianBlur(blur))
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_mask(tmp_path / "a.png"), np.asarray(image) > np.asarray(image).max() / 2
    )


@pytest.mark.parametrize("values", [(50, 200), (1, 2), (100, 255)])
def test_a_mask_without_a_background_of_0_is_refused(tmp_path, values):
    pixels = np.array([values[0], values[1], values[1]], np.uint8)[two_lungs()]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: has no background of 0 \(its values go from"):
        read_mask(tmp_path / "a.png")


def test_an_inverted_mask_is_refused_before_training(tmp_path):
    for folder, pixels in (("images", 200 - 90 * ALPHA // 255), ("masks", 255 - ALPHA)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / "a.png")
    split = load_folder(tmp_path)
    with pytest.raises(InputError, match=r"masks/a\.png: is inverted, .* exchange 0 and the other"):
        split.read(0)
    Image.fromarray(ALPHA).save(tmp_path / "masks" / "a.png")
    np.testing.assert_array_equal(split.read(0).mask, two_lungs() > 0)


@pytest.mark.parametrize("bars", [((20, 0), (0, 0)), ((0, 0), (30, 30)), ((0, 12), (5, 0))])
def test_an_inverted_mask_of_a_film_with_black_bars_is_refused(tmp_path, bars):
    """As padding to a square makes them: the mask of lungs is 0 there, and its inverse too."""
    for folder, pixels in (("images", 200 - 90 * (ALPHA // 255)), ("masks", 255 - ALPHA)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.pad(pixels, bars)).save(tmp_path / folder / "a.png")
    split = load_folder(tmp_path)
    with pytest.raises(InputError, match=r"masks/a\.png: is inverted, .* exchange 0 and the other"):
        split.read(0)
    Image.fromarray(np.pad(ALPHA, bars)).save(tmp_path / "masks" / "a.png")
    assert split.read(0).mask.sum() == (two_lungs() > 0).sum()


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("lesser", [60, 110, 126])
def test_a_small_second_lung_in_a_lesser_grey_is_not_lost(tmp_path, name, lesser):
    pixels = np.zeros((128, 128), np.uint8)
    pixels[20:110, 10:60], pixels[60:75, 80:95] = 255, lesser
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1))
    blurred.save(tmp_path / name, quality=90)
    with pytest.raises(InputError, match=r"two greys with soft edges \(about \d+ and 25\d\)"):
        read_mask(tmp_path / name)
    pixels[pixels == lesser] = 255
    Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)).save(tmp_path / name, quality=90)
    assert read_mask(tmp_path / name)[60:75, 80:95].mean() > 0.9


@pytest.mark.parametrize("values", [[-1.0, -0.5, 0.0], np.linspace(-9, 0, 50)])
def test_a_mask_without_a_value_above_0_is_refused(tmp_path, values):
    np.save(tmp_path / "a.npy", np.resize(np.float32(values), (10, 10)))
    with pytest.raises(InputError, match=r"a\.npy: has no value above 0 \(they go from -[19] to"):
        read_mask(tmp_path / "a.npy")


def test_an_empty_jpeg_is_an_empty_mask(tmp_path):
    assert not read_mask(save(tmp_path, np.zeros((16, 16), np.uint8), "a.jpg")).any()
