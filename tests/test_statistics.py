"""The bootstrap against theory, the summary against numpy."""

import numpy as np
import pytest

from jaxlung.statistics import bootstrap_mean_interval, summarize


def values(n, seed=0):
    return np.random.default_rng(seed).normal(0.9, 0.05, n)


def width(interval):
    return interval[1] - interval[0]


@pytest.mark.parametrize("n", [2, 5, 30, 200])
def test_interval_contains_the_mean(n):
    sample = values(n)
    low, high = bootstrap_mean_interval(sample)
    assert sample.min() <= low < sample.mean() < high <= sample.max()


@pytest.mark.parametrize(("level", "quantile"), [(0.5, 0.674), (0.95, 1.96)])
def test_interval_is_the_one_of_normal_theory_for_many_values(level, quantile):
    sample = values(800)
    error = sample.std(ddof=1) / np.sqrt(800)
    ends = (np.array(bootstrap_mean_interval(sample, level=level)) - sample.mean()) / error
    np.testing.assert_allclose(ends, [-quantile, quantile], atol=0.1)


def test_interval_shrinks_with_n_and_with_the_level():
    widths = [width(bootstrap_mean_interval(values(n))) for n in (10, 100, 1000)]
    assert widths[0] > 2 * widths[1] > 4 * widths[2]
    sample = values(40)
    widths = [width(bootstrap_mean_interval(sample, level=level)) for level in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths) and len(set(widths)) == 3


def test_interval_is_skewed_where_the_values_are():
    sample = np.r_[np.ones(19), 0.0]
    low, high = bootstrap_mean_interval(sample)
    assert sample.mean() - low > high - sample.mean()


def test_interval_is_deterministic_in_the_seed():
    sample = values(20)
    assert bootstrap_mean_interval(sample) == bootstrap_mean_interval(sample.copy())
    assert bootstrap_mean_interval(sample, seed=1) != bootstrap_mean_interval(sample, seed=2)


def test_input_is_left_alone():
    sample = values(20)
    before = sample.copy()
    summarize(sample)
    np.testing.assert_array_equal(sample, before)


def test_single_and_equal_values():
    assert bootstrap_mean_interval(np.array([0.7])) == (0.7, 0.7)
    assert bootstrap_mean_interval(np.full(5, 0.5)) == (0.5, 0.5)
    assert summarize(np.array([0.7])) == {
        "n": 1, "mean": 0.7, "sd": 0.0, "median": 0.7, "p5": 0.7, "min": 0.7, "ci95": [0.7, 0.7],
    }  # fmt: skip


def test_summary_against_numpy():
    sample = values(37)
    summary = summarize(sample)
    assert summary["n"] == 37
    assert summary["mean"] == pytest.approx(np.mean(sample))
    assert summary["sd"] == pytest.approx(np.sqrt(((sample - sample.mean()) ** 2).sum() / 36))
    assert summary["median"] == sorted(sample)[18]
    assert summary["p5"] == pytest.approx(np.percentile(sample, 5))
    assert summary["min"] == sample.min()
    assert summary["ci95"] == list(bootstrap_mean_interval(sample))


def test_summary_is_of_plain_numbers():
    """A report is written as JSON, which takes no numpy scalars; lists and float32 come in."""
    summary = summarize([0.5, 1.0])
    assert summary["mean"] == 0.75
    for value in [*summary.values(), *summarize(np.float32([0.5, 1.0])).values()]:
        assert type(value) in (int, float, list)


@pytest.mark.parametrize("empty", [[], np.zeros(0)])
def test_empty_raises(empty):
    with pytest.raises(ValueError):
        summarize(empty)
