"""Checkpoints of a run: the latest, to resume from, and the best, to predict with.

Items: `model` (all that prediction needs: params, or their average where one is kept, and
batch_stats), `optimizer` (step, opt_state and, beside an average, the params themselves) and
`early_stop` (JSON). Orbax writes each checkpoint under a temporary name and renames it, so a killed
run leaves whole checkpoints only.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from jaxlung.errors import InputError
from jaxlung.steps import TrainState


class EarlyStop(NamedTuple):
    """Pure early stopping on a score where higher is better."""

    best: float = -1.0
    best_step: int = -1
    stale: int = 0  # validations since the best

    def update(self, score: float, step: int) -> "EarlyStop":
        """The state after one more validation; NaN counts as no improvement.

        Of equal scores the latest is the best, as Orbax has it, but it is no improvement.
        """
        stale = 0 if score > self.best else self.stale + 1
        if score >= self.best:
            return EarlyStop(score, step, stale)
        return self._replace(stale=stale)

    def should_stop(self, patience: int) -> bool:
        return patience > 0 and self.stale >= patience


def open_manager(workdir: Path, *, read_only: bool = False) -> ocp.CheckpointManager:
    """Keeps the latest and the best by the metric "score" (higher is better)."""
    options = ocp.CheckpointManagerOptions(
        # The policy decides what is kept; best_fn makes Orbax write the metrics to disk, without
        # which a restarted manager would not know its best.
        preservation_policy=policies.AnyPreservationPolicy(
            [
                policies.LatestN(1),
                policies.BestN(get_metric_fn=_score, n=1),
            ]
        ),
        best_fn=_score,
        best_mode="max",
        read_only=read_only,
        cleanup_tmp_directories=not read_only,  # what killed runs were writing
        create=not read_only,
    )
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def _score(metrics: Any) -> float:
    return metrics["score"]


def save(
    manager: ocp.CheckpointManager, state: TrainState, early_stop: EarlyStop, score: float
) -> None:
    """Saves in the background; `manager.wait_until_finished()` waits for it."""
    items = ocp.args.Composite(
        model=ocp.args.StandardSave(state.variables),
        optimizer=ocp.args.StandardSave(_beside_model(state)),
        early_stop=ocp.args.JsonSave(early_stop._asdict()),
    )
    manager.save(int(state.step), args=items, metrics={"score": score})


def _beside_model(state: TrainState) -> dict[str, Any]:
    """What training needs beside `state.variables`."""
    kept = {"step": state.step, "opt_state": state.opt_state}
    return {**kept, "params": state.params} if state.average else kept


def restore(
    manager: ocp.CheckpointManager, step: int, abstract: TrainState
) -> tuple[TrainState, EarlyStop]:
    """Restores a whole state onto the shardings of `abstract` (from `jax.eval_shape`).

    Raises:
        InputError: the checkpoint is damaged or of another model.
    """
    items = _restore_items(
        manager,
        step,
        model=ocp.args.StandardRestore(abstract.variables),
        optimizer=ocp.args.StandardRestore(_beside_model(abstract)),
        early_stop=ocp.args.JsonRestore(),
    )
    averaged = bool(abstract.average)
    state = TrainState(
        step=items.optimizer["step"],
        params=items.optimizer["params"] if averaged else items.model["params"],
        batch_stats=items.model["batch_stats"],
        opt_state=items.optimizer["opt_state"],
        average=items.model["params"] if averaged else {},
    )
    return state, EarlyStop(**items.early_stop)


def exist(workdir: Path) -> bool:
    """Whether a run has saved a checkpoint."""
    return any(path.name.isdecimal() for path in (workdir / "checkpoints").glob("*"))


def restore_best(workdir: Path, abstract_variables: Any) -> tuple[Any, int]:
    """The best checkpoint's variables and its step.

    Raises:
        InputError: the folder holds no checkpoint, or a damaged one.
    """
    with _opened_to_read(workdir) as manager:
        step = _best_step(workdir, manager)
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
    if not (workdir / "checkpoints").is_dir():
        raise InputError(f"{workdir}: holds no checkpoints/; is it a workdir of train.py?")
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)  # Orbax warns that what is opened to be read is read-only
    try:
        with open_manager(workdir, read_only=True) as manager:
            yield manager
    finally:
        log.setLevel(level)


def _best_step(workdir: Path, manager: ocp.CheckpointManager) -> int:
    step = manager.best_step()
    if step is None:
        raise InputError(f"{workdir}: training has not saved a checkpoint yet")
    return step


def _restore_items(manager: ocp.CheckpointManager, step: int, **items: Any) -> Any:
    try:
        return manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax and TensorStore raise many types on damaged files
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{manager.directory / str(step)}: this checkpoint cannot be read ({reason[0][:200]}); "
            f"remove that folder to go on from another, or start a new workdir"
        ) from error


def abstract_like(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes and dtypes of a tree (of arrays or of `jax.eval_shape`), placed by `sharding`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
