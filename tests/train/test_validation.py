"""The validation of a training scores the masks of an evaluation."""

import numpy as np
import pytest

from jaxlung.evaluation.evaluate import evaluate
from jaxlung.metrics import Counts
from jaxlung.train.log import read_history
from jaxlung.train.loop import train_and_evaluate
from jaxlung.train.validation import Scores
from tests.helpers.tiny_runs import no_steps, tiny_config


def test_validation_dice_is_that_of_an_evaluation(tmp_path):
    """At the network's size, without the mirror image; with the clean-up, and without."""
    dice = {}
    for postprocess in (True, False):
        run = tmp_path / str(postprocess)
        with no_steps():
            train_and_evaluate(tiny_config(train__postprocess=postprocess), run)
        best = max(read_history(run), key=lambda record: record["validation_dice"])
        [entry] = evaluate(run, split="validation", tta=False)["results"]
        network = entry["grids"]["network"]
        assert network["per_image"]["dice"]["mean"] == pytest.approx(
            best["validation_dice"], abs=1e-6
        )
        assert network["pooled"]["dice"]["value"] == pytest.approx(
            best["validation_pooled_dice"], abs=1e-6
        )
        dice[postprocess] = best["validation_dice"]
    assert np.abs(dice[True] - dice[False]) > 1e-3  # a network of no steps leaves specks


def test_a_stray_pixel_on_each_empty_slice_costs_a_volume_little():
    """Scan a has 10 slices, 5 of them with 1000 pixels of lung, all found; scan b is right."""
    tp, fp = np.array([1000] * 5 + [0] * 5 + [500]), np.array([0] * 5 + [1] * 5 + [0])
    planes = (tp, fp, np.zeros(11, int), np.full(11, 9000))
    counts = Counts(*(plane[:, None] for plane in planes))
    scores = Scores(np.zeros(11), counts, np.ones((11, 1), bool), ("lung",))
    means = scores._replace(volumes=("a",) * 10 + ("b",)).means()
    assert means["dice"] == pytest.approx(6 / 11)
    assert means["volume_dice"] == pytest.approx((10000 / 10005 + 1) / 2)
    assert "volume_dice" not in scores.means()
