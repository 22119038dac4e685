"""The training loop: for each epoch train, validate, record, save."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax

from jaxlung.config import Config, parse_config
from jaxlung.data.canvases import Canvases
from jaxlung.devices.distributed import is_main
from jaxlung.errors import InputError, Stopped
from jaxlung.optimizer import count_updates
from jaxlung.steps import TrainState
from jaxlung.train import epochs
from jaxlung.train.compiled import CompiledSteps, compile_steps, make_keys, make_run_mesh
from jaxlung.train.data import UNIT, Data, prepare_data
from jaxlung.train.log import RunLog, describe_epoch, device_memory, write_learning_curve
from jaxlung.train.profiling import StepTrace
from jaxlung.train.run import check_run, open_run, restore_or_init
from jaxlung.train.sigterm import Stop
from jaxlung.train.validation import CHOOSING, validate, write_overlays
from jaxlung.workdir import checkpoints
from jaxlung.workdir.integrity import set_damaged_aside
from jaxlung.workdir.progress import Progress


def train_and_evaluate(config: Any, workdir: str | Path, *, profile: bool = False) -> TrainState:
    """Trains until the last epoch or early stopping; goes on where the workdir's run stopped.

    Args:
        config: a `Config`, a ConfigDict or a plain dict with its fields.
        workdir: where checkpoints, logs and pictures go; docs/architecture.md lists them.
        profile: write a trace of some steps of the first process to the workdir's profile/.

    Returns:
        The final state. The best one is the workdir's best checkpoint: `jaxlung.load(workdir)`.

    Raises:
        InputError: bad settings or data, before any training and with nothing written; or a file
            that is gone when its turn comes.
        TrainingError: steps that are not finite, or what cannot be written; the checkpoints before
            it are whole.
        Stopped: SIGTERM came while it trained; everything is saved.

    Example:
        >>> from jaxlung import default_config, load
        >>> config = default_config()
        >>> config.data.name, config.data.dir = "folder", "films"  # with images/ and masks/
        >>> train_and_evaluate(config, "runs/films")  # doctest: +SKIP
        >>> mask = load("runs/films").predict("film.png")  # doctest: +SKIP
    """
    config, workdir = parse_config(config), Path(workdir)
    if config.is_ensemble:
        raise InputError("config.ensemble asks for several members: train_ensemble trains them")
    mesh = make_run_mesh(config)
    check_run(config, workdir)
    return train_on(prepare_data(config), config, workdir, mesh, profile=profile)


def train_on(
    data: Data, config: Config, workdir: Path, mesh: jax.sharding.Mesh, *, profile: bool = False
) -> TrainState:
    """`train_and_evaluate` after `check_run`, on data that are prepared."""
    profile = profile and is_main()
    with (
        open_run(config, workdir, data.contents, data.warnings),
        checkpoints.name_last_checkpoint(workdir),
        _open_training(data.canvases, config, workdir, mesh, profile) as (run, start),
    ):
        for warning in data.warnings:
            run.watch.log.say(f"warning: {warning}")
        state, progress = start
        first_epoch = (int(state.step) - progress.tally.steps) // run.steps_per_epoch
        # Fixed order: train an epoch, validate, log, draw, save. A run killed anywhere repeats
        # from its last save with the same batches and keys, and logs and draws again.
        for epoch in range(first_epoch, config.train.num_epochs):
            if progress.early_stop.should_stop(config.train.patience):
                break
            state, progress = run.train_epoch(epoch, state, progress)
            scores = run.validate_epoch(state)
            if scores is None:
                run.save_and_leave(state, progress)
            score = scores[CHOOSING[config.modality]]
            progress = progress.add_validation(score, int(state.step))
            run.record_epoch(epoch, state, progress, scores)
            progress = progress.next_epoch()
            checkpoints.save(run.managers.validated, state, progress, score)
        run.managers.wait()
        checkpoints.delete_interim(run.managers)
    if is_main():
        best = progress.early_stop
        unit = " of volumes" if config.modality == "ct" else ""
        print(
            f"best validation Dice{unit} {best.best:.4f} at step {best.best_step}; "
            f"next: jaxlung eval --workdir {workdir}"
        )
    return state


@dataclasses.dataclass(frozen=True)
class _Training:
    """What stays the same in a training."""

    config: Config
    workdir: Path
    canvases: Mapping[str, Canvases]
    mesh: jax.sharding.Mesh
    compiled: CompiledSteps
    steps_per_epoch: int
    key: jax.Array  # of the steps
    managers: checkpoints.Managers
    calls: Iterator[epochs.Call]
    watch: epochs.Watch

    def train_epoch(
        self, epoch: int, state: TrainState, progress: Progress
    ) -> tuple[TrainState, Progress]:
        """Does the rest of an epoch's updates, as far as SIGTERM does not come."""
        watch, tally, epoch_start = self.watch, progress.tally, epoch * self.steps_per_epoch
        watch.log.start_epoch()
        while tally.steps < self.steps_per_epoch and not watch.stop.asked:
            end = epochs.next_pause(
                tally, self.steps_per_epoch, epoch_start, self.config.train.checkpoint_steps
            )
            state, tally = epochs.train_until(
                end, self.compiled.train, state, tally, self.calls, self.key, epoch_start, watch
            )
            if tally.steps < self.steps_per_epoch and not watch.stop.asked:
                self._save_interim(state, progress._replace(tally=tally))
        return state, progress._replace(tally=tally)

    def validate_epoch(self, state: TrainState) -> dict[str, float] | None:
        """Returns the means of the validation split's scores; None where SIGTERM has come.

        Raises:
            NotFinite: the loss is not finite, after the epoch's last update, say.
        """
        if self.watch.stop.asked:
            return None
        step, canvases = self.compiled.evaluate, self.canvases["validation"]
        scores = validate(state.variables, step, canvases, self.config, self.mesh, self.watch.stop)
        if scores is None:
            return None
        means = scores.means()
        if not math.isfinite(means["loss"]):
            raise epochs.not_finite(f"validation loss {means['loss']} after step {int(state.step)}")
        return means

    def record_epoch(
        self, epoch: int, state: TrainState, progress: Progress, scores: Mapping[str, float]
    ) -> None:
        """Logs an epoch and draws its pictures."""
        log, tally = self.watch.log, progress.tally
        step = (epoch + 1) * self.steps_per_epoch
        best = progress.early_stop.best_step == step
        updates = count_updates(state.opt_state)  # a skipped step makes none
        values = {
            "epoch": epoch + 1,
            "train_loss": tally.mean(tally.loss),
            **{f"validation_{name}": score for name, score in scores.items()},
            "learning_rate": float(self.compiled.schedule(max(0, updates - 1))),
            "grad_norm": tally.mean(tally.grad_norm),
            "grad_norm_max": tally.grad_norm_max,
            "skipped_steps": tally.skipped,
            **log.speed(),
            **device_memory(),
        }
        log.record(step, values, describe_epoch(values, best=best))
        if is_main():
            write_learning_curve(self.workdir / "learning_curve.png", log.history)
        if best:
            predict, canvases = self.compiled.predict, self.canvases["validation"]
            write_overlays(self.workdir, state.variables, predict, canvases, self.config, self.mesh)

    def save_and_leave(self, state: TrainState, progress: Progress) -> NoReturn:
        """Saves what no validation has seen, and ends the training as SIGTERM asked.

        Raises:
            Stopped: always, once everything is on disk.
        """
        self._save_interim(state, progress)
        self.managers.wait()
        raise Stopped(
            f"stopped by SIGTERM; step {int(state.step)} is saved in {self.workdir}: the same "
            f"command goes on from there"
        )

    def _save_interim(self, state: TrainState, progress: Progress) -> None:
        norm = float(self.compiled.norm(state.params))
        if not math.isfinite(norm):
            raise epochs.not_finite(f"parameters of norm {norm} after step {int(state.step)}")
        checkpoints.save(self.managers.interim, state, progress)


@contextlib.contextmanager
def _open_training(
    canvases: Mapping[str, Canvases],
    config: Config,
    workdir: Path,
    mesh: jax.sharding.Mesh,
    profile: bool,
) -> Iterator[tuple[_Training, tuple[TrainState, Progress]]]:
    """Yields a training and what it starts from: its latest checkpoint, or a first state."""
    train_ids, batch_size = canvases["train"].split.ids, config.train.batch_size
    steps_per_epoch = len(train_ids) // batch_size
    total_steps = steps_per_epoch * config.train.num_epochs
    compiled = compile_steps(config, mesh, steps_per_epoch)
    init_key, key = make_keys(config.train.seed)
    for warning in set_damaged_aside(workdir):
        print(warning)
    with checkpoints.open_managers(workdir) as managers, Stop() as stop:
        state, progress = restore_or_init(managers, compiled, init_key, config)
        start_step = int(state.step)
        epoch_start = start_step - progress.tally.steps
        calls = epochs.make_calls(canvases["train"], config, start_step, mesh)
        with (
            RunLog(workdir, epoch_start, start_step, total_steps, batch_size) as log,
            contextlib.closing(calls),
            StepTrace(workdir / "profile", log.say, on=profile) as trace,
        ):
            sizes = ", ".join(f"{len(c.split.ids)} {name}" for name, c in canvases.items())
            source = " ".join((config.data.name, config.data.dir)).strip()
            rest = len(train_ids) % batch_size
            log.say(
                f"data: {source}: {sizes} {UNIT[config.modality]}; {steps_per_epoch} steps of "
                f"{batch_size} an epoch{f', {rest} left over, others each time' if rest else ''}"
            )
            stops = progress.early_stop.should_stop(config.train.patience)
            if start_step and (stops or epoch_start == total_steps):
                log.say(
                    f"{workdir}: complete at step {start_step}; to train on from its best "
                    f"parameters: a new --workdir and --config.train.init_from={workdir}"
                )
            elif start_step:
                log.say(f"{workdir}: goes on from step {start_step}")
            guard = epochs.Guard(train_ids, config.train.skip_nonfinite, log.say)
            yield (
                _Training(
                    config=config,
                    workdir=workdir,
                    canvases=canvases,
                    mesh=mesh,
                    compiled=compiled,
                    steps_per_epoch=steps_per_epoch,
                    key=key,
                    managers=managers,
                    calls=calls,
                    watch=epochs.Watch(log, guard, stop, trace),
                ),
                (state, progress),
            )
