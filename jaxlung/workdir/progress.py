"""How far a run is, beside its state: pure records that each checkpoint keeps as JSON."""

import math
from typing import Any, NamedTuple


class EarlyStop(NamedTuple):
    """Pure early stopping on a score where higher is better."""

    best: float = -1.0
    best_step: int = -1
    stale: int = 0  # validations since the best

    def update(self, score: float, step: int) -> "EarlyStop":
        """Returns the state after one more validation; NaN is never an improvement.

        The latest of equal scores is the best, as for Orbax, and not an improvement.

        Example:
            >>> EarlyStop().update(0.9, step=10).update(0.8, step=20)
            EarlyStop(best=0.9, best_step=10, stale=1)
        """
        stale = 0 if score > self.best else self.stale + 1
        if score >= self.best:
            return EarlyStop(score, step, stale)
        return self._replace(stale=stale)

    def should_stop(self, patience: int) -> bool:
        """Returns whether so many validations in a row were no improvement; 0: never."""
        return patience > 0 and self.stale >= patience


class Tally(NamedTuple):
    """The epoch in progress, as sums: an interrupted one goes on to the same means."""

    steps: int = 0  # done, skipped ones included; all of an epoch: its validation is to come
    skipped: int = 0  # whose loss or gradient was not finite
    in_a_row: int = 0  # skipped just now; counts on over epochs
    loss: float = 0.0  # sum over the others
    grad_norm: float = 0.0  # sum over the others
    grad_norm_max: float = 0.0

    def add(self, loss: float, grad_norm: float) -> "Tally":
        """Returns the tally with one more step."""
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
        """Returns the mean of a sum over steps; NaN where every step was skipped."""
        counted = self.steps - self.skipped
        return total / counted if counted else math.nan

    def next_epoch(self) -> "Tally":
        """Returns an empty tally that goes on to count steps skipped in a row."""
        return Tally(in_a_row=self.in_a_row)


class Progress(NamedTuple):
    """What a checkpoint knows of a run, beside its state."""

    early_stop: EarlyStop = EarlyStop()
    tally: Tally = Tally()

    def add_validation(self, score: float, step: int) -> "Progress":
        """Returns the progress with a validation at the end of an epoch."""
        return self._replace(early_stop=self.early_stop.update(score, step))

    def next_epoch(self) -> "Progress":
        """Returns the progress at the start of the next epoch."""
        return self._replace(tally=self.tally.next_epoch())

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes."""
        return {"early_stop": self.early_stop._asdict(), "tally": self.tally._asdict()}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Progress":
        """Reads what `to_json` returned."""
        return Progress(EarlyStop(**values["early_stop"]), Tally(**values["tally"]))
