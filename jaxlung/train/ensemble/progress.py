"""How far each member of an ensemble is, beside its state: pure records, kept as JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlung.workdir.progress import EarlyStop, Tally


class MemberProgress(NamedTuple):
    early_stop: EarlyStop = EarlyStop()
    tally: Tally = Tally()  # of the epoch in progress
    steps: int = 0  # of training, to the last validation in which it took part
    diverged: bool = False  # its numbers were not finite, and it is trained no more


class EnsembleProgress(NamedTuple):
    members: tuple[MemberProgress, ...]
    ticks: int = 0  # batches of the epoch in progress; all of them: its validation is to come

    @staticmethod
    def start(count: int) -> "EnsembleProgress":
        return EnsembleProgress((MemberProgress(),) * count)

    def going(self, patience: int) -> np.ndarray:
        """Whether each is still to train, bool [M]."""
        return np.array(
            [not (m.diverged or m.early_stop.should_stop(patience)) for m in self.members]
        )

    def diverged(self) -> np.ndarray:
        """bool [M]."""
        return np.array([m.diverged for m in self.members])

    def validated(self) -> np.ndarray:
        """Whether each has a best, bool [M]."""
        return np.array([m.early_stop.best_step >= 0 for m in self.members])

    def add(
        self, loss_M: np.ndarray, norm_M: np.ndarray, active_M: np.ndarray, most: int
    ) -> "EnsembleProgress":
        """With one more batch; more than `most` steps in a row that are not finite are too many."""
        members = []
        for i, member in enumerate(self.members):
            if active_M[i]:
                tally = member.tally.add(float(loss_M[i]), float(norm_M[i]))
                diverged = member.diverged or tally.in_a_row > most
                member = member._replace(tally=tally, diverged=diverged)
            members.append(member)
        return EnsembleProgress(tuple(members), self.ticks + 1)

    def validate(
        self, scores: Sequence[Mapping[str, float]], steps_M: np.ndarray, going_M: np.ndarray
    ) -> "EnsembleProgress":
        """After a validation, of the members that are going alone."""
        members = []
        for i, member in enumerate(self.members):
            if going_M[i]:
                if math.isfinite(scores[i]["loss"]):
                    stop = member.early_stop.update(scores[i]["dice"], int(steps_M[i]))
                    member = member._replace(early_stop=stop, steps=int(steps_M[i]))
                else:  # the epoch's last update, say
                    member = member._replace(diverged=True)
            members.append(member)
        return self._replace(members=tuple(members))

    def improved(self, steps_M: np.ndarray, going_M: np.ndarray) -> np.ndarray:
        """Whether the validation just done was each one's best, bool [M]."""
        best_M = np.array([m.early_stop.best_step for m in self.members])
        return going_M & (best_M == steps_M)

    def record(self, scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """For the log: each member's numbers as NAME/MEMBER, and NAME, their mean.

        Of the members that have not diverged; one that has stopped keeps its last scores.
        """
        columns: dict[str, dict[int, float]] = {}
        for i, (member, own) in enumerate(zip(self.members, scores, strict=True)):
            if member.diverged:
                continue
            values = {f"validation_{name}": score for name, score in own.items()}
            if member.tally.steps:
                values["train_loss"] = member.tally.mean(member.tally.loss)
                values["grad_norm"] = member.tally.mean(member.tally.grad_norm)
                values["skipped_steps"] = member.tally.skipped
            for name, value in values.items():
                columns.setdefault(name, {})[i] = value
        names = ("train_loss", "validation_dice", "validation_iou", "validation_accuracy")
        empty = {name: math.nan for name in names if name not in columns}
        means = {name: float(np.mean(list(of.values()))) for name, of in columns.items()}
        single = {f"{name}/{i}": value for name, of in columns.items() for i, value in of.items()}
        return {**empty, **means, **single}

    def next_epoch(self) -> "EnsembleProgress":
        return EnsembleProgress(tuple(m._replace(tally=m.tally.next_epoch()) for m in self.members))

    def to_json(self) -> dict[str, Any]:
        members = [
            {**m._asdict(), "early_stop": m.early_stop._asdict(), "tally": m.tally._asdict()}
            for m in self.members
        ]
        return {"members": members, "ticks": self.ticks}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "EnsembleProgress":
        members = [
            MemberProgress(
                EarlyStop(**m["early_stop"]), Tally(**m["tally"]), m["steps"], m["diverged"]
            )
            for m in values["members"]
        ]
        return EnsembleProgress(tuple(members), values["ticks"])
