"""How far a run is, beside its state: pure records, kept as JSON in each checkpoint."""

import math
from typing import Any, NamedTuple


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


class Tally(NamedTuple):
    """The epoch in progress; sums, so that an interrupted one goes on to the same means."""

    steps: int = 0  # done, skipped ones included; all of an epoch: its validation is to come
    skipped: int = 0  # whose loss or gradient was not finite
    in_a_row: int = 0  # skipped just now; counts on over epochs
    loss: float = 0.0  # sum over the others
    grad_norm: float = 0.0  # sum over the others
    grad_norm_max: float = 0.0

    def add(self, loss: float, grad_norm: float) -> "Tally":
        """With one more step."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return self._replace(
                steps=self.steps + 1, skipped=self.skipped + 1, in_a_row=self.in_a_row + 1
            )
        return Tally(
            steps=self.steps + 1,
            skipped=self.skipped,
            loss=self.loss + loss,
            grad_norm=self.grad_norm + grad_norm,
            grad_norm_max=max(self.grad_norm_max, grad_norm),
        )

    def mean(self, total: float) -> float:
        """Of one of the sums; NaN where every step was skipped."""
        counted = self.steps - self.skipped
        return total / counted if counted else math.nan

    def next_epoch(self) -> "Tally":
        return Tally(in_a_row=self.in_a_row)


class Progress(NamedTuple):
    """All of it."""

    early_stop: EarlyStop = EarlyStop()
    tally: Tally = Tally()

    def to_json(self) -> dict[str, Any]:
        return {"early_stop": self.early_stop._asdict(), "tally": self.tally._asdict()}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Progress":
        return Progress(EarlyStop(**values["early_stop"]), Tally(**values["tally"]))
