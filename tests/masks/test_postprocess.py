"""Post-processing: at most two pieces without holes, and never less than something."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from jaxlung.masks.postprocess import keep_lungs


def lungs():
    mask = np.zeros((40, 50), bool)
    mask[5:30, 5:20] = mask[8:32, 28:44] = True
    return mask


def test_two_lungs_stay_as_they_are():
    np.testing.assert_array_equal(keep_lungs(lungs()), lungs())


def test_specks_go_and_holes_are_filled():
    mask = lungs()
    mask[35:38, 5:20] = True  # a third piece
    mask[10:14, 8:12] = False  # a hole
    np.testing.assert_array_equal(keep_lungs(mask), lungs())


def test_a_speck_is_no_second_lung():
    mask = np.zeros((40, 50), bool)
    mask[5:30, 5:20] = True
    expected = mask.copy()
    mask[35, 40] = True
    np.testing.assert_array_equal(keep_lungs(mask), expected)


def test_pieces_that_touch_by_a_corner_are_two():
    mask = np.zeros((6, 6), bool)
    mask[:3, :3] = mask[3:, 3:] = True
    mask[0, 5] = True
    expected = mask.copy()
    expected[0, 5] = False
    np.testing.assert_array_equal(keep_lungs(mask), expected)


def test_shares_are_of_filled_pieces():
    """A thin ring fills to more than a piece is a tenth of: once or twice, the same is kept."""
    mask = np.zeros((60, 80), bool)
    mask[5:45, 5:45] = True
    mask[6:44, 6:44] = False
    mask[50:54, 60:65] = True
    once = keep_lungs(mask)
    assert once[20, 20] and not once[52, 62]
    np.testing.assert_array_equal(keep_lungs(once), once)


def test_empty_stays_empty_and_a_pixel_stays():
    empty = np.zeros((4, 5), bool)
    np.testing.assert_array_equal(keep_lungs(empty), empty)
    empty[2, 3] = True
    np.testing.assert_array_equal(keep_lungs(empty), empty)


@pytest.mark.parametrize("density", [0.02, 0.3, 0.5, 0.8, 1.0])
def test_any_mask(density):
    """Never empty, twice as once, and holes alone are added."""
    from scipy import ndimage

    rng = np.random.default_rng(int(100 * density))
    for _ in range(20):
        mask = rng.random((24, 30)) < density
        mask[3, 3] = True
        out = keep_lungs(mask)
        assert out.dtype == bool and out.any()
        np.testing.assert_array_equal(keep_lungs(out), out)
        assert ndimage.label(out)[1] <= 2
        added = out & ~mask
        assert not (added & ~ndimage.binary_fill_holes(mask)).any()


def by_scipy(mask):
    """The same, written with SciPy."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if count == 0:
        return np.zeros_like(mask, dtype=bool)
    largest_two = 1 + np.argsort(-np.bincount(labels.ravel())[1:], kind="stable")[:2]
    pieces = [ndimage.binary_fill_holes(labels == label) for label in largest_two]
    enough = 0.1 * max(piece.sum() for piece in pieces)
    return np.any([piece for piece in pieces if piece.sum() >= enough], axis=0)


@pytest.mark.parametrize("density", [0.02, 0.3, 0.5, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["noise", "blobs", "framed"])
def test_masks_are_those_of_scipy(kind, density):
    """Of equal pieces the first by rows counts; a hole at the border is none."""
    rng = np.random.default_rng(int(100 * density))
    shapes = [(1, 1), (1, 9), (9, 1), (0, 5), (2, 2), *rng.integers(2, 60, (60, 2)), (400, 700)]
    for shape in map(tuple, shapes):
        values = rng.random(shape)
        if kind == "blobs" and values.size:
            values = cv2.GaussianBlur(values, (0, 0), 2).reshape(shape)
        mask = values < (np.quantile(values, density) if values.size else 0)
        if kind == "framed":
            mask[:1] = mask[-1:] = mask[:, :1] = mask[:, -1:] = True
        out = keep_lungs(mask)
        np.testing.assert_array_equal(out, by_scipy(mask))
        assert out.any() == mask.any() and out.dtype == bool


@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_masks_stay(full):
    for shape in ((1, 1), (1, 7), (5, 1), (6, 8)):
        mask = np.full(shape, full)
        np.testing.assert_array_equal(keep_lungs(mask), mask)


def test_argument_is_left_alone_whatever_its_layout():
    mask = lungs()
    mask[10:14, 8:12] = False
    for view in (mask, np.asfortranarray(mask), np.repeat(mask, 2, 1)[:, ::2]):
        np.testing.assert_array_equal(keep_lungs(view), lungs())
        assert not view[10:14, 8:12].any()


def test_scipy_is_not_imported():
    code = "import sys, jaxlung.masks.postprocess; print('scipy.ndimage' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
