"""Loads a trained run, several, or a bundled model as a `Predictor`."""

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxlung.config import Config
from jaxlung.errors import InputError
from jaxlung.predict.canvases import make_canvas_predictor
from jaxlung.predict.predictor import Predictor
from jaxlung.structures import LUNG
from jaxlung.weights import bundled
from jaxlung.workdir.record import Contents

ModelLike = str | os.PathLike[str]


def load(
    model: ModelLike | Sequence[ModelLike] = bundled.DEFAULT, *, tta: bool = True, turn: bool = True
) -> Predictor:
    """Loads a bundled model by its name, or the best model of a run by its workdir.

    MODEL_CARD.md says what the bundled models are for; their weights have terms of their own. Where
    a workdir has a bundled model's name, write "./cxr" or give a `Path`.

    Args:
        model: a name or a workdir; or several models of the same network and preprocessing, an
            ensemble, which predicts the mean of their probabilities.
        tta: test-time augmentation: predict the mean of an image's and its mirror image's
            probabilities, so that a mirrored image gets the mirrored mask. False: predict once, in
            half the time. docs/results.md has the figures of both.
        turn: turn an X-ray that is surely rotated by 90, 180 or 270 degrees upright before the
            prediction, and its mask back. False: only warn of it.

    Returns:
        The model with its preprocessing.

    Raises:
        InputError: there is neither a model nor a run of that name, the run has saved no
            checkpoint yet, files are damaged, or members of an ensemble differ.

    Example:
        >>> load()
        <Predictor: model cxr-open, xray, 256x256>
    """
    models = [model] if isinstance(model, str | os.PathLike) else list(model)
    if not models:
        raise InputError("no model named; name a workdir of `jaxlung train` or a bundled model")
    read = [_read(one) for one in models]
    config = read[0].config
    for name, one in zip(models, read, strict=True):
        if field := _difference(config, one.config):
            raise InputError(f"{name}: differs from {models[0]} in {field}; no ensemble of both")
    members = [variables for one in read for variables in one.variables]
    variables = members[0]
    if len(members) > 1:
        variables = jax.tree.map(lambda *arrays: np.stack(arrays), *members)
    return Predictor(
        workdir=Path(models[0]),
        bundled=all(map(bundled.is_model_name, models)),
        config=config,
        step=read[0].step,
        data=_join_contents([one.data for one in read]),
        variables=variables,
        members=len(members),
        tta=tta,
        turn=turn,
        # The mean of several models has a confidence of its own.
        confidences=read[0].confidences if len(read) == 1 else {},
        predict_canvases=make_canvas_predictor(
            Path(models[0]), config, variables, len(members), tta
        ),
        output=LUNG if LUNG in config.model.outputs else config.model.outputs[0],
    )


def _join_contents(contents: Sequence[Contents]) -> Contents:
    """Joins what several models were trained on: they may know one image by several ids."""
    if len(contents) == 1:
        return contents[0]

    def join(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
        return {f"{i}/{name}": text for i, part in enumerate(parts) for name, text in part.items()}

    names = sorted({split for one in contents for split in one.digests})
    digests = {split: join(one.digests.get(split, {}) for one in contents) for split in names}
    return Contents(digests, join(one.hashes for one in contents))


def _read(model: ModelLike) -> bundled.Model:
    if bundled.is_model_name(model):
        return bundled.read_model(str(model))
    bundled.check_exists(model)
    from jaxlung.predict.runs import read_run  # Orbax takes a quarter of a start

    return read_run(Path(model))


def _difference(config: Config, other: Config) -> str:
    """Returns the first setting that members of an ensemble must share but do not; "" if none."""
    for name in (
        "model",
        "data.size",
        "data.fit",
        "data.window_low",
        "data.window_high",
        "train.threshold",
        "train.postprocess",
        "modality",
    ):
        values = operator.attrgetter(name)
        if values(config) != values(other):
            return name
    return ""
