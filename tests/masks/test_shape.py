"""Shapes of masks by hand-counted examples."""

import numpy as np
import pytest

from jaxlung.masks.shape import (
    has_one_lung,
    is_inverted,
    lungs_joined,
    measure_contrast,
    measure_shape,
    outliers,
    robust_z,
    strays,
)


def lungs(height=100, width=120):
    mask = np.zeros((height, width), bool)
    mask[20:80, 15:50] = True
    mask[20:70, 70:105] = True
    return mask


def shape(mask, contrast=1.0):
    return measure_shape(mask, contrast)


def test_numbers_of_two_lungs():
    told = shape(lungs())
    area = 60 * 35 + 50 * 35
    assert told.coverage == pytest.approx(area / 12000)
    assert told.second == pytest.approx(50 * 35 / area)
    assert told.lesser_half == pytest.approx(50 * 35 / area)
    assert told.aspect == pytest.approx(90 / 60)
    assert (told.border, told.pieces, told.stray, told.holes) == (0, 2, 0, 0)
    assert not (is_inverted(told) or has_one_lung(told) or lungs_joined(told) or strays(told))


def test_an_empty_mask_has_no_shape():
    told = shape(np.zeros((9, 9), bool))
    assert not any(told[:-1]) and not is_inverted(told)


def test_inverted():
    assert is_inverted(shape(~lungs()))
    assert is_inverted(shape(~lungs(), contrast=-1.0))
    assert not is_inverted(shape(np.ones((9, 9), bool)))  # another fault: the whole image


@pytest.mark.parametrize(("contrast", "inverted"), [(-0.5, True), (0.5, False)])
def test_small_inverted_mask_is_told_by_its_brightness(contrast, inverted):
    """Lungs that fill the picture leave little for their inverse."""
    mask = np.ones((100, 120), bool)
    mask[5:95, 5:115] = False
    assert is_inverted(shape(mask, contrast)) == inverted


def test_lungs_that_reach_the_frame_are_not_inverted():
    mask = lungs()
    mask[20:100, 15:50] = True
    mask[0:70, 70:120] = True
    assert not is_inverted(shape(mask, -1.0))


def test_one_lung_and_joined_lungs():
    right = lungs()
    right[:, 60:] = False
    assert has_one_lung(shape(right)) and not lungs_joined(shape(right))
    joined = lungs()
    joined[40:42, 15:105] = True
    assert lungs_joined(shape(joined)) and not has_one_lung(shape(joined))


def test_pieces_are_counted_with_their_share():
    crumbs = lungs()
    crumbs[2, 2:12:4] = True
    told = shape(crumbs)
    assert told.pieces == 5 and told.stray == pytest.approx(3 / crumbs.sum())
    assert strays(told) >= 1  # three of them
    few = lungs()
    few[2, 2] = True
    assert 0 < strays(shape(few)) < 1
    touching = lungs()
    touching[80, 50] = True  # by a corner
    assert shape(touching).pieces == 2


def test_holes_are_what_no_way_leads_out_of():
    mask = lungs()
    mask[30:40, 20:30] = False
    assert shape(mask).holes == pytest.approx(100 / lungs().sum())
    mask[30, 15:20] = False
    assert shape(mask).holes == 0  # open now
    frame = np.ones((10, 10), bool)
    frame[4:6, 4:6] = False
    assert shape(frame).holes == pytest.approx(0.04)


def test_contrast_has_the_sign_of_a_film():
    mask = lungs().astype(np.uint8)
    film = np.where(mask, 50, 150).astype(np.uint8)
    assert measure_contrast(film, mask) > 1
    assert measure_contrast(255 - film, mask) == pytest.approx(-measure_contrast(film, mask))
    for flat_or_empty in ((np.full_like(film, 7), mask), (film, mask * 0), (film, mask * 0 + 1)):
        assert np.isnan(measure_contrast(*flat_or_empty))


def test_outliers_are_robust():
    values = np.random.default_rng(0).normal(3, 0.1, 101)
    values[:30] = 99
    assert (robust_z(values)[:30] > 100).all() and (np.abs(robust_z(values)[30:]) < 4).all()
    assert np.abs(robust_z(np.array([1, 1, 1, 1, 1.001]))).max() < 1
    shapes = [shape(np.roll(lungs(), i, axis=0)) for i in range(9)]
    small = np.zeros_like(lungs())
    small[40:50, 30:90] = True
    coverage, aspect = outliers([*shapes, shape(small)])
    assert coverage[-1] < -4 and aspect[-1] > 4
    assert np.abs(coverage[:-1]).max() < 1 and np.abs(aspect[:-1]).max() < 1
