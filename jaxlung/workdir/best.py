"""Reads the best checkpoint of a run, also while the run goes on and deletes what was the best."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orbax.checkpoint as ocp

from jaxlung.errors import InputError
from jaxlung.system.silence import quiet_orbax
from jaxlung.workdir import integrity
from jaxlung.workdir.checkpoints import open_manager, reason_of, restore_items, unreadable
from jaxlung.workdir.integrity import VALIDATED

T = TypeVar("T")
_PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds before a best checkpoint that is gone is looked for again


class NotValidated(InputError):
    """A folder holds no best checkpoint, or none yet."""


def restore_best(workdir: Path, abstract_variables: Any) -> tuple[Any, int]:
    """Restores the best checkpoint's variables; returns them and its step.

    Raises:
        NotValidated: the folder holds no best checkpoint.
        InputError: a checkpoint is damaged.
    """

    def read(manager: ocp.CheckpointManager, step: int) -> tuple[Any, int]:
        folder = workdir / VALIDATED / str(step)
        file = integrity.find_damage(folder, "model")
        if file and (folder / file).exists():
            raise unreadable(folder, f"{file} is damaged")
        if file:
            raise _Gone(str(unreadable(folder, f"{file} is damaged")))
        model = ocp.args.StandardRestore(abstract_variables)
        try:
            return restore_items(manager, step, model=model).model, step
        except InputError as error:  # though its digests were right a moment ago
            raise _Gone(str(error)) from error

    return _read_best(workdir, read)


def best_step(workdir: Path) -> int:
    """Returns the step of the best checkpoint.

    Raises:
        NotValidated: the folder holds no best checkpoint.
        InputError: a checkpoint's metrics are damaged.
    """
    return _read_best(workdir, lambda _, step: step)


def find_best_step(workdir: Path) -> int | None:
    """Returns the step of the best checkpoint, or None where there is none yet.

    Raises:
        InputError: a checkpoint's metrics are damaged.
    """
    try:
        return best_step(workdir)
    except NotValidated:
        return None


class _Gone(InputError):
    """A file of a checkpoint is not there: a training may be deleting it just now."""


def _read_best(workdir: Path, read: Callable[[ocp.CheckpointManager, int], T]) -> T:
    """Returns read(manager, step) of the best checkpoint.

    A training that goes on deletes the best one once there is a better one. A reader that comes
    between finds the better one a moment later.
    """
    for pause in _PAUSES:
        try:
            return _read_best_once(workdir, read)
        except (_Gone, FileNotFoundError):
            time.sleep(pause)
    try:
        return _read_best_once(workdir, read)
    except FileNotFoundError as error:
        raise unreadable(workdir / VALIDATED, reason_of(error)) from error


def _read_best_once(workdir: Path, read: Callable[[ocp.CheckpointManager, int], T]) -> T:
    if not (workdir / VALIDATED).is_dir():
        raise NotValidated(f"{workdir}: holds no {VALIDATED}/; is it a workdir of `jaxlung train`?")
    with quiet_orbax(), open_manager(workdir, read_only=True) as manager:
        step = manager.best_step()
        if step is None:
            raise NotValidated(f"{workdir}: training has not come to its first validation yet")
        return read(manager, step)
