"""A model on its way into a file, and what the file says about it."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.predict.canvases import make_canvas_predictor
from jaxlung.predict.predictor import Predictor
from jaxlung.structures import PIECES
from jaxlung.system.digests import digest_weights
from jaxlung.version import __version__

CANVAS = "canvas"  # the input's name


class Exported(NamedTuple):
    """A model to write."""

    model: Predictor  # what the file has to compute: float32, with kernels as they are kept
    licence: str  # SPDX identifier of its weights' terms; "" for a run of the user's own
    float16: bool  # kernels are kept as float16
    about: dict[str, Any]  # what a user has to know beside the arrays; values of JSON


def prepare_export(
    model: Predictor, *, licence: str = "", float16: bool = False, name: str = ""
) -> Exported:
    """Prepares a model for a file.

    Args:
        licence: of its weights, as in `Exported`.
        float16: round its kernels.
        name: of the model or ensemble; "": that of the model.

    Raises:
        InputError: a weight is too large for float16, or an output has the input's name.
    """
    if CANVAS in model.config.model.outputs:
        raise InputError(f"{model.workdir}: has an output {CANVAS!r}, as the file's input is named")
    about = _describe(model, name or model.workdir.name, licence, float16)
    return Exported(_in_float32(model, float16), licence, float16, about)


def _in_float32(model: Predictor, float16: bool) -> Predictor:
    """Returns the model with float32 arithmetic, and kernels rounded to float16 if asked for."""
    if not float16 and model.config.model.dtype == "float32":
        return model
    network = dataclasses.replace(model.config.model, dtype="float32")
    config = dataclasses.replace(model.config, model=network)
    variables = model.variables
    if float16:
        import jax

        variables = jax.tree.map_with_path(_round, jax.device_get(variables))
        if not all(np.isfinite(array).all() for array in jax.tree.leaves(variables)):
            raise InputError(
                f"{model.workdir}: has weights too large for float16; leave out --float16"
            )
    return dataclasses.replace(
        model,
        config=config,
        variables=variables,
        predict_canvases=make_canvas_predictor(
            model.workdir, config, variables, model.members, model.tta
        ),
    )


def is_kernel(name: str) -> bool:
    """Says whether an array is a kernel: these are nearly all weights, and alone become float16."""
    return name.endswith("kernel")


def count_channels(model: Predictor) -> int:
    """Returns the channels of a canvas: slices of a scan, or one."""
    params = model.variables["params"]
    first = params["stem"] if "stem" in params else params["encoder0_conv0"]
    return int(np.shape(first["kernel"])[-2])


def _round(path: Any, array: np.ndarray) -> np.ndarray:
    if not is_kernel(path[-1].key):
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def _describe(model: Predictor, name: str, licence: str, float16: bool) -> dict[str, Any]:
    config = model.config
    outputs = config.model.outputs
    about: dict[str, Any] = {
        "jaxlung": __version__,
        "model": name,
        "license": licence,
        # Of the weights before any rounding, as in the summary of `jaxlung predict`.
        "weights_sha256": digest_weights(model.variables),
        "float16": float16,
        "members": model.members,
        "tta": model.tta,
        "modality": config.modality,
        "size": config.data.size,
        "fit": config.data.fit,
        "outputs": list(outputs),
        "threshold": config.train.threshold,
        "postprocess": config.train.postprocess,
    }
    if config.keeps_lungs:
        about["pieces"] = {name: PIECES[name] for name in outputs if name in PIECES}
    if config.modality == "ct":
        about["window"] = [config.data.window_low, config.data.window_high]
    # That of CT is a line for whole scans, and the file sees slices.
    known = {} if config.modality == "ct" else model.confidences
    about["confidence"] = {name: one._asdict() for name, one in known.items()}
    about["notice"] = "Research software, not a medical device."
    return about
