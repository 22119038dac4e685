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
from jaxlung.workdir.checkpoints import abstract_like
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
        source = _source_config(name)
        if not bundled.is_model_name(name) and not source.is_ensemble:
            best_step(path)
    except InputError as error:
        raise InputError(f"train.init_from: {error}") from error
    if source.is_ensemble:
        raise InputError(f"train.init_from={path}: is of several members; name {path}/members/0")
    own = config.model
    # Dropout and dtype change no parameter, and `carry_channels` takes care of the outputs.
    model = dataclasses.replace(
        source.model, dropout=own.dropout, dtype=own.dtype, outputs=own.outputs
    )
    differing = record.list_differences(dataclasses.replace(config, model=model), config)
    if differing:
        raise InputError(f"train.init_from={path}: its network is another ({'; '.join(differing)})")


def _source_config(name: str) -> Config:
    if bundled.is_model_name(name):
        return bundled.read_model(name).config
    bundled.check_exists(name)
    return record.read_config(Path(name))


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


def _read_other_source(config: Config, fresh_variables: Any) -> Any:
    """Returns the variables of train.init_from, whose network has other outputs.

    Outputs of the same name keep their channel. The others stay random, as in `fresh_variables`.
    """
    source, own = _source_config(config.train.init_from).model.outputs, config.model.outputs
    abstract = abstract_like(fresh_variables, jax.tree.map(lambda x: x.sharding, fresh_variables))
    head = fresh_variables["params"]["head"]

    def of_source(array: jax.Array) -> jax.ShapeDtypeStruct:
        # Whole on each device: another number of channels may not divide.
        placed: Any = array.sharding
        whole = jax.sharding.NamedSharding(placed.mesh, jax.sharding.PartitionSpec())
        shape = (*array.shape[:-1], array.shape[-1] // len(own) * len(source))
        return jax.ShapeDtypeStruct(shape, array.dtype, sharding=whole)

    abstract["params"]["head"] = jax.tree.map(of_source, head)
    variables = _read_source(config.train.init_from, abstract)
    variables["params"]["head"] = jax.tree.map(
        lambda old, new: carry_channels(old, new, source, own), variables["params"]["head"], head
    )
    return variables


def carry_channels(
    old: jax.Array, new: jax.Array, old_outputs: Sequence[str], new_outputs: Sequence[str]
) -> jax.Array:
    """Returns the new head's array with the channels of outputs that the old one has too.

    Args:
        old: [..., K * outputs]: the channels of the outputs are next to each other.
        new: likewise, with its own number of outputs.
    """
    old_by_output = old.reshape(*old.shape[:-1], -1, len(old_outputs))
    new_by_output = new.reshape(*new.shape[:-1], -1, len(new_outputs))
    for i, output in enumerate(new_outputs):
        if output in old_outputs:
            kept = old_by_output[..., old_outputs.index(output)]
            new_by_output = new_by_output.at[..., i].set(kept)
    return jax.device_put(new_by_output.reshape(new.shape), new.sharding)


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
        if _source_config(config.train.init_from).model.outputs == config.model.outputs:
            variables = _read_source(config.train.init_from, compiled.abstract.variables)
        else:
            variables = _read_other_source(config, state.variables)
        params = variables["params"]
        # Buffers of its own: the step is given both to write to.
        average = jax.tree.map(jnp.copy, params) if state.average else {}
        state = dataclasses.replace(
            state, params=params, average=average, batch_stats=variables["batch_stats"]
        )
    return state, Progress()
