"""Measures how well confidence predicts Dice: python benchmarks/quality/confidence.py MODEL DIR

MODEL is a workdir of train.py or a bundled model's name that has not seen the images of DIR, a
folder with images/ and masks/. Prints the correlation of `Prediction.confidence` with Dice on the
original grid, and, for failures below some Dice, how many of them a warning at a stated share of
false alarms would find. --json FILE keeps both of each image.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.quality import model_on_split  # noqa: E402
from jaxlung import metrics  # noqa: E402
from jaxlung.errors import InputError  # noqa: E402
from jaxlung.system import start  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    model_on_split.add_arguments(parser)
    arguments = parser.parse_args()
    start.use_cores()
    model, split = model_on_split.read(arguments)
    examples = [split.read(i) for i in range(len(split.ids))]
    confidence, dice = [], []
    found = model.predict_many([example.image for example in examples])
    for example, (_, prediction) in zip(examples, found, strict=True):
        assert not isinstance(prediction, InputError), prediction
        counts = metrics.count_pixels(prediction.mask[None], example.mask[None])
        confidence.append(prediction.confidence)
        dice.append(float(metrics.dice(counts)[0]))
    report(np.array(confidence), np.array(dice))
    if arguments.json:
        rows = {"ids": list(split.ids), "confidence": confidence, "dice": dice}
        arguments.json.write_text(json.dumps(rows))


def report(confidence: np.ndarray, dice: np.ndarray) -> None:
    print(
        f"n {len(dice)}  Dice {dice.mean():.4f}, confidence {confidence.mean():.4f} in the mean  "
        f"Pearson {stats.pearsonr(confidence, dice)[0]:.3f}  "
        f"Spearman {stats.spearmanr(confidence, dice)[0]:.3f}  "
        f"mean |confidence - Dice| {np.abs(confidence - dice).mean():.4f}"
    )
    for limit in (0.9, 0.95):
        failed = dice < limit
        if not failed.any():
            print(f"none below Dice {limit}")
            continue
        for alarms in (0.05, 0.1):
            threshold = np.quantile(confidence[~failed], alarms)
            recall = (confidence[failed] < threshold).mean()
            print(
                f"below Dice {limit}: {failed.sum()}; of them found at {alarms:.0%} false alarms: "
                f"{recall:.0%} (confidence below {threshold:.4f})"
            )


if __name__ == "__main__":
    main()
