"""Networks of random weights with every option, as `Predictor`s: nothing is trained for them."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from jaxlung.config import Config
from jaxlung.config.settings import DataConfig, ModelConfig
from jaxlung.model import build_model
from jaxlung.predict.canvases import make_canvas_predictor
from jaxlung.predict.predictor import Predictor
from jaxlung.workdir.record import Contents


def random_canvases(size=32, count=4):
    """Noise, which shows each pixel's place."""
    return np.random.default_rng(1).integers(0, 256, (count, size, size)).astype(np.uint8)


def random_model(*, size=32, members=1, tta=False, data="phantom", **network):
    """A narrow model of two outputs; every array differs from what initialisers give."""
    random = np.random.default_rng(0)
    fields = {"outputs": ("lung", "heart"), "width": 4, "depth": 2, **network}
    config = dataclasses.replace(
        Config(),
        data=dataclasses.replace(DataConfig(), size=size, name=data),
        model=ModelConfig(**fields),
    )
    example = jax.ShapeDtypeStruct((1, size, size, 1), np.float32)
    abstract = jax.eval_shape(build_model(config.model).init, jax.random.key(0), example)
    abstract = {"params": abstract["params"], "batch_stats": abstract.get("batch_stats", {})}

    def fill(path, leaf):
        stacked = (members, *leaf.shape) if members > 1 else leaf.shape
        array = random.normal(size=stacked).astype(np.float32)
        kind = path[-1].key
        if kind == "kernel":
            return array * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
        if kind == "var":
            return np.abs(array) + np.float32(0.5)
        return np.float32(kind == "scale") + np.float32(0.3) * array

    variables = jax.tree.map_with_path(fill, abstract)
    workdir = Path("net")
    return Predictor(
        workdir=workdir,
        bundled=False,
        config=config,
        step=1,
        data=Contents({}),
        variables=variables,
        members=members,
        tta=tta,
        confidences={},
        turn=True,
        predict_canvases=make_canvas_predictor(workdir, config, variables, members, tta),
        output=config.model.outputs[0],
    )
