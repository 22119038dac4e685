"""Measures how much Dice corruptions cost: python benchmarks/quality/robustness.py MODEL DIR

MODEL is a workdir of train.py or a bundled model's name; DIR is a folder with images/ and masks/.
For each corruption: Dice's mean over images on their own grid, with its 95 % interval, the worst
image, and by how much the mean is below that of the images as they are. --json FILE keeps all.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.quality import model_on_split  # noqa: E402
from benchmarks.quality.corruptions import CORRUPTIONS  # noqa: E402
from jaxlung import metrics  # noqa: E402
from jaxlung.errors import InputError  # noqa: E402
from jaxlung.io.grey import to_grey8  # noqa: E402
from jaxlung.metrics import statistics  # noqa: E402
from jaxlung.predict.predictor import BATCH  # noqa: E402
from jaxlung.preprocess import Geometry, from_canvas, to_canvas  # noqa: E402
from jaxlung.system.start import use_cores  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    model_on_split.add_arguments(parser)
    parser.add_argument("--only", help="corruptions by name, separated by commas")
    arguments = parser.parse_args()
    use_cores(BATCH)
    model, split = model_on_split.read(arguments)
    chosen = list(CORRUPTIONS)
    if arguments.only:
        chosen = ["none", *(name for name in arguments.only.split(",") if name != "none")]
    if unknown := set(chosen) - set(CORRUPTIONS):
        parser.error(f"--only has {', '.join(unknown)}; choose of {', '.join(CORRUPTIONS)}")
    found: dict[str, list[float]] = {}
    for name in chosen:
        found[name] = dice_of(model, split, name)
        report(name, found)
    if arguments.json:
        arguments.json.write_text(json.dumps({"ids": list(split.ids), "dice": found}))


class Placed(NamedTuple):
    """A corrupted image on its way to the network."""

    mask: np.ndarray
    canvas: np.ndarray
    geometry: Geometry


def dice_of(model, split, name: str) -> list[float]:
    """Scores each image on its own grid, corrupted by one draw that depends on its place alone."""

    def place(index: int) -> Placed:
        example = split.read(index)
        rng = np.random.default_rng([0, index])
        image, mask = CORRUPTIONS[name](to_grey8(example.image), example.mask, rng)
        data = model.config.data
        canvas, _, geometry = to_canvas(image, size=data.size, fit=data.fit)
        return Placed(mask, canvas, geometry)

    def dice(placed: Placed, probability: np.ndarray) -> float:
        prediction = model.to_mask(from_canvas(probability, placed.geometry))
        counts = metrics.count_pixels(prediction[None], placed.mask[None])
        return float(metrics.dice(counts)[0])

    scores = []
    for done in model.stream(range(len(split.ids)), place, dice):
        if isinstance(done.result, InputError):
            raise done.result
        scores.append(done.result)
    return scores


def report(name: str, found: dict[str, list[float]]) -> None:
    dice = np.array(found[name])
    patients = [str(i) for i in range(len(dice))]  # one image each in the sets at hand
    low, high = statistics.mean_intervals(dice[:, None], patients)[0]
    cost = np.mean(np.array(found.get("none", dice)) - dice)
    print(
        f"{name:14s} n {len(dice)}  Dice {dice.mean():.4f} ({low:.4f}-{high:.4f})  "
        f"SD {dice.std(ddof=1):.4f}  worst {dice.min():.3f}  "
        f"below 0.9: {(dice < 0.9).sum()}  cost {cost:+.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
