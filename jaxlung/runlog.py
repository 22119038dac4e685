"""What a training says while it runs: a progress bar, metrics.jsonl and TensorBoard."""

import functools
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm


class RunLog:
    """Writes one record a validation; a resumed run drops the records after its checkpoint."""

    def __init__(self, workdir: Path, start_step: int, total_steps: int, batch_size: int):
        self._path = workdir / "metrics.jsonl"
        self._batch_size = batch_size
        self.rate = 0.0  # images/s of training, this epoch; 0 before the run's second call is done
        self._compiled = False
        self._epoch_start: float | None = None
        self._epoch_images = 0
        self.history = [r for r in read_history(workdir) if r["step"] <= start_step]
        partial = self._path.with_name(".metrics.jsonl.partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in self.history))
        os.replace(partial, self._path)
        self._open_board = functools.partial(_open_board, workdir, start_step + 1)
        self._board: Any = None  # until the first record
        self._bar = tqdm(total=total_steps, initial=start_step, unit="step", dynamic_ncols=True)

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
        self._epoch_images = 0

    def steps(self, losses: Sequence[float]) -> None:
        """Moves the bar on by a call's steps: loss, images/s, the time left if all are needed."""
        now = time.perf_counter()
        if self._epoch_start is None:
            self._epoch_start = now
        else:
            self._epoch_images += self._batch_size * len(losses)
            self.rate = self._epoch_images / max(now - self._epoch_start, 1e-9)
        self._compiled = True
        speed = f", {self.rate:.1f} images/s" if self.rate else ""
        self._bar.set_postfix_str(f"loss {losses[-1]:.4f}{speed}", refresh=False)
        self._bar.update(len(losses))

    def record(self, step: int, values: Mapping[str, float], *, best: bool) -> None:
        """One validation: to metrics.jsonl, to TensorBoard, and a line above the bar."""
        record = {"step": step, **values}
        self.history.append(record)
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self._board is None:
            self._board = self._open_board()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        self.say(
            f"epoch {values['epoch']:.0f}: training loss {values['train_loss']:.4f}, "
            f"validation Dice {values['validation_dice']:.4f} "
            f"IoU {values['validation_iou']:.4f} "
            f"accuracy {values['validation_accuracy']:.4f}, "
            f"{values['images_per_second']:.1f} images/s{', best so far' if best else ''}"
        )

    def say(self, line: str) -> None:
        """A line on stdout, above the bar."""
        self._bar.write(line)


def _open_board(workdir: Path, purge_step: int) -> Any:
    # Imported at the first record: it takes PyTorch's second with it, where that is installed.
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(workdir / "tensorboard"), purge_step=purge_step)


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
