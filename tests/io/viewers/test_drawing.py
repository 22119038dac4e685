"""Pictures: outlines where they belong, and files that open."""

import numpy as np
import pytest
from PIL import Image

from jaxlung.io.images import read_image
from jaxlung.io.viewers.drawing import PREDICTION, TRUTH, draw_overlay, draw_sheet, fill_polygon
from jaxlung.train.log import write_learning_curve

SHAPE = (60, 80)


def grey():
    return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)


def lung(top=10, left=12, holes=True):
    mask = np.zeros(SHAPE, bool)
    mask[top : top + 30, left : left + 20] = True
    mask[top + 5 : top + 12, left + 35 : left + 41] = True
    if holes:
        mask[top + 10 : top + 18, left + 5 : left + 12] = False
    return mask


def eroded(mask, offsets):
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifted = [padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in offsets]
    return np.logical_and.reduce([mask, *shifted])


CROSS = [(0, 1), (0, -1), (1, 0), (-1, 0)]
SQUARE = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def has_colour(picture, colour):
    return (picture == np.array(colour)[None, None]).all(axis=-1)


def assert_is_outline(drawn, mask):
    """The mask's own pixels that touch the outside, by an edge; at most also by a corner."""
    assert (drawn >= (mask & ~eroded(mask, CROSS))).all()
    assert (drawn <= (mask & ~eroded(mask, SQUARE))).all()


def test_truth_is_drawn_on_its_outline_only():
    image, truth = grey(), lung()
    picture = draw_overlay(image, np.zeros(SHAPE, bool), truth)
    assert picture.shape == (*SHAPE, 3) and picture.dtype == np.uint8
    drawn = has_colour(picture, TRUTH)
    assert_is_outline(drawn, truth)
    np.testing.assert_array_equal(picture[~drawn], np.repeat(image[~drawn][:, None], 3, axis=1))
    np.testing.assert_array_equal(image, grey())


def test_mask_up_to_the_border_is_outlined_along_it():
    truth = np.ones(SHAPE, bool)
    assert_is_outline(has_colour(draw_overlay(grey(), ~truth, truth), TRUTH), truth)


def test_prediction_is_drawn_over_the_truth():
    truth, prediction = lung(), lung(top=14, left=18, holes=False)
    picture = draw_overlay(grey(), prediction, truth)
    assert_is_outline(has_colour(picture, PREDICTION), prediction)
    alone = has_colour(draw_overlay(grey(), np.zeros(SHAPE, bool), truth), TRUTH)
    crossing = alone & has_colour(picture, PREDICTION)
    assert crossing.any()
    np.testing.assert_array_equal(has_colour(picture, TRUTH), alone & ~crossing)


def test_no_mask_leaves_the_image_grey():
    empty = np.zeros(SHAPE, bool)
    for truth in (None, empty):
        expected = np.repeat(grey()[..., None], 3, axis=-1)
        np.testing.assert_array_equal(draw_overlay(grey(), empty, truth), expected)


def test_overlay_takes_what_to_canvas_takes():
    expected = draw_overlay(grey(), lung())
    rgba = np.dstack([grey()] * 3 + [grey()[::-1]])
    for image in (grey()[..., None], rgba, rgba[..., :3], grey().astype(np.uint16) * 257):
        np.testing.assert_array_equal(draw_overlay(image, lung()), expected)


def test_lines_are_thicker_on_large_images_but_stay_near_the_outline():
    small = np.zeros((400, 400), bool)
    small[100:300, 100:300] = True
    large = small.repeat(5, axis=0).repeat(5, axis=1)
    counts = []
    for mask in (small, large):
        picture = draw_overlay(np.zeros(mask.shape, np.uint8), mask)
        drawn = has_colour(picture, PREDICTION)
        counts.append(drawn.sum())
        near = max(2, mask.shape[0] // 200)
        rows, columns = np.nonzero(drawn)
        inner = 100 * len(mask) // 400
        outside = np.maximum(np.abs(rows + 0.5 - 2 * inner), np.abs(columns + 0.5 - 2 * inner))
        assert np.abs(outside - inner).max() <= near
    assert counts[1] > 3 * 5 * counts[0]


def test_sheet_puts_each_picture_in_its_cell():
    shapes = [(320, 320), (640, 320), (50, 100), (1, 900), (320, 320)]
    pictures = [np.full((*shape, 3), 40 * (i + 1), np.uint8) for i, shape in enumerate(shapes)]
    page = draw_sheet(pictures, ["one", "two", "three", "x" * 200, ""], columns=3)
    assert page.shape == (2 * 344, 3 * 320, 3) and page.dtype == np.uint8
    sizes = [(320, 320), (320, 160), (160, 320), (1, 320), (320, 320)]
    for i, (height, width) in enumerate(sizes):
        cell = page[(i // 3) * 344 :, (i % 3) * 320 :][:320, :320]
        filled = (cell == 40 * (i + 1)).all(axis=-1)
        assert filled[:height, :width].all() and filled.sum() == height * width
        caption = page[(i // 3) * 344 + 320 :, (i % 3) * 320 :][:24, :320]
        assert (caption.min() < 128) == (i < 4)
    assert (page[344:, 640:] == 255).all()


def test_sheet_needs_a_caption_for_each():
    with pytest.raises(ValueError):
        draw_sheet([np.zeros((4, 4, 3), np.uint8)] * 2, ["one"])


def test_sheet_reads_back_as_png(tmp_path):
    page = draw_sheet([draw_overlay(grey(), lung())], ["Dice 0.9"])
    Image.fromarray(page).save(tmp_path / "sheet.png")
    np.testing.assert_array_equal(read_image(tmp_path / "sheet.png"), page)


@pytest.mark.parametrize("epochs", [1, 5])
def test_learning_curve_is_a_png(tmp_path, epochs):
    history = [
        {
            "epoch": i + 1.0,
            "train_loss": 1 / (i + 1),
            "validation_loss": 1.1 / (i + 1),
            "validation_dice": 1 - 0.5 / (i + 1),
        }
        for i in range(epochs)
    ]
    path = tmp_path / "curve.png"
    write_learning_curve(path, history)
    with Image.open(path) as image:
        assert image.format == "PNG" and image.mode == "RGB"
    pixels = read_image(path)
    assert min(pixels.shape[:2]) >= 300
    colours = np.unique(pixels.reshape(-1, 3), axis=0)
    for colour in ((31, 119, 180), (255, 127, 14)):  # loss and Dice, in matplotlib's C0 and C1
        assert (colours == np.array(colour)[None]).all(axis=1).any()
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]


def test_learning_curve_changes_with_the_history(tmp_path):
    record = {"epoch": 1.0, "train_loss": 0.5, "validation_loss": 0.6, "validation_dice": 0.7}
    write_learning_curve(tmp_path / "a.png", [record])
    write_learning_curve(tmp_path / "b.png", [record])
    write_learning_curve(tmp_path / "c.png", [record, {**record, "epoch": 2.0}])
    a, b, c = (read_image(tmp_path / f"{name}.png") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_polygons_hold_the_pixels_whose_centre_is_inside():
    square = np.array([[1, 0], [3, 0], [3, 2], [1, 2]])
    expected = np.zeros((3, 4), bool)
    expected[:2, 1:3] = True
    np.testing.assert_array_equal(fill_polygon(square, (3, 4)), expected)
    beyond = np.array([[-5, -5], [9, -5], [9, 9], [-5, 9]])
    assert fill_polygon(beyond, (3, 4)).all()
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.stack([50 + 30 * np.cos(angles), 50 + 30 * np.sin(angles)], axis=-1)
    assert fill_polygon(circle, (100, 100)).sum() == pytest.approx(np.pi * 900, rel=0.01)
