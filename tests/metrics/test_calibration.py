"""Reliability of pixels: sums by hand, and the error of sets that are simulated to have one."""

import json

import numpy as np
import pytest

from jaxlung.metrics.calibration import (
    BINS,
    Confidence,
    Reliability,
    count_reliability,
    expected_calibration_error,
    failure_auc,
    fit_confidence,
    reliability_curve,
    sum_reliability,
)


def simulated(share, n=200_000, seed=0):
    """Probabilities spread evenly, where `share` of a probability is truly lung."""
    rng = np.random.default_rng(seed)
    probability = rng.random(n)
    return probability, rng.random(n) < share(probability)


def assert_same_sums(a, b):
    for ours, theirs in zip(a, b, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_sums_by_hand():
    probability = np.array([[0.0, 0.2, 0.25], [0.6, 0.99, 1.0]], np.float32)
    truth = np.array([[False, True, True], [True, False, True]])
    sums = count_reliability(probability, truth, bins=4)
    assert_same_sums(sums, ([2, 1, 1, 2], [0.2, 0.25, 0.6, 1.99], [1, 1, 1, 1]))
    assert expected_calibration_error(sums) == pytest.approx((0.8 + 0.75 + 0.4 + 0.99) / 6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_is_in_the_last_bin(dtype):
    sums = count_reliability(np.ones(3, dtype), np.ones(3, bool))
    assert len(sums.pixels) == BINS
    assert np.flatnonzero(sums.pixels).tolist() == [BINS - 1] and sums.pixels[-1] == 3


def test_total_of_parts_is_the_whole():
    probability, truth = simulated(np.sqrt, n=1000)
    parts = [
        count_reliability(probability[a:b], truth[a:b]) for a, b in ((0, 10), (10, 10), (10, 1000))
    ]
    assert_same_sums(sum_reliability(parts), count_reliability(probability, truth))
    assert_same_sums(sum_reliability(parts[:1]), parts[0])


@pytest.mark.parametrize(
    ("share", "error"),
    [
        (lambda p: p, 0.0),
        (lambda p: 0.25 + 0.5 * p, 0.125),  # overconfident: off by |p - 0.5| / 2
        (lambda p: 0.5 * p, 0.25),
        (np.zeros_like, 0.5),
    ],
)
def test_error_of_simulated_sets(share, error):
    assert expected_calibration_error(count_reliability(*simulated(share))) == pytest.approx(
        error, abs=0.005
    )


def test_worst_and_best_error():
    sure, truth = np.array([0.0, 1.0, 1.0]), np.array([False, True, True])
    assert expected_calibration_error(count_reliability(sure, truth)) == 0
    assert expected_calibration_error(count_reliability(sure, ~truth)) == 1


def test_no_pixels():
    sums = count_reliability(np.empty((0, 5)), np.empty((0, 5), bool))
    assert expected_calibration_error(sums) == 0
    assert (
        reliability_curve(sums)["ece"] == 0
        and reliability_curve(sums)["mean_probability"] == [None] * BINS
    )


def test_curve_by_hand():
    sums = Reliability(np.array([2.0, 0, 4]), np.array([0.5, 0, 3.5]), np.array([0.0, 0, 3]))
    assert reliability_curve(sums) == {
        "bins": 3,
        "pixels": [2, 0, 4],
        "mean_probability": [0.25, None, 0.875],
        "lung_share": [0.0, None, 0.75],
        "ece": pytest.approx(1 / 6),
    }


def test_curve_is_plain():
    plain = reliability_curve(count_reliability(*simulated(np.square, n=20)))
    assert json.loads(json.dumps(plain)) == plain
    values = [
        v for value in plain.values() for v in (value if isinstance(value, list) else [value])
    ]
    assert {type(value) for value in values} <= {int, float, type(None)}  # numpy's are of float too


def test_a_line_is_found_in_noise():
    rng = np.random.default_rng(0)
    expected = rng.uniform(0.5, 1, 2000)
    fitted = fit_confidence(expected, 1.4 * expected - 0.5 + rng.normal(0, 0.05, 2000))
    assert fitted.slope == pytest.approx(1.4, abs=0.03)
    assert fitted.intercept == pytest.approx(-0.5, abs=0.03)
    assert fitted.calibrate(0.3) == 0 and Confidence(2.0, 0.0).calibrate(0.9) == 1
    assert fit_confidence(np.full(3, 0.9), np.array([0.1, 0.5, 0.9])) == Confidence()
    assert Confidence(0.5, 0.4).calibrate(0.0) == 0  # an empty mask


def test_failures_are_told_as_often_as_pairs_say():
    rng = np.random.default_rng(1)
    confidence, dice = rng.integers(0, 5, 40) / 4, rng.uniform(0.8, 1, 40)
    pairs = [
        (confidence[i] < confidence[j]) + (confidence[i] == confidence[j]) / 2
        for i in range(40)
        for j in range(40)
        if dice[i] < 0.9 <= dice[j]
    ]
    assert failure_auc(confidence, dice) == pytest.approx(np.mean(pairs))
    assert failure_auc(confidence, np.ones(40)) is None
    assert failure_auc(np.zeros(40), dice) == 0.5
