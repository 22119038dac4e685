"""An epoch of training: how batches reach the compiled steps, and when results are looked at."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxlung import sharding
from jaxlung.config import Config
from jaxlung.errors import TrainingError
from jaxlung.input_pipeline import Canvases, batches, train_indices
from jaxlung.runlog import RunLog
from jaxlung.steps import TrainState

Metrics = dict[str, jax.Array]
Call = Callable[[TrainState], tuple[TrainState, Metrics]]  # one dispatch: one step, or several


@contextlib.contextmanager
def host_calls(
    canvases: Canvases, config: Config, start_step: int, train_step: Any, mesh: jax.sharding.Mesh
) -> Iterator[Iterator[tuple[Call, int]]]:
    """Calls of one step each, on batches that the host puts together.

    While a step runs, the next batch is read, put together and sent.

    Yields:
        an iterator of calls, each with the number of steps it does: 1.
    """
    count, data = len(canvases.split.ids), config.data
    indices = train_indices(
        data.seed, start_step, count, config.train.batch_size, canvases.split.blocks
    )
    stream = batches(canvases, indices, loader=canvases.loader(data.loader))

    def calls() -> Iterator[tuple[Call, int]]:
        for batch in stream:
            placed = sharding.to_devices(batch, mesh)

            def call(state: TrainState, placed=placed) -> Any:
                return train_step(state, placed)

            yield call, 1

    # Closed while Python still runs: tf.data complains of what it outlives.
    with contextlib.closing(stream):
        yield calls()


@contextlib.contextmanager
def resident_calls(
    canvases: Canvases, config: Config, start_step: int, train_steps: Any, mesh: jax.sharding.Mesh
) -> Iterator[Iterator[tuple[Call, int]]]:
    """Calls of up to `train.steps_per_call` steps each, on a split that lies on the devices.

    The host sends the order alone, a few integers a step; each step gathers its own batch. The
    split is in the cache: `train.prepare_data` has seen to it.

    Yields:
        an iterator of calls, each with the number of steps it does.
    """
    count, batch_size = len(canvases.split.ids), config.train.batch_size
    resident = jax.device_put(_stacked(canvases), sharding.replicated(mesh))
    steps_per_epoch, longest = count // batch_size, config.train.steps_per_call

    def calls() -> Iterator[tuple[Call, int]]:
        step = start_step
        indices = train_indices(
            config.data.seed, start_step, count, batch_size, canvases.split.blocks
        )
        while True:
            steps = min(longest, steps_per_epoch - step % steps_per_epoch)
            indices_KxB = np.zeros((longest, batch_size), np.int32)
            indices_KxB[:steps] = [next(indices) for _ in range(steps)]

            def call(state: TrainState, indices_KxB=indices_KxB, steps=steps) -> Any:
                return train_steps(state, resident, indices_KxB, np.int32(steps))

            yield call, steps
            step += steps

    yield calls()


def _stacked(canvases: Canvases) -> dict[str, np.ndarray]:
    """A split's images and masks, uint8 [N, S, S] each."""
    images, masks = zip(*(canvases.read(i) for i in range(len(canvases.split.ids))), strict=True)
    return {"image": np.stack(images), "mask": np.stack(masks)}


def train_epoch(
    state: TrainState, first_step: int, num_steps: int, calls: Iterator[tuple[Call, int]],
    log: RunLog,
) -> tuple[TrainState, float]:  # fmt: skip
    """An epoch's updates; returns the state and the mean loss.

    Raises:
        TrainingError: a loss or gradient that is not finite, with its step.
    """
    losses: list[float] = []

    def finish(metrics: Metrics, steps: int) -> None:
        # Of a call of fewer steps than its program has room for the rest is empty.
        loss_K, norm_K = (np.atleast_1d(metrics[name])[:steps] for name in ("loss", "grad_norm"))
        for loss, norm in zip(loss_K, norm_K, strict=True):
            losses.append(float(loss))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise not_finite(
                    f"loss {loss}, gradient norm {norm} at step {first_step + len(losses)}"
                )
        log.steps(losses[-len(loss_K) :])

    log.start_epoch()
    pending, done = None, 0
    while done < num_steps:
        call, steps = next(calls)
        state, metrics = call(state)
        # Fetched one call late, so that the device never waits for the host.
        if pending is not None:
            finish(*pending)
        pending, done = (metrics, steps), done + steps
    if pending is not None:
        finish(*pending)
    return state, float(np.mean(losses))


def not_finite(what: str) -> TrainingError:
    """The error that ends a training whose numbers, named by `what`, are not finite."""
    return TrainingError(
        f"{what}: stopped, with the checkpoints before it kept; try a lower optim.learning_rate"
    )
