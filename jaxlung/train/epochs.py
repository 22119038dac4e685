"""An epoch of training: how batches reach the compiled steps, and when results are looked at."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlung.config import Config
from jaxlung.data.input_pipeline import Canvases, batches, train_indices
from jaxlung.devices.mesh import local_rows, replicated, to_devices
from jaxlung.errors import TrainingError
from jaxlung.steps import TrainState
from jaxlung.train.log import RunLog
from jaxlung.train.sigterm import Stop
from jaxlung.workdir.progress import Tally

Metrics = dict[str, jax.Array]


class Call(NamedTuple):
    """One dispatch: one step, or several."""

    run: Callable[[TrainState], tuple[TrainState, Metrics]]
    indices: Sequence[np.ndarray]  # of each step's batch, int [B]

    @property
    def steps(self) -> int:
        return len(self.indices)


@contextlib.contextmanager
def host_calls(
    canvases: Canvases, config: Config, start_step: int, train_step: Any, mesh: jax.sharding.Mesh
) -> Iterator[Iterator[Call]]:
    """Calls of one step each, on batches that the host puts together.

    While a step runs, the next batch is read, put together and sent.

    Yields:
        an iterator of calls.
    """
    count, data = len(canvases.split.ids), config.data
    order = functools.partial(
        train_indices, data.seed, start_step, count, config.train.batch_size, canvases.split.blocks
    )
    rows = local_rows(mesh, config.train.batch_size)  # of several processes not all
    own = (indices_B[rows] for indices_B in order())
    stream = batches(canvases, own, loader=canvases.loader(data.loader))

    def calls() -> Iterator[Call]:
        # Its order once more, as the stream reads ahead of what it gives.
        for batch, indices_B in zip(stream, order(), strict=False):
            placed = to_devices(batch, mesh, config.train.batch_size)

            def run(state: TrainState, placed=placed) -> Any:
                return train_step(state, placed)

            yield Call(run, [indices_B])

    # Closed while Python still runs: tf.data complains of what it outlives.
    with contextlib.closing(stream):
        yield calls()


@contextlib.contextmanager
def resident_calls(
    canvases: Canvases, config: Config, start_step: int, train_steps: Any, mesh: jax.sharding.Mesh
) -> Iterator[Iterator[Call]]:
    """Calls of up to `train.steps_per_call` steps each, on a split that lies on the devices.

    The host sends the order alone, a few integers a step; each step gathers its own batch. The
    split is in the cache: `data.prepare_data` has seen to it.

    Yields:
        an iterator of calls.
    """
    count, batch_size = len(canvases.split.ids), config.train.batch_size
    resident = jax.device_put(_stacked(canvases), replicated(mesh))
    steps_per_epoch, longest = count // batch_size, config.train.steps_per_call

    def calls() -> Iterator[Call]:
        step = start_step
        indices = train_indices(
            config.data.seed, start_step, count, batch_size, canvases.split.blocks
        )
        while True:
            steps = min(longest, steps_per_epoch - step % steps_per_epoch)
            indices_KxB = np.zeros((longest, batch_size), np.int32)
            indices_KxB[:steps] = [next(indices) for _ in range(steps)]

            def run(state: TrainState, indices_KxB=indices_KxB, steps=steps) -> Any:
                return train_steps(state, resident, indices_KxB, np.int32(steps))

            yield Call(run, list(indices_KxB[:steps]))
            step += steps

    yield calls()


def _stacked(canvases: Canvases) -> dict[str, np.ndarray]:
    """A split's images and masks, uint8 [N, S, S] each."""
    images, masks = zip(*(canvases.read(i) for i in range(len(canvases.split.ids))), strict=True)
    return {"image": np.stack(images), "mask": np.stack(masks)}


class Guard:
    """Looks at each step's numbers: skipped steps are told, and after too many in a row it ends."""

    def __init__(self, ids: Sequence[str], most: int, say: Callable[[str], None]):
        self._ids, self._most, self._say = ids, most, say
        self._offending: dict[str, None] = {}  # ids of the steps skipped just now, in order

    def add(
        self, tally: Tally, step: int, indices_B: np.ndarray, loss: float, norm: float
    ) -> Tally:
        """The tally with this step.

        Raises:
            TrainingError: more steps in a row than may be were not finite.
        """
        tally = tally.add(loss, norm)
        if not tally.in_a_row:
            self._offending.clear()
            return tally
        self._offending.update(dict.fromkeys(self._ids[i] for i in indices_B))
        what = f"loss {loss}, gradient norm {norm} at step {step}"
        if tally.in_a_row > self._most:
            row = f", {tally.in_a_row} in a row" if tally.in_a_row > 1 else ""
            raise not_finite(f"{what}{row} (images: {', '.join(self._offending)})")
        self._say(f"warning: {what}: skipped")
        return tally


def train_until(
    end: int,
    state: TrainState,
    tally: Tally,
    calls: Iterator[Call],
    *,
    epoch_start: int,
    log: RunLog,
    guard: Guard,
    stop: Stop,
) -> tuple[TrainState, Tally]:
    """Updates until `end` of the epoch's steps are done, or the run has been asked to stop.

    A call is done whole: with several steps each it may go beyond `end`.

    Args:
        tally: the epoch's steps so far.
        epoch_start: the steps before this epoch.

    Raises:
        TrainingError: see `Guard`.
    """

    def finish(tally: Tally, metrics: Metrics, indices: Sequence[np.ndarray]) -> Tally:
        # Of a call of fewer steps than its program has room for the rest is empty.
        loss_K, norm_K = (
            np.atleast_1d(metrics[name])[: len(indices)].tolist() for name in ("loss", "grad_norm")
        )
        for indices_B, loss, norm in zip(indices, loss_K, norm_K, strict=True):
            tally = guard.add(tally, epoch_start + tally.steps + 1, indices_B, loss, norm)
        log.steps(loss_K)
        return tally

    pending, done = None, tally.steps
    while done < end:
        start = time.perf_counter()
        call = next(calls)
        log.waited(time.perf_counter() - start)
        state, metrics = call.run(state)
        stop.listen()  # before this there was nothing to lose
        # Fetched one call late, so that the device never waits for the host.
        if pending is not None:
            tally = finish(tally, *pending)
        pending, first, done = (metrics, call.indices), done + 1, done + call.steps
        if stop.after(range(epoch_start + first, epoch_start + done + 1)):
            break
    if pending is not None:
        tally = finish(tally, *pending)
    return state, tally


def next_pause(tally: Tally, steps_per_epoch: int, epoch_start: int, every: int) -> int:
    """How many of the epoch's steps are done when it is to be saved next: all, if not before."""
    if not every:
        return steps_per_epoch
    step = epoch_start + tally.steps
    return min(steps_per_epoch, (step // every + 1) * every - epoch_start)


def not_finite(what: str) -> TrainingError:
    """The error that ends a training whose numbers, named by `what`, are not finite."""
    return TrainingError(f"{what}: not finite; try a lower optim.learning_rate")
