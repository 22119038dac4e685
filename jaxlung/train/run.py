"""How a run begins: what is checked before anything is written, and where its first state is from.

The state is its own checkpoint's, another run's, a bundled model's, or a random draw.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxlung.config import Config
from jaxlung.devices import distributed
from jaxlung.errors import InputError
from jaxlung.steps import TrainState
from jaxlung.system.digests import digest_splits
from jaxlung.train.compiled import CompiledSteps
from jaxlung.weights import bundled
from jaxlung.workdir import checkpoints, record
from jaxlung.workdir.best import best_step, restore_best
from jaxlung.workdir.integrity import list_checkpoints
from jaxlung.workdir.progress import Progress


def check_run(config: Config, workdir: Path) -> None:
    """Refuses what can be refused before the data are read; writes nothing.

    Raises:
        InputError: the workdir is another run's, or another process is in it, or train.init_from
            is bad, or its checkpoints serve to predict alone.
    """
    check_workdir(config, workdir)
    saved = list_checkpoints(workdir)
    if not saved:  # a resumed run has no more need of its source
        check_source(config)
    elif not any((checkpoint / "optimizer").exists() for checkpoint in saved):
        raise InputError(
            f"{workdir}: holds a model to predict with, and not what training needs to go on "
            f"(optimizer/ in its checkpoints); use a new --workdir, and train.init_from={workdir}"
        )


def check_workdir(config: Config, workdir: Path) -> None:
    """`check_run` without train.init_from."""
    distributed.check_same("config", json.dumps(config.to_dict()))
    if workdir.is_dir():
        with record.lock_workdir(workdir):
            pass
    record.check_config(workdir, config)


@contextlib.contextmanager
def open_run(
    config: Config, workdir: Path, contents: record.Contents, warnings: Sequence[str] = ()
) -> Iterator[None]:
    """Takes the workdir for this run alone, and writes its record; the data have been checked.

    Raises:
        InputError: the workdir is another run's, or its data have changed, or other hosts do not
            see what process 0 has written there.
    """
    distributed.check_same("data", digest_splits(contents.digests))
    workdir.mkdir(parents=True, exist_ok=True)
    with record.lock_workdir(workdir):
        if distributed.is_main():
            record.check_config(workdir, config)  # again: another may have begun meanwhile
            record.write_record(workdir, config, contents, warnings)
        distributed.check_shared(workdir / "run.json")
        yield


def check_source(config: Config) -> None:
    """Refuses a train.init_from that is no model of this network; writes nothing.

    Raises:
        InputError: naming the field, and what is wrong with the run.
    """
    name = config.train.init_from
    if not name:
        return
    path = Path(name)
    try:
        if bundled.is_model_name(name):
            source = bundled.read_model(name).config
        else:
            source = record.read_config(path)
            if not source.is_ensemble:
                best_step(path)
    except InputError as error:
        raise InputError(f"train.init_from: {error}") from error
    if source.is_ensemble:
        raise InputError(f"train.init_from={path}: is of several members; name {path}/members/0")
    # Neither changes the parameters.
    model = dataclasses.replace(
        source.model, dropout=config.model.dropout, dtype=config.model.dtype
    )
    differing = record.list_differences(dataclasses.replace(config, model=model), config)
    if differing:
        raise InputError(f"train.init_from={path}: its network is another ({'; '.join(differing)})")


def _read_source(name: str, abstract_variables: Any) -> Any:
    """Returns the variables of a bundled model or of a run's best checkpoint, where they belong."""
    if not bundled.is_model_name(name):
        return restore_best(Path(name), abstract_variables)[0]
    [variables] = bundled.read_model(name).variables  # `check_source` refuses several
    return jax.tree.map(
        lambda array, like: jax.make_array_from_callback(
            array.shape, like.sharding, array.__getitem__
        ),
        variables,
        abstract_variables,
    )


def restore_or_init(
    managers: checkpoints.Managers, compiled: CompiledSteps, key: jax.Array, config: Config
) -> tuple[TrainState, Progress]:
    """Returns the run's latest state, or a new run's first one.

    That is `compiled.init(key)`, with the parameters of train.init_from where that is set.

    Raises:
        InputError: a checkpoint is damaged, or of another model.
    """
    latest = managers.latest()
    step = None if latest is None else latest.latest_step()
    known = "none" if latest is None else f"{latest.directory}, step {step}"
    distributed.check_same("the last checkpoint", known)  # a host may be late to see it
    if latest is not None and step is not None:
        return checkpoints.restore(latest, step, compiled.abstract)
    state = compiled.init(key)
    if config.train.init_from:
        variables = _read_source(config.train.init_from, compiled.abstract.variables)
        params = variables["params"]
        # Buffers of its own: the step is given both to write to.
        average = jax.tree.map(jnp.copy, params) if state.average else {}
        state = dataclasses.replace(
            state, params=params, average=average, batch_stats=variables["batch_stats"]
        )
    return state, Progress()
