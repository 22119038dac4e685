"""Pieces by their outlines are those that a labelling of all pixels finds, bit for bit."""

import cv2
import numpy as np
import pytest

from jaxlung.masks import pieces
from jaxlung.masks.pieces import fill_holes, find_pieces
from jaxlung.masks.postprocess import keep_lungs
from jaxlung.masks.shape import SECOND_LUNG


def draw_masks():
    """Draws blobs of all sizes, noise, and what is empty, full, or touches the border."""
    rng = np.random.default_rng(0)
    for i in range(300):
        height, width = rng.integers(1, 70, 2)
        field = rng.random((height, width)).astype(np.float32)
        if i % 3:
            field = cv2.GaussianBlur(field, (0, 0), float(rng.uniform(1, 6)))
        if i % 3 == 2:
            field = cv2.resize(field, (3 * int(width), 3 * int(height)))
        yield field > np.quantile(field, rng.uniform(0, 1))
    yield np.zeros((5, 6), bool)
    yield np.ones((5, 6), bool)


def label(mask_HxW):
    _, index_HxW, stats_Nx5, centres_Nx2 = cv2.connectedComponentsWithStats(
        mask_HxW.astype(np.uint8), connectivity=4
    )
    return index_HxW, stats_Nx5, centres_Nx2[:, ::-1] + 0.5


def fill(piece_HxW):
    reached = cv2.copyMakeBorder(piece_HxW.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    cv2.floodFill(reached, None, (0, 0), 2, flags=4)
    return reached[1:-1, 1:-1] != 2


def test_outlines_find_the_pieces_of_a_labelling():
    by_outlines = 0
    for mask in draw_masks():
        by_outlines += pieces._find_few_outlines(mask.view(np.uint8)) is not None
        found = find_pieces(mask)
        index_HxW, stats_Nx5, centres_Nx2 = label(mask)
        np.testing.assert_array_equal(found.index_HxW, index_HxW)
        np.testing.assert_array_equal(found.boxes_Nx4[1:], stats_Nx5[1:, :4])
        np.testing.assert_array_equal(found.sizes_N[1:], stats_Nx5[1:, 4])
        np.testing.assert_array_equal(found.centres_Nx2[1:], centres_Nx2[1:])
    assert 100 < by_outlines < 280  # both ways are tested


def test_holes_are_what_the_outside_does_not_reach():
    for mask in draw_masks():
        index_HxW, stats_Nx5, _ = label(mask)
        for number in range(1, min(4, len(stats_Nx5))):
            left, top, width, height, _ = stats_Nx5[number]
            piece = index_HxW[top : top + height, left : left + width] == number
            np.testing.assert_array_equal(fill_holes(piece), fill(piece))


@pytest.mark.parametrize("framed", [False, True])
def test_cleaning_in_the_box_is_cleaning_of_the_whole_mask(framed):
    for mask in draw_masks():
        mask = np.pad(mask, ((7, 2), (3, 11))) if framed else mask
        expected = np.zeros_like(mask)
        index_HxW, stats_Nx5, _ = label(mask)
        largest = 1 + np.argsort(-stats_Nx5[1:, 4], kind="stable")[:2]
        filled = [fill(index_HxW == number) for number in largest]
        for piece in filled:
            if piece.sum() >= SECOND_LUNG * max(one.sum() for one in filled):
                expected |= piece
        np.testing.assert_array_equal(keep_lungs(mask), expected)
