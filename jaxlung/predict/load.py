"""Loads a trained run, several, or a bundled model as a `Predictor`."""

import contextlib
import functools
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlung import steps
from jaxlung.config import Config, ModelConfig, member_configs
from jaxlung.devices.mesh import jit_predict_step, make_mesh, replicated, to_devices
from jaxlung.errors import InputError
from jaxlung.model import build_model
from jaxlung.predict.predictor import Predictor
from jaxlung.structures import LUNG, mirror_order
from jaxlung.system.threads import largest_divisor
from jaxlung.weights import bundled
from jaxlung.workdir.best import NotValidated, restore_best
from jaxlung.workdir.checkpoints import abstract_like
from jaxlung.workdir.record import Contents, read_config, read_contents

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
        predict_canvases=_canvas_predictor(Path(models[0]), config, variables, len(members), tta),
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
    workdir = Path(model)
    config = read_config(workdir)
    if config.is_ensemble:
        return _read_members(config, workdir)
    variables, step = _restore(config, workdir)
    return bundled.Model(config, step, read_contents(workdir), [variables])


def _read_members(config: Config, workdir: Path) -> bundled.Model:
    """Reads the members that have a best, in the workdir of a `train_ensemble`."""
    variables_M, steps_M = [], []
    for i, member in enumerate(member_configs(config)):
        with contextlib.suppress(NotValidated):
            variables, step = _restore(member, workdir / "members" / str(i))
            variables_M.append(variables)
            steps_M.append(step)
    if not steps_M:
        raise InputError(f"{workdir}: none of its members has come to its first validation yet")
    return bundled.Model(config, steps_M[0], read_contents(workdir), variables_M)


def _restore(config: Config, workdir: Path) -> tuple[Any, int]:
    """Restores the best variables of a single run onto the first device; and their step."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = _trace_variables(config.model, config.data.size)
    return restore_best(workdir, abstract_like(abstract, device))


@functools.lru_cache(maxsize=32)
def _trace_variables(model: ModelConfig, size: int) -> Any:
    """Returns the shapes of a network's variables. Members and runs of a recipe share them."""
    example = jax.ShapeDtypeStruct((1, size, size, 1), np.float32)
    abstract = jax.eval_shape(build_model(model).init, jax.random.key(0), example)
    return {"params": abstract["params"], "batch_stats": abstract.get("batch_stats", {})}


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


def _canvas_predictor(
    workdir: Path, config: Config, variables: Any, members: int, tta: bool
) -> Callable[[np.ndarray], np.ndarray]:
    devices, compiled = jax.local_devices(), _jit_predict(config.model, tta, members > 1)

    @functools.cache
    def on_devices(count: int) -> tuple[Any, jax.sharding.Mesh]:
        """Returns the variables on the first `count` devices; each count keeps its own copy."""
        mesh = make_mesh(count, devices[:count])
        return jax.device_put(variables, replicated(mesh)), mesh

    def predict_canvases(canvas_BxSxS: np.ndarray) -> np.ndarray:
        placed, mesh = on_devices(largest_divisor(len(canvas_BxSxS), len(devices)))
        batch = to_devices({"image": canvas_BxSxS}, mesh)
        probability_BxSxSxC = np.asarray(compiled(placed, batch["image"]))
        if not np.isfinite(probability_BxSxSxC).all():  # it would pass for a mask without lung
            raise InputError(f"{workdir}: the model's output is not finite; retrain it")
        return probability_BxSxSxC

    return predict_canvases


@functools.lru_cache(maxsize=32)
def _jit_predict(model: ModelConfig, tta: bool, several: bool) -> Callable[..., Any]:
    """Jits the prediction by one or several members.

    Models of one network share it, and its programs: each compiles once, however many are loaded.
    """
    step = functools.partial(
        steps.predict_step,
        model=build_model(model),
        tta=tta,
        mirror=mirror_order(model.outputs),
    )
    return jit_predict_step(steps.mean_of_members(step) if several else step)
