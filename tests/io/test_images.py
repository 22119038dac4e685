"""Files in and out: exact where the format is, an error that names the path where it is damaged."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxlung.errors import InputError
from jaxlung.io.grey import to_grey8
from jaxlung.io.images import SUFFIXES, read_film, read_image, read_size, write_png
from jaxlung.io.masks import read_labels, read_mask
from tests.helpers.refusals import assert_refused

SHAPE = (48, 40)


def picture(shape=SHAPE):
    """A smooth picture with some noise: uint8 over most of the range."""
    down, across = np.indices(shape)
    noise = np.random.default_rng(0).integers(0, 9, shape)
    return ((np.sin(down / 7) + np.cos(across / 5) + 2) * 60 + noise).astype(np.uint8)


def lungs(shape=(64, 64), rows=(15, 48)):
    mask = np.zeros(shape, bool)
    mask[rows[0] : rows[1], 8:25] = mask[rows[0] : rows[1], 38:55] = True
    return mask


def saved(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tif", "a.tiff"])
def test_grey_8_bit_is_exact(tmp_path, name):
    image = read_image(saved(tmp_path / name, picture()))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture())


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_compressions_are_exact(tmp_path, compression):
    path = saved(tmp_path / "a.tif", picture(), compression=compression)
    np.testing.assert_array_equal(read_image(path), picture())


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_grey_16_bit_is_exact(tmp_path, name, byte_order):
    expected = picture().astype(np.uint16) * 200 + 13
    image = read_image(saved(tmp_path / name, expected.astype(f"{byte_order}u2")))
    assert image.dtype.kind == "u" and image.dtype.itemsize == 2
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_tiff_is_exact(tmp_path, dtype):
    expected = picture().astype(dtype) * 1000 - 70000
    image = read_image(saved(tmp_path / "a.tif", expected))
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(
    ("name", "channels"), [("a.png", 3), ("a.png", 4), ("a.tif", 3), ("a.tif", 4), ("a.bmp", 3)]
)
def test_colour_is_exact(tmp_path, name, channels):
    expected = np.dstack([picture() + 3 * i for i in range(channels)])
    np.testing.assert_array_equal(read_image(saved(tmp_path / name, expected)), expected)


def test_grey_with_alpha_loses_the_alpha(tmp_path):
    image = Image.merge("LA", [Image.fromarray(picture()), Image.fromarray(picture()[::-1])])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_1_bit_is_black_and_white(tmp_path, name):
    image = read_image(saved(tmp_path / name, lungs()))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, lungs() * 255)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp", "a.tif"])
def test_palette_is_expanded_to_its_colours(tmp_path, name):
    colours = np.array([[0, 0, 0], [128, 0, 0], [10, 200, 30]], np.uint8)
    indices = np.digitize(picture(), [80, 160]).astype(np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(colours.tobytes())
    image.putdata(indices.ravel().tolist())
    image.save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), colours[indices])


def test_grey_gif_is_exact(tmp_path):
    image = read_image(saved(tmp_path / "a.gif", picture()))
    np.testing.assert_array_equal(image.reshape(*SHAPE, -1), np.repeat(picture()[..., None], 3, -1))


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.JPG"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_close(tmp_path, name, progressive):
    path = saved(tmp_path / name, picture(), quality=97, progressive=progressive)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.shape == SHAPE
    assert np.abs(image.astype(int) - picture()).max() < 12


def test_cmyk_jpeg_is_read_as_rgb(tmp_path):
    path = saved(tmp_path / "a.jpg", np.dstack([picture()] * 3), mode="CMYK", quality=97)
    image = read_image(path)
    assert image.shape == (*SHAPE, 3)
    assert np.abs(image.astype(int) - picture()[..., None]).max() < 25


def test_path_may_be_text(tmp_path):
    path = saved(tmp_path / "a.png", picture())
    np.testing.assert_array_equal(read_image(str(path)), picture())
    outline = saved(tmp_path / "b.png", np.eye(9, dtype=np.uint8) * 255)
    assert read_mask(str(outline)).dtype == bool


FORMATS = [
    ("a.png", {}),
    ("a.jpg", {}),
    ("a.jpg", {"progressive": True}),
    ("a.tif", {}),
    ("a.tif", {"compression": "tiff_lzw"}),
    ("a.tif", {"compression": "tiff_adobe_deflate"}),
    ("a.bmp", {}),
    ("a.gif", {}),
    ("a.webp", {}),
    ("a.webp", {"lossless": True}),
    ("a.jp2", {}),
    ("a.j2k", {}),
]


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_truncated_file_is_refused(tmp_path, name, options):
    """Cut anywhere, it is an error, or, where only a trailer is lost, the whole image."""
    path = saved(tmp_path / name, picture(), **options)
    whole, data = read_image(path), path.read_bytes()
    cuts = {*range(0, len(data), 1 + len(data) // 60), *range(len(data) - 30, len(data))}
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        if cut < 0.95 * len(data):
            assert_refused(read_image, path)
            assert_refused(read_mask, path)
        else:
            try:
                image = read_image(path)
            except InputError as error:
                assert str(path) in str(error)
            else:
                np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("content", ["radiograph", "mask"])
def test_png_with_a_flipped_bit_is_refused_or_read_right(tmp_path, content):
    """PNG has checksums: what they catch must not pass for an image or, worse, for a mask."""
    pixels = picture() if content == "radiograph" else lungs((128, 128)).astype(np.uint8) * 255
    path = saved(tmp_path / "a.png", pixels)
    data = path.read_bytes()
    wrong = []
    for position in range(8, len(data), 1 + len(data) // 300):
        path.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        try:
            image = read_image(path)
        except InputError as error:
            assert str(path) in str(error)
        else:
            if not np.array_equal(image, pixels):
                wrong.append(position)
    assert not wrong, f"another image was read, without an error, after a flip at {wrong}"


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_garbage_after_a_good_header_is_refused(tmp_path, name, options):
    path = saved(tmp_path / name, picture(), **options)
    garbage = np.random.default_rng(0).integers(0, 256, 800, np.uint8).tobytes()
    path.write_bytes(path.read_bytes()[:20] + garbage)
    assert_refused(read_image, path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_image_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    garbage = np.random.default_rng(1).integers(0, 256, 500, np.uint8).tobytes()
    for content in (b"", b"\n", b"not an image\n" * 20, garbage, bytes(300)):
        path.write_bytes(content)
        assert_refused(read_image, path)
        assert_refused(read_mask, path)


@pytest.mark.parametrize("function", [read_image, read_mask])
def test_missing_file_and_folder(tmp_path, function):
    assert_refused(function, tmp_path / "none.png", "No such file")
    (tmp_path / "folder.png").mkdir()
    assert_refused(function, tmp_path / "folder.png", "directory")


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.png"])
def test_several_frames_are_refused(tmp_path, name):
    frames = [Image.fromarray(np.roll(picture(), 5 * i, axis=0)) for i in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert_refused(read_image, tmp_path / name, "several frames")


@pytest.mark.parametrize("labels", [(0, 1), (0, 255), (0, 128)])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_mask_of_two_values(tmp_path, labels, name):
    mask = read_mask(saved(tmp_path / name, np.where(lungs(), *labels[::-1]).astype(np.uint8)))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, lungs())


@pytest.mark.parametrize("labels", [(0, 1, 2), (0, 1, 2, 3), (0, 85, 170, 255)])
def test_mask_of_labels(tmp_path, labels):
    drawn = np.zeros((64, 64), np.uint8)
    for i, label in enumerate(labels):
        drawn[:, 16 * i : 16 * (i + 1)] = label
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.png", drawn)), drawn > 0)


def test_mask_in_1_bit_colour_palette_alpha_and_16_bit(tmp_path):
    white = lungs().astype(np.uint8) * 255
    red = np.dstack([white, 0 * white, 0 * white])
    opaque = np.dstack([white, white, white, np.full_like(white, 255)])
    palette = Image.fromarray(lungs().astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.putdata(lungs().astype(int).ravel().tolist())
    palette.save(tmp_path / "palette.png")
    paths = [
        tmp_path / "palette.png",
        saved(tmp_path / "1bit.png", lungs()),
        saved(tmp_path / "red.png", red),
        saved(tmp_path / "opaque.png", opaque),
        saved(tmp_path / "16bit.png", lungs().astype(np.uint16) * 65535),
        saved(tmp_path / "label16.png", lungs().astype(np.uint16)),
    ]
    for path in paths:
        np.testing.assert_array_equal(read_mask(path), lungs(), err_msg=path.name)


@pytest.mark.parametrize("quality", [60, 75, 85, 92, 95, 96, 97, 98, 99, 100])
def test_noise_of_jpeg_is_no_lung(tmp_path, quality):
    for top in range(10, 24):
        truth = lungs(rows=(top, 48))
        path = saved(tmp_path / "a.jpg", truth.astype(np.uint8) * 255, quality=quality)
        wrong = read_mask(path) != truth
        assert not wrong.any(), f"values {np.unique(read_image(path))}: {wrong.sum()} pixels wrong"


def test_soft_edges_are_cut_at_half(tmp_path):
    edge, lung = np.arange(256, dtype=np.uint8), np.full(400, 255, np.uint8)
    ramp = np.repeat(np.concatenate([edge, lung])[None], 3, axis=0)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.png", ramp)), ramp >= 128)
    dim = (ramp // 4).astype(np.uint8)  # 0 to 63
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "b.png", dim)), dim >= 32)


def test_mask_of_probabilities_is_cut_at_half(tmp_path):
    edge, lung = np.linspace(0, 0.9, 64, dtype=np.float32), np.full(80, 0.9, np.float32)
    ramp = np.concatenate([edge, lung]).reshape(12, 12)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "a.tif", ramp)), ramp > 0.45)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_mask_that_is_not_finite_is_refused(tmp_path, value):
    mask = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    mask[3, 3] = value
    assert_refused(read_mask, saved(tmp_path / "a.tif", mask))


def test_empty_and_full_masks(tmp_path):
    assert not read_mask(saved(tmp_path / "a.png", np.zeros(SHAPE, np.uint8))).any()
    for value in (1, 255):
        assert read_mask(saved(tmp_path / "a.png", np.full(SHAPE, value, np.uint8))).all()


@pytest.mark.parametrize("channels", [(), (3,)])
def test_written_png_reads_back_the_same(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, *channels), np.uint8)
    write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_write_png_is_png_whatever_the_suffix(tmp_path):
    write_png(str(tmp_path / "a.jpg"), picture())
    assert (tmp_path / "a.jpg").read_bytes().startswith(b"\x89PNG")


def test_write_png_replaces_at_once(tmp_path, monkeypatch):
    """At the moment of the replacement the old file is still whole, and so is the new one."""
    path = tmp_path / "a.png"
    write_png(path, picture())
    new = picture()[::-1].copy()
    replace, seen = os.replace, []

    def checked(source, target):
        seen.append((read_image(source), read_image(target)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", checked)
    write_png(path, new)
    [(source, target)] = seen
    np.testing.assert_array_equal(source, new)
    np.testing.assert_array_equal(target, picture())
    np.testing.assert_array_equal(read_image(path), new)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_png(path, picture())

    def full_disk(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_png(path, picture()[::-1].copy())
    np.testing.assert_array_equal(read_image(path), picture())
    assert list(tmp_path.iterdir()) == [path]


def test_failed_replacement_leaves_nothing(tmp_path):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OSError):
        write_png(tmp_path / "taken.png", picture())
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_colour_keeps_all_its_bits(tmp_path, suffix):
    grey = (np.arange(40 * 30).reshape(40, 30) * 3).astype(np.uint16)
    rgb = np.stack([grey, grey + 1, grey + 2], axis=-1)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), rgb[..., ::-1])
    pixels = read_image(tmp_path / f"a.{suffix}")
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, rgb)


def test_mask_of_many_labels_is_refused_rather_than_halved(tmp_path):
    labels = np.repeat(np.array([0, 40, 80, 120, 160], np.uint8), 200).reshape(20, 50)
    Image.fromarray(labels).save(tmp_path / "organs.png")
    with pytest.raises(InputError, match=r"organs\.png.*neither labels nor"):
        read_mask(tmp_path / "organs.png")


def test_other_formats_are_refused_by_name(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.ppm")
    with pytest.raises(InputError, match=r"a\.ppm"):
        read_image(tmp_path / "a.ppm")


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("a.webp", {"lossless": True}, False),
        ("a.webp", {"quality": 90}, True),
        ("a.jp2", {}, False),
        ("a.j2k", {}, False),
        ("a.jp2", {"irreversible": True, "quality_layers": [4]}, True),
        ("a.jfif", {"format": "JPEG", "quality": 95}, True),
    ],
)
def test_webp_and_jpeg_2000(tmp_path, name, options, lossy):
    film = read_film(saved(tmp_path / name, picture(), **options))
    grey = to_grey8(film.image)
    assert film.lossy == lossy and grey.shape == SHAPE == read_size(tmp_path / name)
    if lossy:
        assert np.abs(grey.astype(int) - picture()).mean() < 4
    else:
        np.testing.assert_array_equal(grey, picture())


def test_16_bit_jpeg_2000_is_exact(tmp_path):
    deep = picture().astype(np.uint16) * 16 + 3
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.jp2", deep)), deep)


def test_moving_webp_is_refused(tmp_path):
    frames = [Image.fromarray(np.roll(picture(), 5 * i, axis=0)) for i in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    assert_refused(read_image, tmp_path / "a.webp", "several frames")


# What a viewer does with a stored picture, by Exif's Orientation.
SHOWN = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_orientation_is_honoured(tmp_path, name, orientation):
    path, stored = tmp_path / name, lungs(SHAPE, (4, 40)).astype(np.uint8) * 255
    stored[:9, :5] = 255
    options = {"lossless": True} if name == "a.webp" else {"quality": 95}
    if name == "a.tif":
        options = {"tiffinfo": {0x0112: orientation}}
    else:
        options["exif"] = exif_of(orientation)
    expected = SHOWN[orientation](stored) > 127
    saved(path, stored, **options)
    np.testing.assert_array_equal(to_grey8(read_image(path)) > 127, expected)
    np.testing.assert_array_equal(read_mask(path), expected)
    if name != "a.jpg":  # whose noise `read_labels` refuses
        np.testing.assert_array_equal(read_labels(path) > 0, expected)
    assert read_size(path) == expected.shape


@pytest.mark.parametrize("orientation", SHOWN)
def test_orientation_of_16_bit_colour(tmp_path, orientation):
    """OpenCV decodes these: they are turned once."""
    grey = np.arange(48 * 40).reshape(48, 40).astype(np.uint16) * 30
    rgb = np.stack([grey, grey + 1, grey + 2], axis=-1)
    data = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    exif = exif_of(orientation).tobytes().removeprefix(b"Exif\0\0")
    body = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), SHOWN[orientation](rgb))
    plane = rgb.astype("<u2").tobytes()
    short = {256: 40, 257: 48, 259: 1, 262: 2, 274: orientation, 277: 3, 278: 48, 284: 1}
    where = 8 + 2 + 12 * 11 + 4
    entries = {tag: struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()}
    entries[258] = struct.pack("<HHII", 258, 3, 3, where)
    entries[273] = struct.pack("<HHII", 273, 4, 1, where + 6)
    entries[279] = struct.pack("<HHII", 279, 4, 1, len(plane))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    table = b"".join(entries[tag] for tag in sorted(entries)) + struct.pack("<I", 0)
    (tmp_path / "a.tif").write_bytes(head + table + struct.pack("<HHH", 16, 16, 16) + plane)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), SHOWN[orientation](rgb))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, value):
    path = saved(tmp_path / "a.png", picture(), exif=exif_of(value))
    np.testing.assert_array_equal(read_image(path), picture())


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.png"])
def test_damaged_exif_is_passed_over(tmp_path, name):
    plain = read_image(saved(tmp_path / f"plain_{name}", picture()))
    whole = exif_of(6).tobytes()
    for exif in (whole[:9], whole[:14], whole[:6] + b"XX" + whole[8:], b"Exif\0\0" + b"\xff" * 40):
        path = saved(tmp_path / name, picture(), exif=exif)
        np.testing.assert_array_equal(read_image(path), plain)
        assert read_size(path) == SHAPE


NUMBERS = [np.uint8, np.int8, np.uint16, ">u2", np.int32, np.int64, np.float16, np.float32, float]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
@pytest.mark.parametrize("name", ["a.npy", "a.png"])  # told by content
def test_npy_is_exact(tmp_path, dtype, channels, name):
    array = np.random.default_rng(0).integers(0, 100, (*SHAPE, *channels)).astype(dtype)
    with (tmp_path / name).open("wb") as file:
        np.save(file, array)
    image = read_image(tmp_path / name)
    assert image.dtype == array.dtype
    np.testing.assert_array_equal(image, array)
    assert read_size(tmp_path / name) == SHAPE


def test_npy_of_columns_is_read_the_right_way_round(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(picture()))
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy"), picture())


def test_npy_mask_of_bool_and_of_labels(tmp_path):
    np.save(tmp_path / "a.npy", lungs())
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy"), lungs())
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy"), lungs() * np.uint8(255))
    np.save(tmp_path / "b.npy", lungs().astype(np.int64) * 2)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.npy"), lungs())


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(7), "shape (7,)"),
        (np.zeros((3, 8, 8)), "shape (3, 8, 8)"),
        (np.zeros((2, 8, 8, 3)), "shape (2, 8, 8, 3)"),
        (np.zeros((0, 8)), "shape (0, 8)"),
        (np.float32(1), "shape ()"),
        (np.zeros((8, 8), complex), "complex128"),
        (np.full((8, 8), "lung"), "<U4"),
        (np.zeros((8, 8), "M8[s]"), "datetime64"),
        (np.zeros((8, 8), [("a", "u1")]), "dtype"),
        (np.array([[1, None]]), "pickle"),
        (np.array([[1, np.nan]]), "NaN"),
        (np.array([[1, np.inf]], np.float16), "infinite"),
    ],
)
def test_npy_of_something_else_is_refused(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    assert_refused(read_image, tmp_path / "a.npy", words)


def test_npy_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, picture())
    data = path.read_bytes()
    for cut in (*range(0, 140), len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        assert_refused(read_image, path)


def test_npy_with_pickled_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(tmp_path / "a.npy", np.array([[Evil()]]))
    assert_refused(read_image, tmp_path / "a.npy", "pickle")
    assert not (tmp_path / "ran").exists()


def test_film_of_a_picture_knows_no_spacing_and_no_modality(tmp_path):
    np.save(tmp_path / "a.npy", picture())
    for path in (tmp_path / "a.npy", saved(tmp_path / "a.png", picture(), dpi=(100, 100))):
        film = read_film(path)
        np.testing.assert_array_equal(film.image, picture())
        assert film.spacing is None and film.modality == ""


@pytest.mark.parametrize("orientation", [None, 6])
def test_the_size_of_a_png_is_read_without_decoding(tmp_path, monkeypatch, orientation):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("L", (8, 6)).save(tmp_path / "a.png", **({"exif": exif} if orientation else {}))

    decoded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: decoded.append(image))
    assert read_size(tmp_path / "a.png") == ((8, 6) if orientation else (6, 8))
    assert not decoded


def test_a_png_of_very_many_chunks_is_refused_at_once(tmp_path):
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "film.png")
    data = (tmp_path / "film.png").read_bytes()
    empty_text = b"\0\0\0\0teXt" + zlib.crc32(b"teXt").to_bytes(4, "big")
    head, end = data[:33], data[33:]  # signature and IHDR
    (tmp_path / "some.png").write_bytes(head + empty_text * 1000 + end)
    np.testing.assert_array_equal(read_image(tmp_path / "some.png"), np.eye(8))
    (tmp_path / "many.png").write_bytes(head + empty_text * 2**16 + end)
    with pytest.raises(InputError, match=r"many\.png: has more than 65536 chunks; save it again"):
        read_image(tmp_path / "many.png")
