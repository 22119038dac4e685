"""Right and left: every pixel gets a side, the right one, and a flip exchanges them."""

import cv2
import jax
import numpy as np
import pytest

from jaxlung.data.folder import load_folder
from jaxlung.masks.postprocess import keep_lungs
from jaxlung.masks.sides import label_sides
from jaxlung.phantom import radiograph


@pytest.fixture(scope="module")
def phantoms():
    """Labels 0, 1 and 2 by anatomy, uint8 [8, 256, 256]."""
    keys = jax.random.split(jax.random.key(0), 8)
    return np.asarray(jax.lax.map(lambda key: radiograph(key)[1], keys), np.uint8)


def joined(labels, rows=4):
    """Both lungs and a bridge of some rows from the middle of one to that of the other."""
    mask = labels > 0
    down, across = (int(np.nonzero(mask)[axis].mean()) for axis in (0, 1))
    ends = [int(np.nonzero(labels == side)[1].mean()) for side in (1, 2)]
    mask[down : down + rows, min(*ends) : max(*ends)] = True
    assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] == 2
    assert min(*ends) < across < max(*ends)
    return mask


def wrong_share(found, labels):
    """Of the lungs' pixels; what was drawn beside them has no side."""
    return (found != labels)[labels > 0].mean()


def blobs(rng, shape):
    noise = cv2.GaussianBlur(rng.random(shape), (0, 0), rng.choice([0.5, 2, 5]))
    return noise > np.quantile(noise, rng.choice([0.3, 0.6, 0.9]))


def test_phantoms_get_the_sides_of_their_anatomy(phantoms):
    for labels in phantoms:
        np.testing.assert_array_equal(label_sides(labels > 0), labels)


def test_mirrored_exchanges_the_labels(phantoms):
    for labels in phantoms:
        mask = joined(labels)
        once, other = label_sides(mask), label_sides(mask, mirrored=True)
        np.testing.assert_array_equal(other[mask], 3 - once[mask])
        assert not other[~mask].any()


@pytest.mark.parametrize("change", [lambda labels: labels > 0, joined], ids=["apart", "joined"])
def test_a_flipped_mask_has_the_other_sides(phantoms, change):
    for labels in phantoms:
        mask = change(labels)
        expected = label_sides(mask)
        flipped = label_sides(np.fliplr(mask))
        same = label_sides(np.fliplr(mask), mirrored=True)
        # A tie, on a bridge's middle column, goes to the picture's right.
        assert (np.fliplr(flipped) != 3 - expected)[mask].mean() < 0.001
        assert (np.fliplr(same) != expected)[mask].mean() < 0.001


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (40, 60), (300, 170)])
def test_every_pixel_of_any_mask_has_a_side_and_no_other_has(shape):
    rng = np.random.default_rng(0)
    masks = [np.zeros(shape, bool), np.ones(shape, bool), rng.random(shape) < 0.5]
    masks += [blobs(rng, shape) for _ in range(30)]
    for mask in masks:
        labels = label_sides(mask)
        assert labels.dtype == np.uint8 and labels.shape == shape
        np.testing.assert_array_equal(labels > 0, mask)
        assert labels.max() <= 2


def test_argument_is_left_alone_whatever_its_layout(phantoms):
    mask = phantoms[0] > 0
    before = mask.copy()
    for view in (mask, np.asfortranarray(mask), np.repeat(mask, 2, 1)[:, ::2]):
        np.testing.assert_array_equal(label_sides(view), phantoms[0])
        np.testing.assert_array_equal(view, before)


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_a_bridge_changes_no_side_outside_it(phantoms, rows):
    for labels in phantoms:
        assert wrong_share(label_sides(joined(labels, rows)), labels) < 0.005


def test_lungs_that_touch_over_much_of_their_height_are_divided(phantoms):
    """Grown until they merge, as from a network unsure of the middle."""
    merged = 0
    for labels in phantoms:
        for radius in (8, 12, 16, 20):
            ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
            grown = cv2.dilate((labels > 0).astype(np.uint8), ellipse) > 0
            merged += cv2.connectedComponents(grown.astype(np.uint8), connectivity=4)[0] == 2
            assert wrong_share(label_sides(grown), labels) < 0.03
    assert merged > 5


@pytest.mark.parametrize("degrees", [-20, -10, 10, 20])
@pytest.mark.parametrize("change", [lambda labels: labels > 0, joined], ids=["apart", "joined"])
def test_sides_turn_with_the_picture(phantoms, change, degrees):
    turn = cv2.getRotationMatrix2D((127.5, 127.5), degrees, 0.8)
    for labels in phantoms:
        mask, turned = (
            cv2.warpAffine(picture.astype(np.uint8), turn, (256, 256), flags=cv2.INTER_NEAREST)
            for picture in (change(labels), labels)
        )
        assert wrong_share(label_sides(mask > 0), turned) < 0.005


def test_one_lung_has_the_side_of_its_place(phantoms):
    for labels in phantoms:
        for side in (1, 2):
            alone = labels == side
            np.testing.assert_array_equal(label_sides(alone), np.where(alone, side, 0))


def test_a_lung_in_two_pieces_is_one_lung(phantoms):
    """Divided by an opacity, beside the other lung and alone."""
    for labels in phantoms:
        for side in (1, 2):
            rows = np.nonzero((labels == side).any(1))[0]
            cut = labels.copy()
            cut[int(rows.mean()) - 4 : int(rows.mean()) + 4][:, (labels == side).any(0)] = 0
            np.testing.assert_array_equal(label_sides(cut > 0), cut)
            alone = np.where(cut == side, side, 0)
            np.testing.assert_array_equal(label_sides(alone > 0), alone)


def test_two_lungs_off_the_middle_are_still_two(phantoms):
    """The picture's middle matters for a lung alone only."""
    for labels in phantoms:
        wide = np.pad(labels, ((0, 0), (256, 0)))
        np.testing.assert_array_equal(label_sides(wide > 0), wide)


def test_further_pieces_have_the_side_of_the_nearer_lung():
    mask = np.zeros((100, 160), bool)
    mask[20:80, 20:60] = mask[20:80, 100:140] = True
    mask[90:94, 70:74] = mask[5:8, 82:88] = mask[50, 62] = True
    labels = label_sides(mask)
    expected = np.where(mask, np.where(np.arange(160) < 80, 1, 2), 0)
    np.testing.assert_array_equal(labels, expected)


def test_a_blob_over_the_middle_is_cut_in_two_and_one_aside_is_not():
    disk = cv2.circle(np.zeros((200, 400), np.uint8), (200, 100), 80, 1, -1) > 0
    labels = label_sides(disk)
    right, left = (labels == 1).sum(), (labels == 2).sum()
    assert min(right, left) > 0.45 * disk.sum()
    assert np.nonzero(labels == 1)[1].max() < np.nonzero(labels == 2)[1].min()
    aside = np.roll(disk, -100, axis=1)
    np.testing.assert_array_equal(label_sides(aside), aside)


def test_a_narrow_piece_over_the_middle_is_one_lung():
    lung = cv2.ellipse(np.zeros((200, 200), np.uint8), (96, 100), (30, 70), 0, 0, 360, 1, -1)
    np.testing.assert_array_equal(label_sides(lung > 0), lung)


def test_what_lies_within_a_lung_is_no_second_one():
    """An island in a ring, as of a cavity, which is not in the ring's middle."""
    lung = cv2.ellipse(np.zeros((200, 300), np.uint8), (80, 100), (45, 80), 0, 0, 360, 1, -1)
    cv2.circle(lung, (86, 100), 24, 0, -1)
    cv2.circle(lung, (86, 100), 18, 1, -1)
    np.testing.assert_array_equal(label_sides(lung > 0), lung)


def test_a_gap_of_one_pixel_divides_a_large_mask():
    """Though it is lost where the lungs are looked for, and does not lie between them midway."""
    labels = np.zeros((1200, 1200), np.uint8)
    labels[200:1000, 200:500] = labels[400:430, 500:700] = 1
    labels[200:1000, 701:1000] = 2
    np.testing.assert_array_equal(label_sides(labels > 0), labels)


def test_sides_do_not_depend_on_the_size(phantoms):
    """On a finer grid than the one on which the lungs are looked for: each pixel is repeated."""
    for labels in phantoms[:3]:
        large = cv2.resize(labels, (1500, 1500), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(label_sides(large > 0), large)
        mask = cv2.resize(joined(labels).astype(np.uint8), (1500, 1500), interpolation=0) > 0
        assert wrong_share(label_sides(mask), large) < 0.005


def test_real_lungs_get_one_side_each(shared_data):
    """Of every Montgomery mask, drawn lung by lung: the piece on the picture's left is right."""
    split = load_folder(shared_data / "montgomery")
    for i in range(len(split.ids)):
        mask = keep_lungs(split.read(i).mask)
        labels = label_sides(mask)
        count, piece, _, centres = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=4
        )
        assert count == 3, split.ids[i]
        for side, label in zip((1, 2), 1 + np.argsort(centres[1:, 0]), strict=True):
            assert (labels[piece == label] == side).all(), split.ids[i]
        ratio = (labels == 1).sum() / (labels == 2).sum()
        assert 0.5 < ratio < 2, split.ids[i]
        alone = label_sides(labels == 2)
        assert (alone[labels == 2] == 2).all(), split.ids[i]
