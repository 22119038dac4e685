"""Summaries of per-image values, as a report needs them."""

from typing import Any

import numpy as np


def bootstrap_mean_interval(
    values_N: np.ndarray, *, level: float = 0.95, resamples: int = 5000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron and Tibshirani 1993, chapter 13).

    Args:
        values_N: one value an image. Images count as independent: with several of a patient the
            interval is too narrow.

    Returns:
        (low, high); both are the value itself where n is 1.
    """
    values_N = np.asarray(values_N, np.float64)
    rng = np.random.default_rng(seed)
    # Row by row: memory stays at n values however many images there are.
    means = [rng.choice(values_N, len(values_N)).mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarize(values_N: np.ndarray) -> dict[str, Any]:
    """n, mean, SD, median, 5th percentile, minimum and the mean's 95 % bootstrap interval.

    The SD is the sample's (n - 1), and 0 for one value. An empty input raises ValueError.
    """
    values_N = np.asarray(values_N, np.float64)
    if not len(values_N):
        raise ValueError("no values to summarise")
    low, high = bootstrap_mean_interval(values_N)
    return {
        "n": len(values_N),
        "mean": float(values_N.mean()),
        "sd": float(values_N.std(ddof=1)) if len(values_N) > 1 else 0.0,
        "median": float(np.median(values_N)),
        "p5": float(np.quantile(values_N, 0.05)),
        "min": float(values_N.min()),
        "ci95": [low, high],
    }
