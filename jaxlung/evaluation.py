"""Scores of a trained model on a split: per image, summarised, and with pictures.

Each image is scored twice: at the network's size, where training happens, and on its own grid,
where masks are used. No image is dropped.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung import metrics
from jaxlung.config import DataConfig
from jaxlung.datasets import load_splits, whole_folder
from jaxlung.errors import InputError
from jaxlung.figures import overlay, sheet
from jaxlung.images import write_png
from jaxlung.input_pipeline import eval_indices
from jaxlung.metrics import Counts
from jaxlung.model import to_mask
from jaxlung.predict import Predictor, load
from jaxlung.preprocess import Geometry, from_canvas, to_canvas
from jaxlung.splits import SPLITS, Example, Split
from jaxlung.statistics import summarize
from jaxlung.workdir import environment, write_json

METRICS = {"dice": metrics.dice, "iou": metrics.iou, "accuracy": metrics.accuracy}
GRIDS = ("network", "original")


class Scores(NamedTuple):
    """Pixel counts of every image, [N], on both grids."""

    ids: tuple[str, ...]
    network: Counts
    original: Counts


def choose_split(
    config: DataConfig, data: str | None, split: str | None
) -> tuple[str, Split, str | None]:
    """What to evaluate on.

    Args:
        config: the run's own data.
        data: a folder with images/ and masks/, or None for the run's own data.
        split: "train", "validation", "test", or "all" (a folder's every pair); None means "test"
            of the run's own data and "all" of another folder.

    Returns:
        a name for the outputs, the split, and a warning or None.
    """
    if split not in (None, "all", *SPLITS):
        raise InputError(f"--split must be all, {', '.join(SPLITS)}, got {split!r}")
    own = data is None or (
        config.name == "folder" and Path(data).resolve() == Path(config.dir).resolve()
    )
    if data is None and split == "all":
        raise InputError("--split all needs --data FOLDER: the run's own data were trained on")
    if data is not None and split in (None, "all"):
        warning = "these data hold the images that the model was trained on" if own else None
        return f"{Path(data).resolve().name}_all", whole_folder(Path(data)), warning
    name = split or "test"
    if data is None:
        label = "phantom" if config.name == "phantom" else Path(config.dir).resolve().name
        chosen = load_splits(config)[name]
    elif own:
        label, chosen = Path(data).resolve().name, load_splits(config)[name]
    else:
        raise InputError(f"--split {name} is of the run's own data; leave it out with --data")
    warning = None if name == "test" else f"the {name} split was used in training"
    return f"{label}_{name}", chosen, warning


def score_split(predictor: Predictor, split: Split) -> Scores:
    """Predicts every image of a split and counts pixels on both grids."""
    network: list[Counts] = []
    original: list[Counts] = []
    for examples, masks, geometries, probability_BxSxS in _predictions(predictor, split):
        threshold = predictor.config.train.threshold
        network.append(metrics.count_pixels(to_mask(probability_BxSxS, threshold), masks > 0))
        for example, plane_SxS, geometry in zip(
            examples, probability_BxSxS, geometries, strict=True
        ):
            prediction_HxW = to_mask(from_canvas(plane_SxS, geometry), threshold)
            original.append(metrics.count_pixels(prediction_HxW[None], example.mask[None]))
    return Scores(split.ids, _join(network), _join(original))


def _predictions(
    predictor: Predictor, split: Split
) -> Iterator[tuple[list[Example], np.ndarray, list[Geometry], np.ndarray]]:
    """Batches of examples, canvas masks, geometries and probabilities; no padding."""
    data, batch_size = predictor.config.data, predictor.config.train.batch_size
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for indices in eval_indices(len(split.ids), batch_size):
            indices = indices[indices >= 0]
            examples = list(pool.map(lambda i: split.read(int(i)), indices))
            placed = [
                to_canvas(example.image, example.mask, size=data.size, fit=data.fit)
                for example in examples
            ]
            canvases, masks, geometries = (list(part) for part in zip(*placed, strict=True))
            padded_BxSxS = np.zeros((batch_size, data.size, data.size), np.uint8)
            padded_BxSxS[: len(indices)] = canvases
            probability_BxSxS = predictor.predict_canvases(padded_BxSxS)[: len(indices)]
            yield examples, np.stack(masks), geometries, probability_BxSxS


def _join(parts: Sequence[Counts]) -> Counts:
    return Counts(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def summary(scores: Scores) -> dict[str, Any]:
    """For each grid and metric: the per-image summary, and the pooled value beside it."""
    return {
        grid: {
            name: {
                "per_image": summarize(metric(getattr(scores, grid))),
                "pooled": float(metric(metrics.pool(getattr(scores, grid)))[0]),
            }
            for name, metric in METRICS.items()
        }
        for grid in GRIDS
    }


def table(result: dict[str, Any], size: int) -> str:
    """The summary as text."""
    grids = {"network": f"network {size}x{size}", "original": "original grid"}
    lines = [
        f"{'':26}{'n':>5} {'mean':>7} {'SD':>7} {'95 % CI of mean':>18} {'median':>8} "
        f"{'5th pct':>8} {'min':>7} {'pooled':>8}"
    ]
    for grid in GRIDS:
        for name in METRICS:
            row, pooled = result[grid][name]["per_image"], result[grid][name]["pooled"]
            low, high = row["ci95"]
            lines.append(
                f"{grids[grid]:16}{name:>10}{row['n']:>5} {row['mean']:7.4f} {row['sd']:7.4f} "
                f"{f'[{low:.4f}, {high:.4f}]':>18} {row['median']:8.4f} {row['p5']:8.4f} "
                f"{row['min']:7.4f} {pooled:8.4f}"
            )
    return "\n".join(lines)


def evaluate(
    workdir: str | Path,
    *,
    data: str | None = None,
    split: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluates a run's best checkpoint; writes metrics.json, per_image.csv and overlays.png.

    Args:
        workdir: of train.py.
        data, split: see `choose_split`.
        out: where to write; None is WORKDIR/eval/NAME_SPLIT.

    Returns:
        what metrics.json holds.
    """
    predictor = load(workdir)
    name, chosen, warning = choose_split(predictor.config.data, data, split)
    out = Path(out) if out else Path(workdir) / "eval" / name
    out.mkdir(parents=True, exist_ok=True)  # before the scoring, which takes long
    scores = score_split(predictor, chosen)
    result = {
        "model": {"workdir": str(workdir), "step": predictor.step},
        "data": {
            "name": name,
            "dir": data or predictor.config.data.dir,
            "n": len(scores.ids),
            "warning": warning,
        },
        "threshold": predictor.config.train.threshold,
        "network_size": predictor.config.data.size,
        **summary(scores),
        "environment": environment(),
    }
    write_json(out / "metrics.json", result)
    _write_per_image(out / "per_image.csv", scores)
    _write_overlays(out / "overlays.png", predictor, chosen, scores)
    print(f"{name}, model of step {predictor.step}, threshold {result['threshold']}")
    if warning:
        print(f"note: {warning}")
    print(table(result, predictor.config.data.size))
    print(f"written: {out}/metrics.json, per_image.csv, overlays.png (worst and median cases)")
    return result


def _write_per_image(path: Path, scores: Scores) -> None:
    columns: dict[str, Sequence[Any]] = {"id": scores.ids}
    for grid in GRIDS:
        counts = getattr(scores, grid)
        columns |= {f"{name}_{grid}": metric(counts) for name, metric in METRICS.items()}
        columns |= {f"truth_pixels_{grid}": counts.tp + counts.fn}
        columns |= {f"predicted_pixels_{grid}": counts.tp + counts.fp}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([f"{v:.6f}" if isinstance(v, float) else v for v in row])


def _write_overlays(path: Path, predictor: Predictor, split: Split, scores: Scores) -> None:
    """The four worst and the four median images by Dice on their own grid."""
    dice_N = metrics.dice(scores.original)
    order = np.argsort(dice_N, kind="stable")
    middle = max(0, len(order) // 2 - 2)
    pictures, captions = [], []
    for kind, chosen in (("worst", order[:4]), ("median", order[middle : middle + 4])):
        for index in chosen:
            example = split.read(int(index))
            prediction_HxW = predictor.predict(example.image)
            pictures.append(overlay(example.image, prediction_HxW, example.mask))
            captions.append(f"{kind}: {split.ids[index]} Dice {dice_N[index]:.3f}")
    write_png(path, sheet(pictures, captions))
