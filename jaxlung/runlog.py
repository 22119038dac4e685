"""What a training says while it runs: a progress bar, metrics.jsonl and TensorBoard."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from jaxlung.board import Board
from jaxlung.distributed import is_main
from jaxlung.errors import TrainingError
from jaxlung.whole import written_whole


class RunLog:
    """Writes one record a validation; a resumed run drops the records after its checkpoint."""

    def __init__(
        self, workdir: Path, epoch_start: int, start_step: int, total_steps: int, batch_size: int
    ):
        """For a run that goes on from start_step, in the epoch that began at epoch_start."""
        self._workdir, self._path = workdir, workdir / "metrics.jsonl"
        self._batch_size = batch_size
        self.rate = 0.0  # images/s of training, this epoch; 0 before the run's second call is done
        self._compiled = False
        self._epoch_start: float | None = None
        self._epoch_steps = 0
        self._waited = 0.0  # seconds, this epoch
        self._purge_step = epoch_start + 1
        self._board: Board | None = None  # until the first record
        # Of several processes the first one alone writes and speaks.
        self._quiet = not is_main()
        self.history = [r for r in read_history(workdir) if r["step"] <= epoch_start]
        if not self._quiet:
            with _named(self._path), written_whole(self._path) as partial:
                partial.write_text("".join(json.dumps(record) + "\n" for record in self.history))
        self._bar = tqdm(
            total=total_steps, initial=start_step, unit="step", dynamic_ncols=True,
            disable=self._quiet,
        )  # fmt: skip

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def start_epoch(self) -> None:
        """Training goes on: its time counts from here."""
        # Not so in a run's first epoch, whose first call compiles.
        self._epoch_start = time.perf_counter() if self._compiled else None
        self._epoch_steps, self._waited = 0, 0.0

    def waited(self, seconds: float) -> None:
        """So long the loop had no batch to work on."""
        self._waited += seconds

    def steps(self, losses: Sequence[float]) -> None:
        """Moves the bar on by a call's steps: loss, images/s, the time left if all are needed."""
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

    def record(self, step: int, values: Mapping[str, float], *, best: bool) -> None:
        """One validation: to metrics.jsonl, to TensorBoard, and a line above the bar."""
        record = {"step": step, **values}
        self.history.append(record)
        if self._quiet:
            return
        with _named(self._path):
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            if self._board is None:
                self._board = Board(self._workdir / "tensorboard", self._purge_step)
            self._board.write(step, values)
        self.say(
            f"epoch {values['epoch']:.0f}: training loss {values['train_loss']:.4f}, "
            f"validation Dice {values['validation_dice']:.4f} "
            f"IoU {values['validation_iou']:.4f} "
            f"accuracy {values['validation_accuracy']:.4f}, "
            f"{values['images_per_second']:.1f} images/s{', best so far' if best else ''}"
        )

    def speed(self) -> dict[str, float]:
        """This epoch's throughput, and the seconds of a step, those without a batch apart too."""
        return {
            "images_per_second": self.rate,
            "step_seconds": self._batch_size / self.rate if self.rate else 0.0,
            "data_wait_seconds": self._waited / self._epoch_steps if self._epoch_steps else 0.0,
        }

    def say(self, line: str) -> None:
        """A line on stdout, above the bar."""
        if not self._quiet:
            self._bar.write(line)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the disk says where: a failed write has no file name."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{error.filename or path}: {error.strerror}") from error


def device_memory() -> dict[str, int]:
    """Bytes in use and their peak, on the fullest device of this process; {} on a CPU."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    names = {"device_memory": "bytes_in_use", "device_memory_peak": "peak_bytes_in_use"}
    return {
        f"{name}_bytes": max(s[key] for s in stats)
        for name, key in names.items() if all(key in s for s in stats)
    }  # fmt: skip


def read_history(workdir: Path) -> list[dict[str, float]]:
    """The records of metrics.jsonl; a last line cut short by a kill is left out."""
    path = workdir / "metrics.jsonl"
    history = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            history.append(json.loads(line))
        except ValueError:
            break
    return history
