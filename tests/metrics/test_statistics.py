"""Intervals against theory, SciPy and simulated coverage; summaries against numpy."""

import numpy as np
import pytest
from scipy import stats

from jaxlung.metrics import statistics
from jaxlung.metrics.statistics import compare, mean_intervals, summarize


def values(n, seed=0):
    return np.random.default_rng(seed).normal(0.9, 0.05, n)


def patients(n, images_each=1):
    return [f"p{i // images_each}" for i in range(n)]


def interval(sample, cluster=None, **options):
    sample = np.asarray(sample, np.float64)
    cluster = patients(len(sample)) if cluster is None else cluster
    [ends] = mean_intervals(sample[:, None], cluster, **options)
    return tuple(ends)


def width(ends):
    return ends[1] - ends[0]


@pytest.mark.parametrize("n", [10, 30, 200])
def test_interval_contains_the_mean_and_stays_within_the_values(n):
    sample = values(n)
    low, high = interval(sample)
    assert sample.min() <= low < sample.mean() < high <= sample.max()


@pytest.mark.parametrize(("level", "quantile"), [(0.5, 0.674), (0.95, 1.96)])
def test_interval_is_the_one_of_normal_theory_for_many_values(level, quantile):
    sample = values(800)
    error = sample.std(ddof=1) / np.sqrt(800)
    ends = (np.array(interval(sample, level=level)) - sample.mean()) / error
    np.testing.assert_allclose(ends, [-quantile, quantile], atol=0.1)


def test_interval_agrees_with_scipy_but_for_its_level():
    """At the level whose widened form is 95 %, it is the plain BCa interval."""
    rng = np.random.default_rng(3)
    sums, sizes = rng.gamma(2.0, size=40), rng.integers(1, 5, 40).astype(float)
    z = stats.norm.ppf(0.025) / np.sqrt(40 / 39)
    level = 1 - 2 * stats.t.cdf(z, 39)
    reference = stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=40_000,
        method="BCa",
        rng=0,
    ).confidence_interval
    images = np.repeat(sums / sizes, sizes.astype(int))
    clusters = np.repeat(np.arange(40).astype(str), sizes.astype(int))
    ours = interval(images, clusters, level=level, resamples=40_000)
    np.testing.assert_allclose(ours, reference, atol=0.03 * width(reference))


def test_interval_shrinks_with_n_and_with_the_level():
    widths = [width(interval(values(n))) for n in (10, 100, 1000)]
    assert widths[0] > 2 * widths[1] > 4 * widths[2]
    widths = [width(interval(values(40), level=level)) for level in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths) and len(set(widths)) == 3


def test_interval_is_skewed_where_the_values_are():
    sample = np.r_[np.ones(19), 0.0]
    low, high = interval(sample)
    assert sample.mean() - low > high - sample.mean()


def test_repeating_each_patients_image_changes_nothing():
    """A second, identical image of everyone is no news: only the number of patients counts."""
    sample = values(40)
    twice = np.repeat(sample, 2)
    assert interval(twice, patients(80, 2)) == pytest.approx(interval(sample))
    assert width(interval(twice)) < 0.8 * width(interval(sample))


def test_several_columns_are_the_columns_alone():
    columns = np.stack([values(30, 1), values(30, 2)], axis=-1)
    both = mean_intervals(columns, patients(30))
    np.testing.assert_allclose(both, [interval(columns[:, 0]), interval(columns[:, 1])])


def test_nan_is_left_out():
    sample = values(30)
    sample[::3] = np.nan
    low, high = interval(sample)
    assert low < np.nanmean(sample) < high
    result = summarize({"x": sample}, patients(30))["x"]
    assert result["n"] == 20 and result["mean"] == pytest.approx(np.nanmean(sample))


def test_interval_is_deterministic_in_the_seed():
    sample = values(40)
    assert interval(sample) == interval(sample.copy())
    assert interval(sample, seed=1) != interval(sample, seed=2)


def test_many_patients_are_drawn_in_chunks():
    many = values(9000)
    low, high = interval(many, resamples=600)
    error = many.std() / np.sqrt(9000)
    assert low == pytest.approx(many.mean() - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(many.mean() + 1.96 * error, abs=0.4 * error)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_patients_have_no_interval(count):
    """Whatever the number of their images: it would not cover what it promises."""
    clusters = patients(count * 4, 4)
    assert np.isnan(interval(values(count * 4), clusters)).all()
    assert summarize({"x": values(count * 4)}, clusters)["x"]["ci95"] is None
    assert not np.isnan(interval(values(40), patients(40, 4))).any()


@pytest.mark.parametrize("change", [lambda x: x + 0.1, lambda x: 3 * x, lambda x: 1 - x])
def test_interval_moves_with_the_values(change):
    """Sums in another order differ by rounding, which must not break their ties."""
    sample = np.r_[np.full(49, 0.95), 0.5]
    assert np.sort(change(np.array(interval(sample)))) == pytest.approx(
        interval(change(sample)), abs=1e-9
    )


SKEWED = np.array([0.97, 0.98, 0.96, 0.975, 0.95, 0.985, 0.965, 0.4, 0.97, 0.93])


def test_interval_of_skewed_values_agrees_with_scipy():
    """Where bias, skewness and the level's widening all count: a long tail."""
    sample = np.tile(SKEWED, 4)
    z = stats.norm.ppf(0.025) / np.sqrt(40 / 39)
    level = 1 - 2 * stats.t.cdf(z, 39)
    reference = stats.bootstrap(
        (sample,), np.mean, n_resamples=60_000, method="BCa", rng=0
    ).confidence_interval
    ours = interval(sample, level=level, resamples=60_000)
    np.testing.assert_allclose(ours, reference, atol=0.002)
    wider = interval(sample, level=0.95, resamples=60_000)
    assert wider[0] < ours[0] - 0.001 and wider[1] > ours[1]


def test_interval_of_few_patients_is_halls():
    """Its ends are where the transformed t statistic has the quantiles of t: Hall 1992, (2.4)."""
    sample = np.r_[0.7 + SKEWED / 10, 0.81, 0.82]
    n, mean, deviation = 12, sample.mean(), sample.std(ddof=1)
    skewness = stats.skew(sample)
    assert skewness < -1
    transformed = []
    for end in interval(sample):
        w = (mean - end) / deviation
        g = w + skewness / 3 * w**2 + skewness**2 / 27 * w**3 + skewness / (6 * n)
        transformed.append(np.sqrt(n) * g)
    t = stats.t.ppf(0.975, n - 1)
    if interval(sample)[0] > sample.min():
        assert transformed[0] == pytest.approx(t)
    assert transformed[1] == pytest.approx(-t)
    low, high = interval(sample)
    assert mean - low > 2 * (high - mean)  # the long tail is below


def test_interval_of_few_symmetric_values_is_students():
    sample = np.r_[np.linspace(-1, 1, 20)]
    half = stats.t.ppf(0.975, 19) * sample.std(ddof=1) / np.sqrt(20)
    assert interval(sample) == pytest.approx((-half, half), rel=0.01)
    assert interval(sample + 5) == pytest.approx((5 - half, 5 + half), rel=0.01)


def test_interval_of_few_patients_counts_patients_and_stays_within_them():
    sample = np.r_[np.ones(11), 0.2]
    low, high = interval(sample)
    assert 0.2 <= low < sample.mean() < high <= 1
    twice = interval(np.repeat(sample, 3), patients(36, 3))
    assert twice == pytest.approx((low, high))
    # 1 - x mirrors it, and a factor stretches it.
    assert interval(1 - sample) == pytest.approx((1 - high, 1 - low))
    assert interval(3 * sample) == pytest.approx((3 * low, 3 * high))


def test_equal_values_have_an_interval_of_width_zero():
    assert interval(np.full(12, 0.1)) == pytest.approx((0.1, 0.1))


def test_summary_against_numpy():
    sample = values(37)
    summary = summarize({"x": sample}, patients(37))["x"]
    assert summary["n"] == 37
    assert summary["mean"] == pytest.approx(np.mean(sample))
    assert summary["sd"] == pytest.approx(np.sqrt(((sample - sample.mean()) ** 2).sum() / 36))
    assert summary["median"] == sorted(sample)[18]
    for name, percent in (("q1", 25), ("q3", 75), ("p5", 5), ("p95", 95)):
        assert summary[name] == pytest.approx(np.percentile(sample, percent))
    assert (summary["min"], summary["max"]) == (sample.min(), sample.max())
    assert summary["ci95"] == list(interval(sample))


def test_summary_is_of_plain_numbers():
    """A report is written as JSON, which takes no numpy scalars; lists and float32 come in."""
    for sample in ([0.5, 1.0] * 6, np.float32([0.5, 1.0] * 6)):
        summary = summarize({"x": sample}, patients(12))["x"]
        assert summary["mean"] == 0.75
        assert all(type(value) in (int, float, list) for value in summary.values())


def test_summary_of_no_value_and_of_one():
    none = summarize({"x": np.array([np.nan])}, ["p"])["x"]
    assert none.pop("n") == 0 and set(none.values()) == {None}
    one = summarize({"x": np.array([0.7])}, ["p"])["x"]
    assert (one["n"], one["mean"], one["sd"], one["ci95"]) == (1, 0.7, None, None)


def test_compare_by_hand():
    a = np.array([0.5, 0.6, 0.7, 0.8])
    b = np.array([0.6, 0.7, 0.8, 0.8])
    result = compare(a, b, patients(4))
    assert (result["n"], result["higher"], result["lower"], result["equal"]) == (4, 3, 0, 1)
    assert result["mean_difference"] == pytest.approx(0.075)
    back = compare(b, a, patients(4))
    assert back["mean_difference"] == pytest.approx(-0.075)
    assert back["wilcoxon_p"] == pytest.approx(result["wilcoxon_p"])
    assert result["wilcoxon_p"] == pytest.approx(2 / 2**3)  # three of three, either way round


def test_compare_with_itself():
    result = compare(values(12), values(12), patients(12))
    assert result["wilcoxon_p"] == 1.0 and result["ci95"] == [0.0, 0.0] and result["equal"] == 12


def test_compare_ranks_zeros_by_pratts_rule():
    """Zeros keep their ranks: leaving them out would make three small differences weigh more."""
    a = np.zeros(20)
    b = np.r_[np.zeros(8), np.arange(1, 9) * 0.01, -np.arange(9, 13) * 0.01]
    p = compare(a, b, patients(20))["wilcoxon_p"]
    assert p == pytest.approx(stats.wilcoxon(b, zero_method="pratt").pvalue)
    assert abs(p - stats.wilcoxon(b, zero_method="wilcox").pvalue) > 0.01


def test_compare_counts_patients_and_not_images():
    rng = np.random.default_rng(0)
    a, difference = values(12), rng.normal(0.01, 0.02, 12)
    once = compare(a, a + difference, patients(12))
    b = np.repeat(a + difference, 5)
    repeated = compare(np.repeat(a, 5), b, patients(60, 5))
    assert repeated["wilcoxon_p"] == pytest.approx(once["wilcoxon_p"])
    assert repeated["ci95"] == pytest.approx(once["ci95"])


def dice_like(rng, n):
    """Skewed as segmentation scores are: mean 0.96, most of them above it."""
    return rng.beta(30.0, 1.25, n)


def grouped(rng, n):
    """1 to 3 images a patient, alike within one: as many images as patients demand."""
    sizes = rng.integers(1, 4, n)
    level = rng.beta(30.0, 1.25, n)
    images = np.repeat(level, sizes) + rng.normal(0, 0.005, sizes.sum())
    return images, np.repeat([f"p{i}" for i in range(n)], sizes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "dice", "clustered"])
def test_interval_covers_the_true_mean(kind):
    """93 to 97 % of 500 simulated sets of 50 patients; one rule, for any kind of set."""
    rng = np.random.default_rng(20261123)
    hits = 0
    for _ in range(500):
        if kind == "normal":
            sample, clusters, true = rng.normal(0.96, 0.02, 50), patients(50), 0.96
        elif kind == "dice":
            sample, clusters, true = dice_like(rng, 50), patients(50), 30 / 31.25
        else:
            sample, clusters = grouped(rng, 50)
            true = 30 / 31.25
        low, high = interval(sample, clusters, seed=int(rng.integers(2**31)))
        hits += low <= true <= high
    assert 0.93 <= hits / 500 <= 0.97


@pytest.mark.parametrize(("n", "least"), [(10, 0.87), (20, 0.91), (34, 0.93)])
def test_interval_of_few_patients_covers_more_than_the_bootstrap(n, least, monkeypatch):
    """2000 simulated sets of skewed values; none of both methods covers 95 % of so few."""
    sets_nx2000 = dice_like(np.random.default_rng(4), (n, 2000))

    def coverage():
        low_R, high_R = mean_intervals(sets_nx2000, patients(n), resamples=500).T
        return ((low_R <= 30 / 31.25) & (30 / 31.25 <= high_R)).mean()

    ours = coverage()
    monkeypatch.setattr(statistics, "FEW_PATIENTS", 0)
    assert least < ours < 0.96 and ours > coverage() + 0.005
