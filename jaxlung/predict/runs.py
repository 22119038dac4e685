"""Reads the best model of a run from its workdir; of an ensemble, that of each member."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlung.config import Config, ModelConfig, member_configs
from jaxlung.errors import InputError
from jaxlung.model import build_model
from jaxlung.weights import bundled
from jaxlung.workdir.best import NotValidated, restore_best
from jaxlung.workdir.checkpoints import abstract_like
from jaxlung.workdir.record import read_config, read_contents


def read_run(workdir: Path) -> bundled.Model:
    """Reads the best model of a workdir. Raises InputError, as `load` does."""
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
    abstract = jax.eval_shape(build_model(model, drawn=False).init, jax.random.key(0), example)
    return {"params": abstract["params"], "batch_stats": abstract.get("batch_stats", {})}
