"""What a training shows while it runs: a progress bar, metrics.jsonl, TensorBoard, a curve."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from jaxlung.devices.distributed import is_main
from jaxlung.errors import TrainingError
from jaxlung.io.images import write_png
from jaxlung.system.files import write_whole

_VOLUME_DICE = "validation_volume_dice"  # of CT


class RunLog:
    """Shows progress, and writes a record for each validation.

    A resumed run drops the records after its checkpoint.
    """

    def __init__(
        self, workdir: Path, epoch_start: int, start_step: int, total_steps: int, batch_size: int
    ):
        """Opens the log of a run that goes on from start_step; its epoch began at epoch_start."""
        self._workdir, self._path = workdir, workdir / "metrics.jsonl"
        self._batch_size = batch_size
        self.rate = 0.0  # images/s of training, this epoch; 0 before the run's second call is done
        self._compiled = False
        self._epoch_start: float | None = None
        self._epoch_steps = 0
        self._waited = 0.0  # seconds, this epoch
        self._purge_step = epoch_start + 1
        self._board: Board | None = None  # until the first record
        # One process alone writes and speaks.
        self._quiet = not is_main()
        self.history = [r for r in read_history(workdir) if r["step"] <= epoch_start]
        if not self._quiet:
            with _name_errors(self._path), write_whole(self._path) as partial:
                partial.write_text("".join(json.dumps(record) + "\n" for record in self.history))
        self._bar = tqdm(
            total=total_steps,
            initial=start_step,
            unit="step",
            dynamic_ncols=True,
            disable=self._quiet,
        )

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def start_epoch(self) -> None:
        """Counts the time of training from here."""
        # In a run's first epoch it counts from the end of the first call, which compiles.
        self._epoch_start = time.perf_counter() if self._compiled else None
        self._epoch_steps, self._waited = 0, 0.0

    def waited(self, seconds: float) -> None:
        """Counts seconds in which the loop had no batch to work on."""
        self._waited += seconds

    def steps(self, losses: Sequence[float]) -> None:
        """Moves the bar on by a call's steps, with the loss, images/s and the time left."""
        now = time.perf_counter()
        if self._epoch_start is None:
            self._epoch_start, self._waited = now, 0.0
        else:
            self._epoch_steps += len(losses)
            self.rate = self._batch_size * self._epoch_steps / max(now - self._epoch_start, 1e-9)
        self._compiled = True
        speed = f", {self.rate:.1f} images/s" if self.rate else ""
        self._bar.set_postfix_str(f"loss {losses[-1]:.4f}{speed}", refresh=False)
        self._bar.update(len(losses))

    def record(self, step: int, values: Mapping[str, float], line: str) -> None:
        """Writes a validation to metrics.jsonl and TensorBoard, and its line above the bar."""
        record = {"step": step, **values}
        self.history.append(record)
        if self._quiet:
            return
        with _name_errors(self._path):
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            if self._board is None:
                self._board = Board(self._workdir / "tensorboard", self._purge_step)
            self._board.write(step, values)
        self.say(line)

    def speed(self) -> dict[str, float]:
        """Returns this epoch's images/s, and the seconds of a step, in all and without a batch."""
        return {
            "images_per_second": self.rate,
            "step_seconds": self._batch_size / self.rate if self.rate else 0.0,
            "data_wait_seconds": self._waited / self._epoch_steps if self._epoch_steps else 0.0,
        }

    def say(self, line: str) -> None:
        """Prints a line on stdout, above the bar."""
        if not self._quiet:
            self._bar.write(line)


def describe_epoch(values: Mapping[str, float], *, best: bool) -> str:
    """Returns the line that shows a validation."""
    volumes = ""
    if (dice := values.get(_VOLUME_DICE)) is not None:
        volumes = f"of volumes {dice:.4f}, of slices "
    return (
        f"epoch {values['epoch']:.0f}: training loss {values['train_loss']:.4f}, "
        f"validation Dice {volumes}{values['validation_dice']:.4f} "
        f"IoU {values['validation_iou']:.4f} "
        f"accuracy {values['validation_accuracy']:.4f}, "
        f"{values['images_per_second']:.1f} images/s{', best so far' if best else ''}"
    )


@contextlib.contextmanager
def _name_errors(path: Path) -> Iterator[None]:
    """Makes an error of the disk say where: a failed write has no file name."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{error.filename or path}: {error.strerror}") from error


def device_memory() -> dict[str, int]:
    """Returns bytes in use and their peak, on this process's fullest device; {} on a CPU."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    names = {"device_memory": "bytes_in_use", "device_memory_peak": "peak_bytes_in_use"}
    return {
        f"{name}_bytes": max(s[key] for s in stats)
        for name, key in names.items()
        if all(key in s for s in stats)
    }


def read_history(workdir: Path) -> list[dict[str, float]]:
    """Returns the records of metrics.jsonl, without a last line that a kill cut short."""
    path = workdir / "metrics.jsonl"
    history = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            history.append(json.loads(line))
        except ValueError:
            break
    return history


class Board:
    """Writes scalars at once. tensorboardX's own thread waits for ever on a full disk."""

    def __init__(self, folder: Path, purge_step: int):
        # Imported at the first record: it takes PyTorch's second with it, where that is installed.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        # TensorBoard forgets what an earlier process wrote from this step on.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        event = self._event(wall_time=time.time(), step=purge_step, session_log=start)
        self._writer.write_event(event)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [
            self._summary.Value(tag=name, simple_value=value) for name, value in values.items()
        ]
        summary = self._summary(value=scalars)
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def write_learning_curve(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Draws losses and validation Dice against the epoch, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    # Fixed margins: to find them would take longer than to draw, after each epoch.
    figure.subplots_adjust(left=0.1, right=0.89, bottom=0.12, top=0.92)
    canvas = FigureCanvasAgg(figure)  # no pyplot: no global state, no display
    loss_axis = figure.add_subplot()
    dice_axis = loss_axis.twinx()
    epochs = [record["epoch"] for record in history]
    lines = loss_axis.plot(epochs, [r["train_loss"] for r in history], "C0-", label="training loss")
    lines += loss_axis.plot(
        epochs, [r["validation_loss"] for r in history], "C0:", label="validation loss"
    )
    of_volumes = all(_VOLUME_DICE in record for record in history)
    name, unit = (_VOLUME_DICE, "volume") if of_volumes else ("validation_dice", "image")
    dice = [record[name] for record in history]
    lines += dice_axis.plot(epochs, dice, "C1-", label="validation Dice")
    best = int(np.argmax(dice))
    dice_axis.plot(epochs[best], dice[best], "C1o")
    dice_axis.set_title(f"best validation Dice {dice[best]:.4f}, epoch {epochs[best]:.0f}")
    loss_axis.set(xlabel="epoch", ylabel="loss")
    dice_axis.set(ylabel=f"Dice (per-{unit} mean, network size)")
    loss_axis.legend(handles=lines, loc="center right")
    canvas.draw()
    write_png(path, np.asarray(canvas.buffer_rgba())[..., :3].copy())
