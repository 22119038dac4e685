"""Plumbing on real radiographs, where they are at hand; they are no part of the repository."""

import numpy as np
import pytest

from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits
from jaxlung.data.folder import load_folder
from jaxlung.preprocess import from_canvas, to_canvas


@pytest.mark.parametrize(("name", "pairs"), [("shenzhen", 566), ("montgomery", 138)])
def test_folder_is_read_whole_and_split_without_overlap(shared_data, name, pairs):
    directory = shared_data / name
    assert len(load_folder(directory).ids) == pairs
    splits = load_splits(DataConfig(name="folder", dir=str(directory)))
    ids = [stem for split in splits.values() for stem in split.ids]
    assert len(ids) == len(set(ids)) == pairs
    assert 0.6 < len(splits["train"].ids) / pairs < 0.8


def test_masks_survive_the_canvas_and_back(shared_data):
    """What the network's size alone costs: the ceiling of any 256x256 model on these images.

    The mean over films, and the films' whole area.
    """
    split = load_folder(shared_data / "montgomery")
    for fit in ("letterbox", "stretch"):
        dice, areas = [], np.zeros(2)
        for i in range(0, 138, 10):
            example = split.read(i)
            _, mask_SxS, geometry = to_canvas(example.image, example.mask, size=256, fit=fit)
            back = from_canvas(mask_SxS / 255, geometry) >= 0.5
            overlap = (back & example.mask).sum()
            dice.append(2 * overlap / (back.sum() + example.mask.sum()))
            areas += back.sum(), example.mask.sum()
        assert np.mean(dice) >= 0.999
        assert areas[0] == pytest.approx(areas[1], rel=5e-4)
