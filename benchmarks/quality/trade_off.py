"""Accuracy against speed: a table, and docs/trade_off.svg.

python benchmarks/quality/trade_off.py runs/a=runs/a_eval/metrics.json ... --svg docs/trade_off.svg

Each argument is a workdir and eval.py's metrics.json of one set of images. The speed is the
network's, predicted once, in batches of 8; models take turns, and the median of 5 rounds counts.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from jaxlung import load
from jaxlung.system.start import use_cores

BATCH, ROUNDS = 8, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="WORKDIR=METRICS.JSON")
    parser.add_argument("--svg", type=Path)
    args = parser.parse_args()
    use_cores(BATCH)
    models, scores = [], []
    for run in args.runs:
        workdir, _, metrics = run.partition("=")
        models.append(load(Path(workdir), tta=False))
        (result,) = json.loads(Path(metrics).read_text())["results"]
        scores.append(result["grids"]["original"]["per_image"])
    sides = [model.config.data.size for model in models]
    batches = [np.random.default_rng(0).integers(0, 255, (BATCH, s, s), np.uint8) for s in sides]
    seconds: list[list[float]] = [[] for _ in models]
    for turn in range(ROUNDS + 1):
        for model, batch, taken in zip(models, batches, seconds, strict=True):
            start = time.perf_counter()
            model.predict_canvases(batch)
            if turn:  # the first compiles
                taken.append(time.perf_counter() - start)
    rates = [BATCH / statistics.median(taken) for taken in seconds]
    rows = sorted(zip(models, scores, rates, strict=True), key=lambda row: -row[2])
    print("| stem, width | parameters | images/s | Dice, mean | 95 % CI | SD | worst | HD95, px |")
    print("|---|---|---|---|---|---|---|---|")
    points = []
    for model, score, rate in rows:
        config, dice = model.config.model, score["dice"]
        count = sum(np.size(x) for x in jax.tree.leaves(model.variables)) / 1e6
        name = f"{config.patch}x{config.patch}, {config.width}"
        low, high = dice["ci95"]
        print(
            f"| {name} | {count:.2f} M | {rate:.0f} | {dice['mean']:.4f} | {low:.4f}-{high:.4f} "
            f"| {dice['sd']:.4f} | {dice['min']:.3f} | {score['hd95_px']['mean']:.1f} |"
        )
        points.append((name, rate, dice, score["hd95_px"]["mean"]))
    if args.svg:
        draw(points, args.svg)


def draw(points: list, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, rate, dice, hd95 in points:
        low, high = dice["ci95"]
        spread = [[dice["mean"] - low], [high - dice["mean"]]]
        left.errorbar([rate], [dice["mean"]], spread, fmt="o", color="C0", capsize=2)
        right.plot([rate], [hd95], "o", color="C1")
        for axis, y in ((left, dice["mean"]), (right, hd95)):
            axis.annotate(name, (rate, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    for axis, label in ((left, "Dice, mean and 95 % CI"), (right, "HD95, pixels of 512")):
        axis.set_xscale("log")
        axis.set_xlabel("images/s, 2 cores")
        axis.set_ylabel(label)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
