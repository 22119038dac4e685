"""The scores and the picture at an epoch's end."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlung import metrics
from jaxlung.config import Config
from jaxlung.data.canvases import Canvases
from jaxlung.data.ct_folder import volume_name
from jaxlung.data.input_pipeline import batches, eval_indices
from jaxlung.devices.distributed import is_main
from jaxlung.devices.mesh import local_rows, to_devices
from jaxlung.io.images import write_png
from jaxlung.io.viewers import drawing
from jaxlung.masks.postprocess import clean_up
from jaxlung.model import to_mask
from jaxlung.preprocess import is_lung
from jaxlung.train.sigterm import Stop

SHOWN = 8  # images of validation.png


# The score that chooses the epoch. A slice without lung has a Dice of 1, or of 0 where one pixel is
# stray: slices are no unit of CT.
CHOOSING = {"xray": "dice", "ct": "volume_dice"}


class Scores(NamedTuple):
    """Each image's scores at the network's size."""

    loss: np.ndarray  # float32 [N]
    counts: metrics.Counts  # of [N, C]
    labelled: np.ndarray  # bool [N, C]
    outputs: tuple[str, ...]  # C structures
    volumes: tuple[str, ...] | None = None  # the scan that each slice is of; None: X-rays

    def means(self) -> dict[str, float]:
        """Returns the means over images (slices), and pooled_dice, of all pixels.

        For CT also volume_dice, the mean over volumes of the Dice of all their voxels. An image
        counts for the outputs that it labels. With several outputs each score is the mean of the
        outputs' own, so that a large set does not outweigh a small one; each output's Dice is there
        too, as dice_NAME. An output that no image labels has none.
        """
        of_each = {
            name: self._means_of(i)
            for i, name in enumerate(self.outputs)
            if self.labelled[:, i].any()
        }
        names = next(iter(of_each.values()))
        means = {name: float(np.mean([one[name] for one in of_each.values()])) for name in names}
        if len(self.outputs) > 1:
            means |= {f"dice_{output}": one["dice"] for output, one in of_each.items()}
        return {"loss": float(self.loss.mean()), **means}

    def of_output(self, output: int) -> tuple[np.ndarray, metrics.Counts]:
        """Returns the images that label an output, int [L], and their counts of it, [L]."""
        chosen_L = np.flatnonzero(self.labelled[:, output])
        return chosen_L, metrics.Counts(*(count[chosen_L, output] for count in self.counts))

    def _means_of(self, output: int) -> dict[str, float]:
        chosen, counts = self.of_output(output)
        means = {
            "dice": float(metrics.dice(counts).mean()),
            "iou": float(metrics.iou(counts).mean()),
            "accuracy": float(metrics.accuracy(counts).mean()),
            "pooled_dice": float(metrics.dice(metrics.pool(counts))[0]),
        }
        if self.volumes:
            by_volume, _ = metrics.pool_groups(counts, [self.volumes[i] for i in chosen])
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
            cleaned = clean_up_outputs(result.pop("prediction"), config.model.outputs)
            result["counts"] = metrics.count_pixels_of_each(cleaned, result.pop("truth"))
        results.append(result)
        if stop.asked:
            return None
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *results)
    valid_N = whole.pop("valid")
    kept = jax.tree.map(lambda array: array[valid_N], whole)
    is_ct = config.modality == "ct"
    volumes = tuple(map(volume_name, canvases.split.ids)) if is_ct else None
    return Scores(kept["loss"], kept["counts"], kept["labelled"], config.model.outputs, volumes)


def clean_up_outputs(masks_BxSxSxC: np.ndarray, outputs: Sequence[str]) -> np.ndarray:
    """Cleans up each mask as `predict` does: bool [B, S, S, C]."""
    cleaned = [
        np.stack([clean_up(mask_SxSxC[..., i], name) for i, name in enumerate(outputs)], axis=-1)
        for mask_SxSxC in masks_BxSxSxC
    ]
    return np.stack(cleaned)


def write_overlays(
    workdir: Path,
    variables: Mapping[str, Any],
    predict_step: Callable[..., Any],
    canvases: Canvases,
    config: Config,
    mesh: jax.sharding.Mesh,
) -> None:
    """Writes validation.png: up to 8 validation images with truth and prediction.

    With several outputs an image shows the first one that it labels.
    """
    count = min(SHOWN, len(canvases.split.ids))
    examples = [canvases.read(i) for i in range(count)]
    at_once = mesh.shape["data"]  # an image a device, or a group of devices
    rows = local_rows(mesh, at_once)
    probabilities: list[np.ndarray] = []
    for start in range(0, count, at_once):
        # The last image fills up the last batch: one shape, one program.
        batch = np.stack([examples[min(start + row, count - 1)].image_SxS for row in rows])
        placed = to_devices({"image": batch}, mesh, at_once)
        probabilities += list(np.asarray(predict_step(variables, placed["image"])))
    masks_NxSxSxC = to_mask(np.stack(probabilities[:count]), config.train.threshold)
    if config.keeps_lungs:
        masks_NxSxSxC = clean_up_outputs(masks_NxSxSxC, config.model.outputs)
    pictures, captions = [], []
    for i, (image_SxS, mask_SxSxC, labelled_C) in enumerate(examples):
        shown = int(labelled_C.argmax())
        truth_SxS, prediction_SxS = is_lung(mask_SxSxC[..., shown]), masks_NxSxSxC[i, ..., shown]
        pictures.append(drawing.draw_overlay(image_SxS, prediction_SxS, truth_SxS))
        dice = metrics.dice(metrics.count_pixels(prediction_SxS[None], truth_SxS[None]))[0]
        name = f"{config.model.outputs[shown]}, " if len(config.model.outputs) > 1 else ""
        captions.append(f"{canvases.split.ids[i]} {name}Dice {dice:.3f}")
    if is_main():
        write_png(workdir / "validation.png", drawing.draw_sheet(pictures, captions))
