"""What a set leads to expect: the closed form is the refit, and known faults are measured."""

import numpy as np
import pytest

from jaxlung.data_check import consensus
from jaxlung.data_check.consensus import expected_masks, find_swaps, measure_disagreement

GRID = consensus.GRID


def lungs(y=0, x=0, height=34):
    mask = np.zeros((GRID, GRID), np.uint8)
    mask[14 + y : 14 + y + height, 8 + x : 26 + x] = 255
    mask[14 + y : 14 + y + height - 4, 36 + x : 54 + x] = 255
    return mask


def a_set(count, size, seed=0):
    """Masks whose place and height follow from the appearances, and some noise."""
    rng = np.random.default_rng(seed)
    hidden = rng.uniform(-1, 1, (count, 3))
    appearances = hidden @ rng.normal(size=(3, size)) + 0.1 * rng.normal(size=(count, size))
    masks = [lungs(round(4 * a), round(4 * b), 34 + round(4 * c)) for a, b, c in hidden]
    return appearances.astype(np.float16), np.stack(masks)


def left_out(appearances, masks, weights, index):
    """The definition: a weighted ridge fit to all others, solved as least squares."""
    others = np.arange(len(masks)) != index
    x, y = appearances.astype(float), masks.reshape(len(masks), -1).astype(float)
    total = weights.sum()
    mean_x, mean_y = weights @ x / total, weights @ y / total
    centred = x - mean_x
    ridge = consensus.RIDGE * (weights @ (centred**2).sum(1)) / total
    # The intercept is a column of its own, and is not penalised.
    design = np.hstack([centred, np.ones((len(x), 1))])
    penalty = np.diag([ridge] * x.shape[1] + [0.0])
    w = (weights * others)[:, None]
    solution = np.linalg.solve(design.T @ (w * design) + penalty, design.T @ (w * (y - mean_y)))
    return np.clip(design[index] @ solution + mean_y, 0, 255).reshape(masks.shape[1:])


@pytest.mark.parametrize("size", [5, 80])  # fewer and more dimensions than pairs
def test_closed_form_is_the_fit_without_the_pair(size):
    appearances, masks = a_set(30, size)
    weights = np.ones(30)
    weights[::6] = 0
    fast = consensus._leave_one_out(appearances, masks, weights)
    for index in (0, 1, 6, 29):
        np.testing.assert_allclose(
            fast[index], left_out(appearances, masks, weights, index), atol=1
        )


def test_expected_masks_do_not_depend_on_order():
    appearances, masks = a_set(60, 100)
    order = np.random.default_rng(1).permutation(60)
    expected = expected_masks(appearances, masks)
    shuffled = expected_masks(appearances[order], masks[order])
    assert np.abs(expected[order].astype(int) - shuffled).max() <= 1
    assert consensus.dice(expected > 127, masks > 127).mean() > 0.93


def test_rows_are_worked_on_in_parts(monkeypatch):
    appearances, masks = a_set(50, 20)
    whole = expected_masks(appearances, masks)
    monkeypatch.setattr(consensus, "_ROWS", 7)
    assert np.abs(whole.astype(int) - expected_masks(appearances, masks)).max() <= 1


def test_a_pairs_own_mask_does_not_count():
    appearances, masks = a_set(40, 20)
    changed = masks.copy()
    changed[5] = 255 - changed[5]
    before, after = expected_masks(appearances, masks)[5], expected_masks(appearances, changed)[5]
    # Only through which pairs the second fit trusts.
    assert consensus.dice(before > 127, after > 127) > 0.97


@pytest.mark.parametrize(("y", "x"), [(6, 0), (0, -7), (-5, 8), (0, 0)])
def test_shift_is_measured(y, x):
    told = measure_disagreement(lungs(y, x), lungs())
    assert (told.shift_y, told.shift_x) == (y / GRID, x / GRID)
    assert told.agreement + told.shift_gain == pytest.approx(1)
    assert (consensus.weigh_evidence(told)["misaligned_mask"] >= 1) == ((y, x) != (0, 0))


def test_regions_and_their_place():
    extra = lungs()
    extra[40:48, 26:36] = 255
    told = measure_disagreement(extra, lungs())
    assert told.region_is_extra and told.region == pytest.approx(80 / (extra > 0).sum())
    assert (told.region_y, told.region_x) == pytest.approx((44 / GRID, 31 / GRID), abs=0.01)
    told = measure_disagreement(lungs(), extra)
    assert not told.region_is_extra and told.region == pytest.approx(80 / (lungs() > 0).sum())
    thin = lungs()
    thin[:, 30:32] = 255  # a line is no region
    assert measure_disagreement(thin, lungs()).region == 0


def test_what_is_half_expected_is_no_region():
    unsure = lungs()
    unsure[40:48, 26:36] = 110
    extra = lungs()
    extra[40:48, 26:36] = 255
    assert measure_disagreement(extra, unsure).region == 0


def test_mirrored_and_upside_down():
    upside_down = measure_disagreement(lungs()[::-1], lungs())
    assert upside_down.flip_gain == pytest.approx(1 - upside_down.agreement)
    lopsided = lungs()
    lopsided[14:24, 36:54] = 0
    told = measure_disagreement(lopsided[:, ::-1], lopsided)
    assert told.mirror_gain == pytest.approx(1 - told.agreement) and told.mirror_gain > 0.05


def test_a_shift_that_mirroring_half_undoes_is_a_shift():
    told = measure_disagreement(lungs(10), lungs(-2))
    assert 0.05 < told.flip_gain < told.shift_gain
    values = consensus.weigh_evidence(told)
    assert values["misaligned_mask"] >= 1 and values["mirrored_mask"] == 0


def test_swaps_are_found_once_and_best_first():
    expected = np.stack([lungs(y, x) for y, x in ((-8, -6), (8, 6), (0, 0), (6, -6), (0, 1))])
    assert find_swaps(expected, expected) == []
    masks = expected[[1, 0, 3, 2, 4]]
    found = find_swaps(masks, expected)
    assert [(swap.first, swap.second) for swap in found] == [(0, 1), (2, 3)]
    assert found[0].gain > found[1].gain > consensus.SWAP_GAIN
    own = consensus.dice(masks > 127, expected > 127)
    assert found[0].gain == pytest.approx(2 - own[0] - own[1])


def test_swaps_among_those_that_agree_least(monkeypatch):
    expected = np.stack([lungs(y) for y in range(-8, 9)])
    masks = expected[[16, *range(1, 16), 0]]
    monkeypatch.setattr(consensus, "CANDIDATES", 4)
    assert [(swap.first, swap.second) for swap in find_swaps(masks, expected)] == [(0, 16)]
