"""From a trained run to masks on the original grid."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlung import bundled, steps
from jaxlung.checkpoints import abstract_like, restore_best
from jaxlung.config import Config
from jaxlung.ct import window
from jaxlung.errors import InputError
from jaxlung.film import check_xray
from jaxlung.images import read_film
from jaxlung.model import build_model, to_mask
from jaxlung.postprocess import keep_lungs
from jaxlung.preprocess import from_canvas, to_canvas
from jaxlung.sharding import (
    jit_predict_step,
    make_mesh,
    replicated,
    to_devices,
)
from jaxlung.threads import most_that_divide
from jaxlung.workdir import Digests, read_config, read_digests

ImageLike = np.ndarray | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A trained model with the preprocessing it was trained with. Make one with `load`."""

    workdir: Path  # of a bundled model: its name
    bundled: bool  # it came with the package
    config: Config
    step: int  # updates behind its parameters
    data_digests: Digests  # what it was trained on: see `workdir.read_digests`
    variables: Any  # what `UNet.apply` takes
    tta: bool  # predictions are the mean with those of the mirror image
    predict_canvases: Callable[[np.ndarray], np.ndarray]
    """Lung probabilities float32 [B, S, S] of canvases uint8 [B, S, S]; one compile for each B."""

    def predict_proba(self, image: ImageLike) -> np.ndarray:
        """Lung probability of each pixel.

        Args:
            image: a path, or an array [H, W], [H, W, 1] or [H, W, 3 or 4]. uint8 is taken as it
                is; other dtypes are scaled from their own minimum and maximum. For a model of CT
                an axial slice [H, W], uint8 in the model's window or else Hounsfield units;
                `ct_predict.predict_volume` reads files.

        Returns:
            float32 [H, W] in [0, 1], on the image's own grid.

        Raises:
            InputError: no image, a damaged one, DICOM that is no X-ray, a path for a model of
                CT, or an array of another shape.
        """
        is_ct = self.config.modality == "ct"
        if isinstance(image, str | os.PathLike):
            if is_ct:
                raise InputError(
                    f"{image}: the model was trained on CT volumes; give it to "
                    f"jaxlung.ct_predict.predict_volume, or a slice in Hounsfield units to predict"
                )
            film = read_film(image)
            check_xray(film.modality, image)
            pixels = film.image
        else:
            pixels = np.asarray(image)
            if is_ct and pixels.dtype != np.uint8:
                if not np.isfinite(pixels).all():
                    raise InputError("the slice holds NaN or infinite values; replace them first")
                pixels = window(pixels, self.config.data.window_low, self.config.data.window_high)
        canvas_SxS, _, geometry = to_canvas(
            pixels, size=self.config.data.size, fit=self.config.data.fit
        )
        return from_canvas(self.predict_canvases(canvas_SxS[None])[0], geometry)

    def predict(self, image: ImageLike) -> np.ndarray:
        """The lungs' mask: bool [H, W], True is lung, on the image's own grid.

        Args and raises as `predict_proba`.
        """
        return self.to_mask(self.predict_proba(image))

    def to_mask(self, probability_HxW: np.ndarray) -> np.ndarray:
        """Probabilities, on any grid, to the mask that `predict` gives: bool [H, W].

        The threshold is the config's `train.threshold`; of X-rays with `train.postprocess` what
        is above it becomes at most two pieces without holes (`postprocess.keep_lungs`).
        """
        mask_HxW = to_mask(probability_HxW, self.config.train.threshold)
        return keep_lungs(mask_HxW) if self.config.keeps_lungs else mask_HxW


def load(model: str | os.PathLike[str] = "cxr", *, tta: bool = False) -> Predictor:
    """A bundled model by its name, or the best model of a run of train.py by its workdir.

    "cxr" finds the lungs in frontal chest X-rays: see MODEL_CARD.md. A workdir of a bundled model's
    name is meant by "./cxr" or by a `Path`.

    Args:
        model: a name or a workdir.
        tta: predict with test-time augmentation: the mean of an image's and of its mirror image's
            prediction, in twice the time. What it gains is in docs/results.md.

    Example:
        >>> model = jaxlung.load("cxr")
        >>> mask = model.predict("image.png")

    Raises:
        InputError: there is neither a model nor a run of that name, or it has saved no checkpoint
            yet, or its files are damaged.
    """
    if bundled.is_name(model):
        return _predictor(Path(model), True, *bundled.read(str(model)), tta)
    workdir = Path(model)
    if not workdir.exists():
        listed = ", ".join(bundled.names())
        raise InputError(f"{workdir}: no such workdir, nor a bundled model (there are: {listed})")
    config = read_config(workdir)
    example = jax.ShapeDtypeStruct((1, config.data.size, config.data.size, 1), np.float32)
    abstract = jax.eval_shape(build_model(config.model).init, jax.random.key(0), example)
    abstract = {"params": abstract["params"], "batch_stats": abstract.get("batch_stats", {})}
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    variables, step = restore_best(workdir, abstract_like(abstract, device))
    return _predictor(workdir, False, config, step, read_digests(workdir), variables, tta)


def _predictor(
    workdir: Path,
    is_bundled: bool,
    config: Config,
    step: int,
    data_digests: Digests,
    variables: Any,
    tta: bool,
) -> Predictor:
    model, devices = build_model(config.model), jax.local_devices()
    compiled = jit_predict_step(functools.partial(steps.predict_step, model=model, tta=tta))

    @functools.cache
    def on_devices(count: int) -> tuple[Any, jax.sharding.Mesh]:
        """The variables on the first devices: one copy for each number of them."""
        mesh = make_mesh(count, devices[:count])
        return jax.device_put(variables, replicated(mesh)), mesh

    def predict_canvases(canvas_BxSxS: np.ndarray) -> np.ndarray:
        placed, mesh = on_devices(most_that_divide(len(canvas_BxSxS), len(devices)))
        batch = to_devices({"image": canvas_BxSxS}, mesh)
        probability_BxSxS = np.asarray(compiled(placed, batch["image"]))
        if not np.isfinite(probability_BxSxS).all():  # it would pass for a mask without lung
            raise InputError(f"{workdir}: the model's output is not finite; retrain it")
        return probability_BxSxS

    return Predictor(
        workdir, is_bundled, config, step, data_digests, variables, tta, predict_canvases
    )


def weights_sha256(variables: Any) -> str:
    """SHA-256 over every array's name, shape, dtype and bytes: names a model's weights."""
    whole = hashlib.sha256()
    for path, array in jax.tree.leaves_with_path(variables):
        array = np.asarray(array)
        whole.update(f"{jax.tree_util.keystr(path)}\0{array.shape}\0{array.dtype}\0".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
