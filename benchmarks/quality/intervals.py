"""Measures how often intervals of a mean cover it: python benchmarks/quality/intervals.py CSV...

It takes the per_image.csv of evaluations, and treats the Dice of all images of a set as the
population. It draws sets of n images from it, makes each kind of interval at 95 %, and prints the
share of intervals that hold the population's mean, and their median width in units of the
population's SD / sqrt(n), which is 3.92 for normal values.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from jaxlung.metrics import statistics

Interval = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # of [n, R] values: low, high [R]
RESAMPLES = 2000


def t_interval(values_NxR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean_R, half_R = values_NxR.mean(0), _half_width(values_NxR)
    return mean_R - half_R, mean_R + half_R


def t_of_logit(values_NxR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By the delta method, so that it is of the mean of the values and not of their logits."""
    mean_R = values_NxR.mean(0)
    centre_R = np.log(mean_R / (1 - mean_R))
    half_R = _half_width(values_NxR) / (mean_R * (1 - mean_R))
    low_R, high_R = (1 / (1 + np.exp(-(centre_R + sign * half_R))) for sign in (-1, 1))
    return low_R, high_R


def bootstrap_t(values_NxR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(values_NxR)
    drawn = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    weights = np.stack([np.bincount(row, minlength=n) for row in drawn]) / n
    mean_R = values_NxR.mean(0)
    means = weights @ values_NxR
    deviations = np.sqrt(np.maximum(weights @ values_NxR**2 - means**2, 1e-20))
    low_t, high_t = np.quantile((means - mean_R) / deviations, (0.025, 0.975), axis=0)
    deviation_R = values_NxR.std(0)
    return mean_R - high_t * deviation_R, mean_R - low_t * deviation_R


def of_the_package(values_NxR: np.ndarray, few: float) -> tuple[np.ndarray, np.ndarray]:
    """`mean_intervals` with Hall's transformation for fewer patients than `few`."""
    kept, statistics.FEW_PATIENTS = statistics.FEW_PATIENTS, few
    try:
        patients = [str(i) for i in range(len(values_NxR))]
        low_R, high_R = statistics.mean_intervals(values_NxR, patients, resamples=RESAMPLES).T
    finally:
        statistics.FEW_PATIENTS = kept
    return low_R, high_R


def _half_width(values_NxR: np.ndarray) -> np.ndarray:
    n = len(values_NxR)
    return stats.t.ppf(0.975, n - 1) * values_NxR.std(0, ddof=1) / np.sqrt(n)


METHODS: dict[str, Interval] = {
    "t": t_interval,
    "t of the logit": t_of_logit,
    "bootstrap-t": bootstrap_t,
    "BCa, widened": lambda values: of_the_package(values, 0),
    "Hall": lambda values: of_the_package(values, np.inf),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", nargs="+", type=Path)
    parser.add_argument("--sizes", default="5,8,10,15,20,33,50,100")
    parser.add_argument("--sets", default=1000, type=int, help="how many are drawn of each size")
    arguments = parser.parse_args()
    statistics.MIN_PATIENTS = 2
    for path in arguments.csv:
        with path.open() as file:
            rows = list(csv.DictReader(file))
        for name in dict.fromkeys(row["set"] for row in rows):
            dice_N = np.array([float(row["dice_original"]) for row in rows if row["set"] == name])
            print(
                f"{name}: {len(dice_N)} images, mean {dice_N.mean():.4f}, SD {dice_N.std():.4f}, "
                f"skewness {stats.skew(dice_N):.1f}"
            )
            for n in map(int, arguments.sizes.split(",")):
                drawn_NxR = np.random.default_rng(n).choice(dice_N, (n, arguments.sets))
                cells = []
                for label, method in METHODS.items():
                    low_R, high_R = method(drawn_NxR)
                    covered = ((low_R <= dice_N.mean()) & (dice_N.mean() <= high_R)).mean()
                    width = np.median(high_R - low_R) / dice_N.std() * np.sqrt(n)
                    cells.append(f"{label} {covered:.3f} ({width:.1f})")
                print(f"  n={n:<4} " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
