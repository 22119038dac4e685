"""Checkpoints of a run: the latest two, to resume from, and the best, to predict with.

Items: `model` (all that prediction needs: params, or their average where one is kept, and
batch_stats), `optimizer` (step, opt_state and, beside an average, the params themselves) and
`progress` (JSON; `early_stop` in runs of earlier versions). Orbax writes each checkpoint under a
temporary name and renames it, so a killed run leaves whole checkpoints only.

Those in `checkpoints/` are validated, and one of them is the best. Those in `interim/` were saved
in the course of an epoch or before its validation: a run resumes from them, and that is all.
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
from jaxlung.workdir.progress import EarlyStop, Progress


class Parts(NamedTuple):
    """The items of a checkpoint."""

    model: Any
    optimizer: Any = None  # and progress: None in one to predict with alone
    progress: Any = None  # as JSON has it


class Managers(NamedTuple):
    """Of a run's two folders of checkpoints."""

    validated: ocp.CheckpointManager
    interim: ocp.CheckpointManager

    def latest(self) -> ocp.CheckpointManager | None:
        """That of the latest checkpoint; None where there is none."""
        steps = [-1 if m.latest_step() is None else m.latest_step() for m in self]
        return self[steps.index(max(steps))] if max(steps) >= 0 else None

    def wait(self) -> None:
        """Until everything is on disk.

        Raises:
            TrainingError: a checkpoint could not be written.
        """
        for manager in self:
            with _write_errors(manager):
                manager.wait_until_finished()


@contextlib.contextmanager
def open_managers(workdir: Path) -> Iterator[Managers]:
    """To train in the workdir; what is being saved is waited for at the end."""
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
    """Keeps the latest two and, of those that are validated, the best by the metric "score".

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
        score: the validation's; None for an interim checkpoint.

    Raises:
        TrainingError: the checkpoint before this one could not be written.
    """
    parts = Parts(state.variables, _beside_model(state), progress.to_json())
    save_parts(manager, int(state.step), parts, score)


def save_parts(
    manager: ocp.CheckpointManager, step: int, parts: Parts, score: float | None = None
) -> None:
    """`save`, of an ensemble too."""
    if step in manager.all_steps():  # asked to stop just after an interim one
        return
    items: dict[str, Any] = {"model": ocp.args.StandardSave(parts.model)}
    if parts.optimizer is not None:
        items["optimizer"] = ocp.args.StandardSave(parts.optimizer)
        items["progress"] = ocp.args.JsonSave(parts.progress)
    metrics = None if score is None else {"score": score}
    with _write_errors(manager):
        manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)


def restore_parts(manager: ocp.CheckpointManager, step: int, model: Any, optimizer: Any) -> Parts:
    """What `save_parts` was given, onto the shardings of these abstract trees."""
    items = _restore_items(
        manager,
        step,
        model=ocp.args.StandardRestore(model),
        optimizer=ocp.args.StandardRestore(optimizer),
        progress=ocp.args.JsonRestore(),
    )
    return Parts(items.model, items.optimizer, items.progress)


def delete_interim(managers: Managers) -> None:
    """At the end of a run nothing goes on from them."""
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


def _beside_model(state: TrainState) -> dict[str, Any]:
    """What training needs beside `state.variables`."""
    kept = {"step": state.step, "opt_state": state.opt_state}
    return {**kept, "params": state.params} if state.average else kept


def restore(
    manager: ocp.CheckpointManager, step: int, abstract: TrainState
) -> tuple[TrainState, Progress]:
    """Restores a whole state onto the shardings of `abstract` (from `jax.eval_shape`).

    Raises:
        InputError: the checkpoint is damaged or of another model.
    """
    earlier_version = (Path(manager.directory) / str(step) / "early_stop").is_dir()
    name = "early_stop" if earlier_version else "progress"
    items = _restore_items(
        manager,
        step,
        model=ocp.args.StandardRestore(abstract.variables),
        optimizer=ocp.args.StandardRestore(_beside_model(abstract)),
        **{name: ocp.args.JsonRestore()},
    )
    averaged = bool(abstract.average)
    state = TrainState(
        step=items.optimizer["step"],
        params=items.optimizer["params"] if averaged else items.model["params"],
        batch_stats=items.model["batch_stats"],
        opt_state=items.optimizer["opt_state"],
        average=items.model["params"] if averaged else {},
    )
    if earlier_version:
        return state, Progress(EarlyStop(**items.early_stop))
    return state, Progress.from_json(items.progress)


@contextlib.contextmanager
def name_last_checkpoint(workdir: Path) -> Iterator[None]:
    """What ends a training in its course is told with the checkpoint to go on from."""
    try:
        yield
    except (InputError, TrainingError, OSError) as error:
        kept = integrity.list_checkpoints(workdir)
        whole = next((path for path in kept if not integrity.find_damage(path)), None)
        then = "no checkpoint is whole" if kept else "nothing was saved yet"
        if whole:
            then = f"the last checkpoint is of step {whole.name}"
        what, kind = str(error), type(error)
        if isinstance(error, OSError):
            what, kind = f"{error.filename or workdir}: {error.strerror or error}", TrainingError
        raise kind(f"{what}; {then}") from error


def restore_best(workdir: Path, abstract_variables: Any) -> tuple[Any, int]:
    """The best checkpoint's variables and its step.

    Raises:
        InputError: the folder holds no checkpoint, or a damaged one.
    """
    with _opened_to_read(workdir) as manager:
        step = _best_step(workdir, manager)
        folder = workdir / VALIDATED / str(step)
        file = integrity.find_damage(folder, "model")
        if file:
            raise _unreadable(folder, f"{file} is damaged")
        model = ocp.args.StandardRestore(abstract_variables)
        return _restore_items(manager, step, model=model).model, step


def best_step(workdir: Path) -> int:
    """The step of the best checkpoint.

    Raises:
        InputError: the folder holds no checkpoint.
    """
    with _opened_to_read(workdir) as manager:
        return _best_step(workdir, manager)


@contextlib.contextmanager
def _opened_to_read(workdir: Path) -> Iterator[ocp.CheckpointManager]:
    if not (workdir / VALIDATED).is_dir():
        raise InputError(f"{workdir}: holds no {VALIDATED}/; is it a workdir of train.py?")
    with quiet_orbax(), open_manager(workdir, read_only=True) as manager:
        yield manager


def _best_step(workdir: Path, manager: ocp.CheckpointManager) -> int:
    step = manager.best_step()
    if step is None:
        raise InputError(f"{workdir}: training has not come to its first validation yet")
    return step


def _restore_items(manager: ocp.CheckpointManager, step: int, **items: Any) -> Any:
    try:
        return manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax and TensorStore raise many types on damaged files
        raise _unreadable(Path(manager.directory) / str(step), _reason(error)) from error


def _unreadable(folder: Path, reason: str) -> InputError:
    return InputError(
        f"{folder}: this checkpoint cannot be read ({reason}); remove that folder to go on from "
        f"another, or start a new workdir"
    )


def abstract_like(tree: Any, sharding: Any) -> Any:
    """Shapes and dtypes of a tree (of arrays or of `jax.eval_shape`), placed by `sharding`.

    `sharding`: one for all, or a tree of them like the first.
    """
    if isinstance(sharding, jax.sharding.Sharding):
        sharding = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, sharding
    )
