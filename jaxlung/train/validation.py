"""The scores and the picture at an epoch's end."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlung import metrics
from jaxlung.config import Config
from jaxlung.data.input_pipeline import Canvases, batches, eval_indices
from jaxlung.devices.distributed import is_main
from jaxlung.devices.mesh import local_rows, to_devices
from jaxlung.io import drawing
from jaxlung.io.images import write_png
from jaxlung.model import to_mask
from jaxlung.train.sigterm import Stop

_SHOWN = 8  # images of validation.png


def validate(
    variables: Any,
    eval_step: Callable[..., Any],
    canvases: Canvases,
    config: Config,
    mesh: jax.sharding.Mesh,
    stop: Stop,
) -> dict[str, float] | None:
    """Scores of a split at the network's size.

    Returns:
        loss, dice, iou and accuracy, each the mean over images, and pooled_dice, of all pixels;
        None where the run was asked to stop meanwhile.
    """
    # As many at once as in training, whose memory the settings were chosen for.
    batch_size = config.train.batch_size // config.train.accumulate
    rows = local_rows(mesh, batch_size)  # of several processes not all
    indices = (batch[rows] for batch in eval_indices(len(canvases.split.ids), batch_size))
    results = []
    for batch in batches(canvases, indices, loader=canvases.loader(config.data.loader)):
        placed = to_devices(batch, mesh, batch_size)
        results.append(jax.device_get(eval_step(variables, placed)))
        if stop.asked:
            return None
    return mean_scores(*per_image(results))


def per_image(results: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, metrics.Counts]:
    """Loss [N] and counts of [N] of a split, of `steps.eval_step`'s results on its batches."""
    valid = np.concatenate([result["valid"] for result in results])
    loss = np.concatenate([result["loss"] for result in results])[valid]
    parts = zip(*(result["counts"] for result in results), strict=True)
    counts = metrics.Counts(*(np.concatenate(part)[valid] for part in parts))
    return loss, counts


def mean_scores(loss: np.ndarray, counts: metrics.Counts) -> dict[str, float]:
    """What `validate` returns, of `per_image`."""
    return {
        "loss": float(loss.mean()),
        "dice": float(metrics.dice(counts).mean()),
        "iou": float(metrics.iou(counts).mean()),
        "accuracy": float(metrics.accuracy(counts).mean()),
        "pooled_dice": float(metrics.dice(metrics.pool(counts))[0]),
    }


def limit_output(predict_step: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The step for `write_overlays`: of a batch for many devices it gives the first few back."""

    def step(variables: Any, image_BxSxS: jax.Array) -> jax.Array:
        return predict_step(variables, image_BxSxS)[:_SHOWN]

    return step


def write_overlays(
    workdir: Path,
    variables: Mapping[str, Any],
    predict_step: Callable[..., Any],
    canvases: Canvases,
    config: Config,
    mesh: jax.sharding.Mesh,
) -> None:
    """The workdir's validation.png: up to 8 validation images with truth and prediction."""
    count = min(_SHOWN, len(canvases.split.ids))
    images, truths = zip(*(canvases.read(i) for i in range(count)), strict=True)
    at_once = mesh.shape["data"]  # an image a device, or a group of them: no more than in training
    rows = local_rows(mesh, at_once)
    probabilities: list[np.ndarray] = []
    for start in range(0, count, at_once):
        own = [images[min(start + row, count - 1)] for row in rows]  # the last one over: one shape
        placed = to_devices({"image": np.stack(own)}, mesh, at_once)
        probabilities += list(np.asarray(predict_step(variables, placed["image"])))
    predictions = to_mask(np.stack(probabilities[:count]), config.train.threshold)
    pictures, captions = [], []
    for i in range(count):
        truth = truths[i] > 0
        pictures.append(drawing.draw_overlay(images[i], predictions[i], truth))
        counts = metrics.count_pixels(predictions[i : i + 1], truth[None])
        captions.append(f"{canvases.split.ids[i]} Dice {metrics.dice(counts)[0]:.3f}")
    if is_main():
        write_png(workdir / "validation.png", drawing.draw_sheet(pictures, captions))
