"""How batches reach the compiled step, one call after another, and who looks at the results."""

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlung.config import Config
from jaxlung.data.canvases import Canvases
from jaxlung.data.input_pipeline import batches, stack_canvases, train_indices
from jaxlung.devices.mesh import local_rows, replicated, to_devices
from jaxlung.errors import TrainingError
from jaxlung.steps import TrainState
from jaxlung.train.log import RunLog
from jaxlung.train.profiling import StepTrace
from jaxlung.train.sigterm import Stop
from jaxlung.workdir.progress import Tally

Step = Callable[[TrainState, Any, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


class NotFinite(TrainingError):
    """The numbers of a training are not finite: its state is of no more use."""


def not_finite(what: str) -> NotFinite:
    """Returns the error that ends a training whose numbers, named by `what`, are not finite."""
    return NotFinite(f"{what}: not finite; try a lower optim.learning_rate")


class Call(NamedTuple):
    """What the compiled step is given in one dispatch, for one update or several."""

    batch: Any  # of `mesh.jit_train_step` or `mesh.jit_train_steps`
    indices: Sequence[np.ndarray]  # of each update's examples, int [B]

    @property
    def steps(self) -> int:
        """Returns the number of updates."""
        return len(self.indices)


def make_calls(
    canvases: Canvases, config: Config, start_step: int, mesh: jax.sharding.Mesh
) -> Generator[Call, None, None]:
    """Yields calls from start_step on, without end; the caller closes it."""
    make = _resident_calls if config.data.loader == "device" else _host_calls
    return make(canvases, config, start_step, mesh)


def _host_calls(
    canvases: Canvases, config: Config, start_step: int, mesh: jax.sharding.Mesh
) -> Generator[Call, None, None]:
    """Yields calls of one step each, on batches that the host puts together.

    While a step runs, the next batch is read, put together and sent.
    """
    count, data, batch_size = len(canvases.split.ids), config.data, config.train.batch_size
    order = functools.partial(
        train_indices, data.seed, start_step, count, batch_size, canvases.split.blocks
    )
    rows = local_rows(mesh, batch_size)  # with several processes a part of them
    stream = batches(
        canvases, (indices_B[rows] for indices_B in order()), loader=canvases.loader(data.loader)
    )
    # Closed while Python still runs: tf.data complains where it outlives the interpreter.
    with contextlib.closing(stream):
        # The order anew, as the stream reads ahead of what it yields.
        for batch, indices_B in zip(stream, order(), strict=False):
            yield Call(to_devices(batch, mesh, batch_size), [indices_B])


def _resident_calls(
    canvases: Canvases, config: Config, start_step: int, mesh: jax.sharding.Mesh
) -> Generator[Call, None, None]:
    """Yields calls of up to `train.steps_per_call` steps, on a split that lies on the devices.

    The host sends the order alone, a few integers a step; each step gathers its own batch. The
    split is in the cache: `prepare_data` has seen to it.
    """
    count, batch_size = len(canvases.split.ids), config.train.batch_size
    resident = jax.device_put(stack_canvases(canvases), replicated(mesh))
    steps_per_epoch, longest = count // batch_size, config.train.steps_per_call
    indices = train_indices(config.data.seed, start_step, count, batch_size, canvases.split.blocks)
    step = start_step
    while True:
        steps = min(longest, steps_per_epoch - step % steps_per_epoch)
        indices_KxB = np.zeros((longest, batch_size), np.int32)
        indices_KxB[:steps] = [next(indices) for _ in range(steps)]
        yield Call((resident, indices_KxB, np.int32(steps)), list(indices_KxB[:steps]))
        step += steps


class Guard:
    """Looks at each step's numbers: warns of skipped steps, and ends after too many in a row."""

    def __init__(self, ids: Sequence[str], most: int, say: Callable[[str], None]):
        self._ids, self._most, self._say = ids, most, say
        self._offending: dict[str, None] = {}  # ids of the steps skipped just now, in order

    def add(
        self, tally: Tally, step: int, indices_B: np.ndarray, loss: float, norm: float
    ) -> Tally:
        """Returns the tally with this step.

        Raises:
            NotFinite: more steps in a row than may be were not finite.
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


class Watch(NamedTuple):
    """What follows each call of an epoch."""

    log: RunLog
    guard: Guard
    stop: Stop
    trace: StepTrace


def train_until(
    end: int,
    step: Step,
    state: TrainState,
    tally: Tally,
    calls: Iterator[Call],
    key: jax.Array,
    epoch_start: int,
    watch: Watch,
) -> tuple[TrainState, Tally]:
    """Updates the state until `end` of the epoch's steps are done, or SIGTERM has come.

    A call is done whole: with several steps each it may go beyond `end`.

    Args:
        step: the compiled step, state, batch, key -> state, metrics.
        tally: the epoch's steps so far.
        key: of the run.
        epoch_start: the steps before this epoch.
        watch: what looks at the results; a call's are looked at while the next one runs.

    Raises:
        NotFinite: see `Guard`.
    """
    log, guard, stop, trace = watch

    def look_at(tally: Tally, indices: Sequence[np.ndarray], metrics: Any) -> Tally:
        # A call of fewer steps than its program has room for leaves the rest empty.
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
        with jax.profiler.StepTraceAnnotation("train", step_num=epoch_start + done):
            state, metrics = step(state, call.batch, key)
        stop.listen()  # before this there was nothing to lose
        trace.after(call.steps, metrics)
        # Looked at one call late, so that the device never waits for the host.
        if pending is not None:
            tally = look_at(tally, *pending)
        pending, done = (call.indices, metrics), done + call.steps
        if stop.after(call.steps):
            break
    if pending is not None:
        tally = look_at(tally, *pending)
    return state, tally


def next_pause(tally: Tally, steps_per_epoch: int, epoch_start: int, every: int) -> int:
    """Returns how many of the epoch's steps are done at the next save: all, if not before."""
    if not every:
        return steps_per_epoch
    step = epoch_start + tally.steps
    return min(steps_per_epoch, (step // every + 1) * every - epoch_start)
