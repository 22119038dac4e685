"""Checkpoints of a run: the latest two, to resume from, and the best, to predict with.

A checkpoint has three items: `model`, all that prediction needs, `optimizer`, what else training
needs (see `split_state`), and `progress`, as JSON. Orbax writes each checkpoint under a temporary
name and renames it, so a killed run leaves whole checkpoints only.

Those in `checkpoints/` are validated, and one of them is the best. Those in `interim/` were saved
in the course of an epoch or before its validation: they serve to resume alone.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from jaxlung.errors import InputError, TrainingError
from jaxlung.steps import TrainState
from jaxlung.system.silence import quiet_orbax
from jaxlung.workdir import integrity
from jaxlung.workdir.integrity import INTERIM, VALIDATED
from jaxlung.workdir.progress import Progress


class Managers(NamedTuple):
    """A run's two folders of checkpoints."""

    validated: ocp.CheckpointManager
    interim: ocp.CheckpointManager

    def latest(self) -> ocp.CheckpointManager | None:
        """Returns the folder that holds the latest checkpoint; None where there is none."""
        steps = [-1 if m.latest_step() is None else m.latest_step() for m in self]
        return self[steps.index(max(steps))] if max(steps) >= 0 else None

    def wait(self) -> None:
        """Waits until everything is on disk.

        Raises:
            TrainingError: a checkpoint could not be written.
        """
        for manager in self:
            with _write_errors(manager):
                manager.wait_until_finished()


def split_state(state: TrainState) -> tuple[Any, Any]:
    """Splits a state into what predicts and what else training needs.

    An average, where one is kept, is what predicts; the parameters are then of the second part.
    """
    rest = {"step": state.step, "opt_state": state.opt_state}
    if state.average:
        rest["params"] = state.params
    return state.variables, rest


def join_state(model: Any, rest: Any) -> TrainState:
    """Joins what `split_state` returned."""
    averaged = "params" in rest
    return TrainState(
        step=rest["step"],
        params=rest["params"] if averaged else model["params"],
        batch_stats=model["batch_stats"],
        opt_state=rest["opt_state"],
        average=model["params"] if averaged else {},
    )


@contextlib.contextmanager
def open_managers(workdir: Path) -> Iterator[Managers]:
    """Opens both folders to train in the workdir; waits at the end for what is being saved."""
    with quiet_orbax(), contextlib.ExitStack() as stack:
        managers = Managers(open_manager(workdir), open_manager(workdir, folder=INTERIM))
        for manager in managers:
            stack.callback(_close, manager)
        yield managers


def _close(manager: ocp.CheckpointManager) -> None:
    with _write_errors(manager):
        manager.close()


def open_manager(
    workdir: Path, *, folder: str = VALIDATED, read_only: bool = False
) -> ocp.CheckpointManager:
    """Opens a folder that keeps the latest two and the best validated one by the metric "score".

    Raises:
        InputError: a checkpoint's metrics are damaged; all are read.
    """
    path = (workdir / folder).absolute()
    latest = policies.LatestN(2)
    # One that was being deleted when the run was killed may have lost its metrics.
    best = policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
    validated = folder == VALIDATED

    def write_digests() -> None:
        # Orbax calls it once all is written and before the folder gets its name.
        for partial in path.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
            integrity.write_digests(partial)

    options = ocp.CheckpointManagerOptions(
        # The policy decides what is kept; best_fn makes Orbax write the metrics to disk, without
        # which a restarted manager would not know its best.
        preservation_policy=policies.AnyPreservationPolicy([latest, best]) if validated else latest,
        best_fn=_score if validated else None,
        best_mode="max",
        read_only=read_only,
        cleanup_tmp_directories=not read_only,  # what killed runs were writing
        create=not read_only,
        async_options=ocp.AsyncOptions(post_finalization_callback=write_digests),
    )
    try:
        return ocp.CheckpointManager(path, options=options)
    except ValueError as error:  # of JSON
        raise InputError(
            f"{path}: a checkpoint's metrics cannot be read ({_reason(error)}); the command that "
            f"trained it sets damaged checkpoints aside"
        ) from error


def _score(metrics: Any) -> float:
    return metrics["score"]


def save(
    manager: ocp.CheckpointManager,
    state: TrainState,
    progress: Progress,
    score: float | None = None,
) -> None:
    """Saves in the background; `Managers.wait` waits for it.

    Args:
        manager: of the validated or the interim checkpoints.
        state: what training changes.
        progress: how far the run is.
        score: the validation's; None for an interim checkpoint.

    Raises:
        TrainingError: the checkpoint before this one could not be written.
    """
    step = int(state.step)
    if step in manager.all_steps():  # SIGTERM came just after an interim one
        return
    model, rest = split_state(state)
    items = ocp.args.Composite(
        model=ocp.args.StandardSave(model),
        optimizer=ocp.args.StandardSave(rest),
        progress=ocp.args.JsonSave(progress.to_json()),
    )
    with _write_errors(manager):
        manager.save(step, args=items, metrics=None if score is None else {"score": score})


def delete_interim(managers: Managers) -> None:
    """Deletes the interim checkpoints at the end of a run."""
    for step in managers.interim.all_steps():
        managers.interim.delete(step)


@contextlib.contextmanager
def _write_errors(manager: ocp.CheckpointManager) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of many types: Orbax's, TensorStore's, the system's
        raise TrainingError(
            f"{manager.directory}: a checkpoint could not be written ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def restore(
    manager: ocp.CheckpointManager, step: int, abstract: TrainState
) -> tuple[TrainState, Progress]:
    """Restores a whole state onto the shardings of `abstract` (see `abstract_like`).

    Raises:
        InputError: the checkpoint is damaged or of another model.
    """
    model, rest = split_state(abstract)
    items = _restore_items(
        manager,
        step,
        model=ocp.args.StandardRestore(model),
        optimizer=ocp.args.StandardRestore(rest),
        progress=ocp.args.JsonRestore(),
    )
    return join_state(items.model, items.optimizer), Progress.from_json(items.progress)


@contextlib.contextmanager
def name_last_checkpoint(workdir: Path) -> Iterator[None]:
    """Adds the checkpoint to go on from to the error that ends a training in its course."""
    try:
        yield
    except (InputError, TrainingError, OSError) as error:
        saved = integrity.list_checkpoints(workdir)
        whole = next((path for path in saved if not integrity.find_damage(path)), None)
        then = "no checkpoint is whole" if saved else "nothing was saved yet"
        if whole:
            then = f"the last checkpoint is of step {whole.name}"
        what, kind = str(error), type(error)
        if isinstance(error, OSError):
            what, kind = f"{error.filename or workdir}: {error.strerror or error}", TrainingError
        raise kind(f"{what}; {then}") from error


class NotValidated(InputError):
    """A folder holds no best checkpoint, or none yet."""


def restore_best(workdir: Path, abstract_variables: Any) -> tuple[Any, int]:
    """Restores the best checkpoint's variables; returns them and its step.

    Raises:
        NotValidated: the folder holds no best checkpoint.
        InputError: a checkpoint is damaged.
    """
    with _open_best(workdir) as (manager, step):
        folder = workdir / VALIDATED / str(step)
        file = integrity.find_damage(folder, "model")
        if file:
            raise _unreadable(folder, f"{file} is damaged")
        model = ocp.args.StandardRestore(abstract_variables)
        return _restore_items(manager, step, model=model).model, step


def best_step(workdir: Path) -> int:
    """Returns the step of the best checkpoint.

    Raises:
        NotValidated: the folder holds no best checkpoint.
        InputError: a checkpoint's metrics are damaged.
    """
    with _open_best(workdir) as (_, step):
        return step


def find_best_step(workdir: Path) -> int | None:
    """Returns the step of the best checkpoint, or None where there is none yet.

    Raises:
        InputError: a checkpoint's metrics are damaged.
    """
    try:
        return best_step(workdir)
    except NotValidated:
        return None


@contextlib.contextmanager
def _open_best(workdir: Path) -> Iterator[tuple[ocp.CheckpointManager, int]]:
    """Opens the validated checkpoints to read; yields their manager and the best one's step."""
    if not (workdir / VALIDATED).is_dir():
        raise NotValidated(f"{workdir}: holds no {VALIDATED}/; is it a workdir of `jaxlung train`?")
    with quiet_orbax(), open_manager(workdir, read_only=True) as manager:
        step = manager.best_step()
        if step is None:
            raise NotValidated(f"{workdir}: training has not come to its first validation yet")
        yield manager, step


def _restore_items(manager: ocp.CheckpointManager, step: int, **items: Any) -> Any:
    try:
        return manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax and TensorStore raise many types on damaged files
        raise _unreadable(Path(manager.directory) / str(step), _reason(error)) from error


def _unreadable(folder: Path, reason: str) -> InputError:
    return InputError(
        f"{folder}: this checkpoint cannot be read ({reason}); restore it from a copy, or move "
        f"that folder elsewhere to go on from another"
    )


def abstract_like(tree: Any, sharding: Any) -> Any:
    """Returns the shapes, dtypes and places of a tree of arrays or of `jax.eval_shape`.

    Args:
        sharding: one for all, or a tree of them like the first.
    """
    if isinstance(sharding, jax.sharding.Sharding):
        sharding = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, sharding
    )
