"""The scores and the picture at an epoch's end."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlung import metrics
from jaxlung.config import Config
from jaxlung.data.ct_folder import volume_name
from jaxlung.data.input_pipeline import Canvases, batches, eval_indices
from jaxlung.devices.distributed import is_main
from jaxlung.devices.mesh import local_rows, to_devices
from jaxlung.io import drawing
from jaxlung.io.images import write_png
from jaxlung.masks.postprocess import keep_lungs
from jaxlung.model import to_mask
from jaxlung.preprocess import is_lung
from jaxlung.train.sigterm import Stop

SHOWN = 8  # images of validation.png


# The mean that chooses the epoch. A slice without lung has a Dice of 1, or of 0 where one pixel is
# stray: slices are no unit of CT.
CHOOSING = {"xray": "dice", "ct": "volume_dice"}


class Scores(NamedTuple):
    """Each image's scores at the network's size."""

    loss: np.ndarray  # float32 [N]
    counts: metrics.Counts  # of [N]
    volumes: tuple[str, ...] | None = None  # the scan that each slice is of; None: X-rays

    def means(self) -> dict[str, float]:
        """Returns the means over images (slices), and pooled_dice, of all pixels.

        For CT also volume_dice, the mean over volumes of the Dice of all their voxels.
        """
        means = {
            "loss": float(self.loss.mean()),
            "dice": float(metrics.dice(self.counts).mean()),
            "iou": float(metrics.iou(self.counts).mean()),
            "accuracy": float(metrics.accuracy(self.counts).mean()),
            "pooled_dice": float(metrics.dice(metrics.pool(self.counts))[0]),
        }
        if self.volumes:
            by_volume, _ = metrics.pool_groups(self.counts, self.volumes)
            means["volume_dice"] = float(metrics.dice(by_volume).mean())
        return means


def validate(
    variables: Any,
    eval_step: Callable[..., Any],
    canvases: Canvases,
    config: Config,
    mesh: jax.sharding.Mesh,
    stop: Stop,
) -> Scores | None:
    """Scores the images of a split; returns None where SIGTERM came meanwhile.

    The masks are those of an evaluation at the network's size: cleaned up where predictions are.
    """
    # As many at once as in training, whose memory the settings were chosen for.
    batch_size = config.train.batch_size // config.train.accumulate
    rows = local_rows(mesh, batch_size)  # with several processes a part of them
    indices = (batch[rows] for batch in eval_indices(len(canvases.split.ids), batch_size))
    results = []
    for batch in batches(canvases, indices, loader=canvases.loader(config.data.loader)):
        placed = to_devices(batch, mesh, batch_size)
        result = jax.device_get(eval_step(variables, placed))
        if config.keeps_lungs:  # every process has all masks of the batch
            cleaned = np.stack([keep_lungs(mask) for mask in result.pop("prediction")])
            result["counts"] = metrics.count_pixels(cleaned, result.pop("truth"))
        results.append(result)
        if stop.asked:
            return None
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *results)
    loss, counts = jax.tree.map(lambda x: x[whole["valid"]], (whole["loss"], whole["counts"]))
    is_ct = config.modality == "ct"
    volumes = tuple(map(volume_name, canvases.split.ids)) if is_ct else None
    return Scores(loss, counts, volumes)


def write_overlays(
    workdir: Path,
    variables: Mapping[str, Any],
    predict_step: Callable[..., Any],
    canvases: Canvases,
    config: Config,
    mesh: jax.sharding.Mesh,
) -> None:
    """Writes validation.png: up to 8 validation images with truth and prediction."""
    count = min(SHOWN, len(canvases.split.ids))
    images, truths = zip(*(canvases.read(i) for i in range(count)), strict=True)
    at_once = mesh.shape["data"]  # an image a device, or a group of devices
    rows = local_rows(mesh, at_once)
    probabilities: list[np.ndarray] = []
    for start in range(0, count, at_once):
        # The last image fills up the last batch: one shape, one program.
        batch = np.stack([images[min(start + row, count - 1)] for row in rows])
        placed = to_devices({"image": batch}, mesh, at_once)
        probabilities += list(np.asarray(predict_step(variables, placed["image"])))
    predictions = to_mask(np.stack(probabilities[:count]), config.train.threshold)
    if config.keeps_lungs:
        predictions = np.stack([keep_lungs(mask) for mask in predictions])
    pictures, captions = [], []
    for i in range(count):
        truth = is_lung(truths[i])
        pictures.append(drawing.draw_overlay(images[i], predictions[i], truth))
        counts = metrics.count_pixels(predictions[i : i + 1], truth[None])
        captions.append(f"{canvases.split.ids[i]} Dice {metrics.dice(counts)[0]:.3f}")
    if is_main():
        write_png(workdir / "validation.png", drawing.draw_sheet(pictures, captions))
