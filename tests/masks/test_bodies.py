"""Bodies of a scan's mask: two lungs are kept whole, and each keeps its side."""

import numpy as np
import pytest
from scipy import ndimage

from jaxlung.masks.bodies import find_bodies, keep_lung_bodies, label_lung_bodies


def chest():
    """Two ellipsoids; the right lung, on the picture's left, reaches higher."""
    z, y, x = np.mgrid[:24, :32, :48]
    right = ((z - 13) / 10) ** 2 + ((y - 16) / 10) ** 2 + ((x - 14) / 8) ** 2 < 1
    left = ((z - 9) / 8) ** 2 + ((y - 16) / 10) ** 2 + ((x - 35) / 7) ** 2 < 1
    return right, left


@pytest.mark.parametrize("seed", range(4))
def test_bodies_are_those_of_scipy(seed):
    mask = np.random.default_rng(seed).random((6, 9, 8)) < 0.45
    labels, count = ndimage.label(mask)
    bodies = find_bodies(mask)
    expected = ndimage.sum(mask, labels, range(1, count + 1))
    assert sorted(bodies.sizes_N) == sorted(expected)
    frame = np.ones_like(mask)
    frame[1:-1, 1:-1, 1:-1] = False
    closed = set(range(1, count + 1)) - set(np.unique(labels[frame]))
    assert (~bodies.is_open_N).sum() == len(closed)
    columns = [ndimage.center_of_mass(mask, labels, i)[2] for i in range(1, count + 1)]
    np.testing.assert_allclose(sorted(bodies.columns_N), sorted(columns))


def test_two_lungs_stay_and_all_else_goes():
    right, left = chest()
    lungs = right | left
    mask = lungs.copy()
    mask[:, 15:17, 24] = True  # the windpipe
    mask[2:5, 2:5, 23:26] = True  # gas
    mask[13, 16, 14] = mask[9, 15:18, 35] = False  # vessels
    np.testing.assert_array_equal(keep_lung_bodies(mask), lungs)
    np.testing.assert_array_equal(keep_lung_bodies(lungs), lungs)


def test_a_hole_of_a_slice_that_is_open_in_the_scan_stays_open():
    """Lungs that touch before and behind the heart enclose it in a slice, not in the scan."""
    mask = np.zeros((5, 8, 8), bool)
    mask[2, 1:7, 1:7] = True
    mask[2, 3:5, 3:5] = False
    np.testing.assert_array_equal(keep_lung_bodies(mask), mask)


def test_one_lung_alone_and_none_at_all():
    right, _ = chest()
    np.testing.assert_array_equal(keep_lung_bodies(right), right)
    nothing = np.zeros((3, 4, 5), bool)
    assert not keep_lung_bodies(nothing).any()
    assert not label_lung_bodies(nothing).any()
    everything = np.ones((2, 3, 4), bool)
    assert keep_lung_bodies(everything).all()


def test_a_lung_keeps_its_side_where_it_is_alone():
    right, left = chest()
    off_centre = np.roll(right | left, -6, axis=2)
    labels = label_lung_bodies(off_centre)
    np.testing.assert_array_equal(labels == 1, np.roll(right, -6, axis=2))
    np.testing.assert_array_equal(labels == 2, np.roll(left, -6, axis=2))
    mirrored = label_lung_bodies(off_centre[:, :, ::-1])
    np.testing.assert_array_equal(mirrored[:, :, ::-1], np.where(labels, 3 - labels, 0))


def test_lungs_that_touch_are_told_apart_by_slice():
    right, left = chest()
    mask = right | left
    mask[9, 16, 20:30] = True
    labels = label_lung_bodies(mask)
    assert np.array_equal(labels > 0, mask)
    assert (labels[right] == 1).mean() > 0.97 and (labels[left] == 2).mean() > 0.97


def test_a_lung_in_two_parts_one_above_the_other_is_one_side():
    _, left = chest()
    left[8:10] = False
    labels = label_lung_bodies(left)
    assert set(np.unique(labels)) == {0, 2}


def test_gas_beside_joined_lungs_is_not_taken_for_a_lung():
    right, left = chest()
    mask = right | left
    mask[9, 16, 20:30] = True
    mask[0:3, 2:12, 20:32] = True  # more than a tenth of the lungs
    labels = label_lung_bodies(mask)
    assert (labels[right] == 1).mean() > 0.97 and (labels[left] == 2).mean() > 0.97
