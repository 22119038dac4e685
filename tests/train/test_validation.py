"""The validation of a training scores the masks of an evaluation."""

import numpy as np
import pytest

from jaxlung.evaluation.evaluate import evaluate
from jaxlung.train.log import read_history
from jaxlung.train.loop import train_and_evaluate
from tests.helpers.tiny_runs import tiny_config


def test_validation_dice_is_that_of_an_evaluation(tmp_path):
    """At the network's size, without the mirror image; with the clean-up, and without."""
    dice = {}
    for postprocess in (True, False):
        run = tmp_path / str(postprocess)
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
    assert np.abs(dice[True] - dice[False]) > 1e-3  # a network of few steps leaves specks
