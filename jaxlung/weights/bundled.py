"""Reads the models that come with the package: `jaxlung.load()`, with nothing to download.

A model is two files in jaxlung/weights/. NAME.npz holds its arrays as float16 under the paths of
their tree. NAME.json holds its config, its licence, the digests of its training data, the SHA-256
of NAME.npz and, where it is known, the calibration of each output's confidence. Nothing is
unpickled.
`python -m tools.bundle_model WORKDIR NAME` makes one of a run of `jaxlung train`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict

from jaxlung.config import Config, parse_config
from jaxlung.errors import InputError
from jaxlung.metrics.calibration import Confidence
from jaxlung.workdir.record import Contents

WEIGHTS = Path(__file__).parent
DEFAULT = "cxr-open"  # the model where none is named
CT = "ct"  # the model of CT
SCHEMA = "jaxlung-model-2"  # changes when a field changes its meaning or goes


class Model(NamedTuple):
    """A model as its files hold it."""

    config: Config
    step: int  # updates behind the parameters
    data: Contents  # of its training
    variables: list[Any]  # what `UNet.apply` takes, for each member; a single model has one
    confidences: Mapping[str, Confidence] = {}  # of the outputs where it is known
    license: str = ""  # SPDX identifier of its weights' terms; "" for a run of the user's own


def list_models() -> list[str]:
    """Returns the names of the bundled models."""
    return sorted(path.stem for path in WEIGHTS.glob("*.json"))


def is_model_name(model: str | os.PathLike[str]) -> bool:
    """Tells whether this is a bundled model's name; a `Path`, and "./cxr", are workdirs."""
    return isinstance(model, str) and model in list_models()


def check_exists(model: str | os.PathLike[str]) -> None:
    """Refuses what is neither a bundled model's name nor there as a workdir.

    Raises:
        InputError: it names the bundled models.
    """
    if not is_model_name(model) and not Path(model).exists():
        listed = ", ".join(list_models())
        raise InputError(f"{model}: no such workdir, nor a bundled model (there are: {listed})")


def read_model(name: str) -> Model:
    """Reads a bundled model.

    Raises:
        InputError: there is no model of that name, or its files are damaged.
    """
    about_path, arrays_path = WEIGHTS / f"{name}.json", WEIGHTS / f"{name}.npz"
    if name not in list_models():
        raise InputError(f"{name!r} is no bundled model; there are: {', '.join(list_models())}")
    try:
        about = json.loads(about_path.read_text(encoding="utf-8"))
        if about["schema"] != SCHEMA:
            raise ValueError(f"its schema is {about['schema']!r}, not {SCHEMA!r}")
        data = arrays_path.read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise ValueError(f"the SHA-256 of {arrays_path.name} differs")
        with np.load(arrays_path, allow_pickle=False) as arrays:
            flat = {path: arrays[path].astype(np.float32) for path in arrays.files}
            variables = unflatten_dict(flat, sep="/")
        variables = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
        config, contents = parse_config(about["config"]), Contents(about["data_digests"])
        confidences = {name: Confidence(**one) for name, one in about["confidences"].items()}
        return Model(config, about["step"], contents, [variables], confidences, about["license"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{about_path}: is damaged ({error}); install jaxlung anew") from error
