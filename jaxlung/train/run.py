"""How a run begins: what is checked before anything is written, and where its first state is from.

The state is its own checkpoint's, another run's, or a random draw.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxlung.config import Config
from jaxlung.devices import distributed
from jaxlung.devices.mesh import state_sharding
from jaxlung.errors import InputError
from jaxlung.steps import TrainState
from jaxlung.system.digests import digest_splits
from jaxlung.workdir import checkpoints
from jaxlung.workdir.integrity import list_checkpoints
from jaxlung.workdir.progress import Progress
from jaxlung.workdir.record import (
    Digests,
    check_config,
    list_differences,
    lock_workdir,
    read_config,
    write_record,
)

Data = TypeVar("Data")


@contextlib.contextmanager
def open_run(
    config: Config, workdir: Path, prepare: Callable[[Config], tuple[Data, Digests]]
) -> Iterator[Data]:
    """The workdir, for this run alone, and its data, once both are known to be good.

    Args:
        prepare: reads and checks the data; returns them and their digests.

    Yields:
        the data. What goes wrong from then on is told with the last checkpoint.

    Raises:
        InputError: the workdir is another run's, or the data or train.init_from are bad; nothing
            has been written. Or other hosts do not see what process 0 has written there.
    """
    distributed.check_same("config", json.dumps(config.to_dict()))
    if workdir.is_dir():  # another run's is told of before any work
        with lock_workdir(workdir):
            pass
    check_config(workdir, config)
    kept = list_checkpoints(workdir)
    if not kept:  # a resumed run has no more need of its source
        check_source(config)
    elif not (workdir / "run.json").exists() and not (kept[0] / "optimizer").exists():
        raise InputError(
            f"{workdir}: holds a model to predict with, as an ensemble's members/ do, and not what "
            f"training needs to go on; use a new --workdir, and train.init_from={workdir}"
        )
    data, digests = prepare(config)
    distributed.check_same("data", digest_splits(digests))
    workdir.mkdir(parents=True, exist_ok=True)
    with lock_workdir(workdir):
        if distributed.is_main():
            check_config(workdir, config)  # again: another may have begun meanwhile
            write_record(workdir, config, digests)
        distributed.check_shared(workdir / "run.json")
        with checkpoints.name_last_checkpoint(workdir):
            yield data


def check_source(config: Config) -> None:
    """Refuses a train.init_from that is no run of this network; writes nothing.

    Raises:
        InputError: naming the field, and what is wrong with the run.
    """
    if not config.train.init_from:
        return
    path = Path(config.train.init_from)
    try:
        source = read_config(path)
        checkpoints.best_step(path)
    except InputError as error:
        raise InputError(f"train.init_from: {error}") from error
    if source.is_ensemble:
        raise InputError(f"train.init_from={path}: is of several members; name {path}/members/0")
    # Neither changes the parameters.
    model = dataclasses.replace(
        source.model, dropout=config.model.dropout, dtype=config.model.dtype
    )
    differing = list_differences(dataclasses.replace(config, model=model), config)
    if differing:
        raise InputError(f"train.init_from={path}: its network is another ({'; '.join(differing)})")


def restore_or_init(
    managers: checkpoints.Managers,
    init: Callable[[jax.Array], TrainState],
    key: jax.Array,
    config: Config,
    mesh: jax.sharding.Mesh,
) -> tuple[TrainState, Progress]:
    """The run's latest state; of a new one `init(key)`, or that with train.init_from's parameters.

    Raises:
        InputError: a checkpoint is damaged, or of another model.
    """
    shapes = jax.eval_shape(init, key)
    placed = state_sharding(shapes, mesh, fsdp=config.mesh.fsdp)
    abstract = checkpoints.abstract_like(shapes, placed)
    latest = managers.latest()
    known = "none" if latest is None else f"{latest.directory}, step {latest.latest_step()}"
    distributed.check_same("the last checkpoint", known)  # a host may be late to see it
    if latest is not None:
        step = latest.latest_step()
        assert step is not None
        return checkpoints.restore(latest, step, abstract)
    state = init(key)
    if config.train.init_from:
        variables, _ = checkpoints.restore_best(Path(config.train.init_from), abstract.variables)
        params = variables["params"]
        # Buffers of its own: the step is given both to write to.
        average = jax.tree.map(jnp.copy, params) if state.average else {}
        state = dataclasses.replace(
            state, params=params, average=average, batch_stats=variables["batch_stats"]
        )
    return state, Progress()
