"""Summaries and comparisons of per-image values, with intervals over patients.

Images of one patient are alike, so intervals resample *patients* (clusters), not images. A NaN is
a value that is not defined for its image, such as millimetres without spacing. It is left out, and
`n` says how many values were counted.

`scipy.stats.bootstrap` is not used: it takes one column at a time, is about 30 times slower (an
estimate), and has no rule for ties that rounding has broken.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 5000
# With fewer patients no interval keeps its promise: docs/metrics.md has the figures.
MIN_PATIENTS = 10
# With fewer patients than this Hall's transformation covers more than the bootstrap does, and yet
# less than 95 % where the values are as skewed as Dice is.
FEW_PATIENTS = 35
FEW_COVERAGE = "84 to 95 %"  # of real Dice, with 10 to 34 patients: docs/metrics.md


def summarize(
    columns: Mapping[str, np.ndarray], patients: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Describes each column of per-image values.

    Args:
        columns: name to float [N]; NaN is left out.
        patients: the patient of each image, [N].

    Returns:
        for each column, in its unit:
        n: how many values are not NaN. If there is none, all others are None.
        mean: over images.
        sd: sample standard deviation over images (n - 1); None for one image.
        ci95: [low, high] of the mean, see `mean_intervals`; None for fewer than MIN_PATIENTS.
        median, q1, q3, p5, p95: quantiles, with linear interpolation.
        min, max.

    Example:
        >>> columns = {"dice": np.array([0.9, 1.0, np.nan])}
        >>> dice = summarize(columns, patients=["a", "b", "b"])["dice"]
        >>> dice["n"], dice["mean"], dice["ci95"]
        (2, 0.95, None)
    """
    if not columns:
        return {}
    values_NxM = np.stack([np.asarray(v, np.float64) for v in columns.values()], axis=-1)
    intervals_Mx2 = mean_intervals(values_NxM, patients)
    return {name: _describe(values_NxM[:, m], intervals_Mx2[m]) for m, name in enumerate(columns)}


def _describe(values_N: np.ndarray, interval_2: np.ndarray) -> dict[str, Any]:
    values_N = values_N[~np.isnan(values_N)]
    if not len(values_N):
        names = ("mean", "sd", "ci95", "median", "q1", "q3", "p5", "p95", "min", "max")
        return {"n": 0, **dict.fromkeys(names)}
    q1, median, q3, p5, p95 = np.quantile(values_N, [0.25, 0.5, 0.75, 0.05, 0.95])
    return {
        "n": len(values_N),
        "mean": float(values_N.mean()),
        "sd": float(values_N.std(ddof=1)) if len(values_N) > 1 else None,
        "ci95": or_none(interval_2),
        "median": float(median),
        "q1": float(q1),
        "q3": float(q3),
        "p5": float(p5),
        "p95": float(p95),
        "min": float(values_N.min()),
        "max": float(values_N.max()),
    }


def or_none(interval_2: np.ndarray) -> list[float] | None:
    """Makes [low, high] of an interval; None if it is NaN.

    Example:
        >>> or_none(np.array([0.25, 0.5])), or_none(np.array([np.nan, np.nan]))
        ([0.25, 0.5], None)
    """
    return None if np.isnan(interval_2).any() else [float(end) for end in interval_2]


def mean_intervals(values_NxM: np.ndarray, patients: Sequence[str], **options: Any) -> np.ndarray:
    """Computes `bootstrap_intervals` of the means of columns; NaN is left out of its column.

    Args:
        values_NxM: float [N, M], M values of each image.
        patients: the patient of each image, [N].
        options: level, resamples and seed of `bootstrap_intervals`.

    Returns:
        float [M, 2], low and high; NaN for a column with fewer than MIN_PATIENTS patients.

    Example:
        >>> values_Nx1 = np.arange(20.0)[:, None]
        >>> [[low, high]] = mean_intervals(values_Nx1, patients=[str(i) for i in range(20)])
        >>> bool(low < values_Nx1.mean() < high)
        True
    """
    intervals_Mx2 = np.full((values_NxM.shape[1], 2), np.nan)
    known_NxM = ~np.isnan(values_NxM)
    # Columns that know the same images share their resamples.
    for known_N in np.unique(known_NxM, axis=1).T:
        if not known_N.any():
            continue
        columns = np.flatnonzero((known_NxM == known_N[:, None]).all(axis=0))
        values_nxm = values_NxM[np.ix_(known_N, columns)]
        intervals_Mx2[columns] = bootstrap_intervals(
            np.column_stack([values_nxm, np.ones(len(values_nxm))]),
            np.asarray(patients)[known_N],
            lambda sums: sums[..., :-1] / sums[..., -1:],
            **options,
        )
    return intervals_Mx2


def bootstrap_intervals(
    terms_NxT: np.ndarray,
    patients: Sequence[str] | np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Computes confidence intervals of functions of sums over images.

    Patients count as wholes, with all their images. The interval is a BCa bootstrap (Efron 1987),
    which corrects the percentile interval for bias and skewness. Its nominal level is widened for
    few patients as Hesterberg (2015, arXiv 1411.5279, section 5) proposes: the plain interval is
    too narrow by about sqrt((C - 1) / C) and by the difference of z and t. With fewer than
    FEW_PATIENTS the interval is that of Hall (1992, "On the removal of skewness by
    transformation", Journal of the Royal Statistical Society B 54), whose ends move further to the
    side of a long tail.

    Args:
        terms_NxT: float [N, T], T terms of each image.
        patients: the patient of each image, [N]; C of them differ.
        statistic: maps sums of the terms, [..., T], to K values, [..., K], such as a mean or a
            pooled metric.
        level: of confidence, in (0, 1).
        resamples: how many bootstrap samples; few patients need none.
        seed: the samples are a function of it, of C and of `resamples` alone.

    Returns:
        float [K, 2], low and high; NaN if there are fewer than MIN_PATIENTS patients. If every
        patient is alike, both are the value itself.

    Example:
        >>> terms_Nx2 = np.column_stack([np.full(12, 3.0), np.full(12, 4.0)])
        >>> patients = [str(i) for i in range(12)]
        >>> bootstrap_intervals(terms_Nx2, patients, lambda sums: sums[..., :1] / sums[..., 1:])
        array([[0.75, 0.75]])
    """
    terms_CxT = _by_patient(terms_NxT, patients)
    total_T = terms_CxT.sum(axis=0)
    value_K = statistic(total_T)
    if len(terms_CxT) < MIN_PATIENTS:
        return np.full((len(value_K), 2), np.nan)
    without_CxK = statistic(total_T - terms_CxT)
    if len(terms_CxT) < FEW_PATIENTS:
        by_patient_CxK = statistic(terms_CxT)
        return np.array(
            [
                _hall(value_K[k], without_CxK[:, k], by_patient_CxK[:, k], level)
                for k in range(len(value_K))
            ]
        )
    samples_RxK = statistic(_resampled_sums(terms_CxT, resamples, seed))
    return np.array(
        [_bca(samples_RxK[:, k], value_K[k], without_CxK[:, k], level) for k in range(len(value_K))]
    )


def _by_patient(terms_NxT: np.ndarray, patients: Sequence[str] | np.ndarray) -> np.ndarray:
    """Sums the terms of each patient's images: float [C, T]."""
    names, index_N = np.unique(np.asarray(patients), return_inverse=True)
    sums_CxT = np.zeros((len(names), terms_NxT.shape[1]))
    np.add.at(sums_CxT, index_N, terms_NxT)
    return sums_CxT


def _resampled_sums(terms_CxT: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums the terms of C patients drawn with replacement, R times: float [R, T]."""
    count = len(terms_CxT)
    rng = np.random.default_rng(seed)
    sums_RxT = np.empty((resamples, terms_CxT.shape[1]))
    chunk = max(1, 4_000_000 // count)  # 32 MB of weights at a time, however many patients
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        weights_rxC = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        sums_RxT[start : start + rows] = weights_rxC.astype(np.float64) @ terms_CxT
    return sums_RxT


def _hall(
    value: float, without_C: np.ndarray, by_patient_C: np.ndarray, level: float
) -> tuple[float, float]:
    """Computes Hall's interval from the value, those without each of C patients, and those of each.

    It takes the skewness out of the t statistic by a monotone cubic, and stays within what single
    patients have.
    """
    count = len(without_C)
    influence_C = (count - 1) * (without_C.mean() - without_C)
    if np.abs(influence_C).max() <= 1e-12 * max(1.0, abs(value)) * count:
        return value, value  # every patient is alike
    deviation = np.sqrt((influence_C**2).sum() / (count - 1))
    skewness = (influence_C**3).mean() / (influence_C**2).mean() ** 1.5
    t = stats.t.ppf((1 + level) / 2, count - 1) / np.sqrt(count) * np.array([1.0, -1.0])
    if abs(skewness) > 1e-6:  # the limit at 0 is t itself
        moved = t - skewness / (6 * count)
        t = 3 / skewness * (np.cbrt(1 + skewness * moved) - 1)
    low, high = value - deviation * t
    return max(low, min(value, *by_patient_C)), min(high, max(value, *by_patient_C))


def _bca(
    samples_R: np.ndarray, value: float, without_C: np.ndarray, level: float
) -> tuple[float, float]:
    """Computes the interval from R samples, the value and the values without each of C patients."""
    count = len(without_C)
    influence_C = without_C.mean() - without_C
    if np.abs(influence_C).max() <= 1e-12 * max(1.0, abs(value)):
        return value, value  # every patient is alike: resampling cannot move it
    acceleration = (influence_C**3).sum() / (6 * (influence_C**2).sum() ** 1.5)
    # Equal sums in another order differ by rounding: they count as ties.
    tie = 1e-9 * np.abs(samples_R - value).max()
    rank = np.mean(samples_R < value - tie) / 2 + np.mean(samples_R <= value + tie) / 2
    # At most R - 1/2 of R samples lie on one side: keeps the bias finite.
    bias = stats.norm.ppf(np.clip(rank, 0.5 / len(samples_R), 1 - 0.5 / len(samples_R)))
    z = np.sqrt(count / (count - 1)) * stats.t.ppf((1 - level) / 2, count - 1)
    shifted = bias + np.array([z, -z])
    # From 1 / acceleration on, the map of BCa turns back on itself: the end is the extreme sample.
    ends = stats.norm.cdf(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-3))
    low, high = np.quantile(samples_R, ends)
    return float(low), float(high)


def compare(a_N: np.ndarray, b_N: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    """Compares two models' values on the same images, in pairs.

    Args:
        a_N: float [N], the first model's value of each image, without NaN.
        b_N: float [N], the second model's, in the same order.
        patients: the patient of each image, [N].

    Returns:
        A dict with these keys:

        - `n`: images.
        - `mean_difference`: of b - a, in the unit of the values.
        - `ci95`: its interval over patients; None for fewer than MIN_PATIENTS.
        - `wilcoxon_p`: two-sided p of the signed-rank test on the patients' mean differences
          (Wilcoxon 1945; zeros by Pratt's rule, 1959); 1 if all are zero.
        - `higher`, `lower`, `equal`: the number of images in which b is so.

    Example:
        >>> result = compare(np.array([0.5, 1.0]), np.array([0.75, 1.0]), patients=["a", "b"])
        >>> result["mean_difference"], result["higher"], result["equal"], result["wilcoxon_p"]
        (0.125, 1, 1, 1.0)
    """
    difference_N = np.asarray(b_N, np.float64) - np.asarray(a_N, np.float64)
    [interval_2] = mean_intervals(difference_N[:, None], patients)
    sums_Cx2 = _by_patient(np.column_stack([difference_N, np.ones(len(difference_N))]), patients)
    by_patient_C = sums_Cx2[:, 0] / sums_Cx2[:, 1]
    p = stats.wilcoxon(by_patient_C, zero_method="pratt").pvalue if by_patient_C.any() else 1.0
    return {
        "n": len(difference_N),
        "mean_difference": float(difference_N.mean()),
        "ci95": or_none(interval_2),
        "wilcoxon_p": float(p),
        "higher": int((difference_N > 0).sum()),
        "lower": int((difference_N < 0).sum()),
        "equal": int((difference_N == 0).sum()),
    }
