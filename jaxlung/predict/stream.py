"""Reads in threads while the device works, and finishes in threads after it. No JAX here."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

from jaxlung.errors import InputError

T = TypeVar("T")
P = TypeVar("P")
C = TypeVar("C")
R = TypeVar("R")


class Done(NamedTuple, Generic[T, R]):
    """What became of an item."""

    item: T
    result: R | InputError
    seconds: float  # of work on it: prepare, its share of compute, finish


def stream(
    items: Iterable[T],
    prepare: Callable[[T], P],
    compute: Callable[[Sequence[P]], Iterable[C]],
    finish: Callable[[P, C], R],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[Done[T, R]]:
    """Yields each item's result in order; an item's InputError takes its result's place.

    `prepare` and `finish` run in threads; `compute` runs in the caller's thread, on up to
    batch_size prepared items at once. At most two batches and a few items are held at a time,
    however many there are and however slowly the results are taken.
    """
    left = iter(items)
    reading: deque[tuple[T, Future[tuple[P | InputError, float]]]] = deque()
    finishing: deque[tuple[T, float, InputError | Future[tuple[R | InputError, float]]]] = deque()

    with ThreadPoolExecutor(workers) as readers, ThreadPoolExecutor(workers) as finishers:

        def read_ahead() -> None:
            while len(reading) < batch_size + workers:
                try:
                    item = next(left)
                except StopIteration:
                    return
                reading.append((item, readers.submit(timed, prepare, item)))

        def result() -> Done[T, R]:
            item, seconds, future = finishing.popleft()
            if isinstance(future, InputError):
                return Done(item, future, seconds)
            found, more = future.result()
            return Done(item, found, seconds + more)

        try:
            read_ahead()
            while reading:
                batch: list[tuple[T, P | InputError, float]] = []
                prepared: list[P] = []
                while reading and len(prepared) < batch_size and len(batch) < 2 * batch_size:
                    item, future = reading.popleft()
                    found, seconds = future.result()
                    batch.append((item, found, seconds))
                    if not isinstance(found, InputError):
                        prepared.append(found)
                    read_ahead()
                start = time.perf_counter()
                computed = iter([*compute(prepared)] if prepared else ())
                each = (time.perf_counter() - start) / max(1, len(prepared))
                for item, found, seconds in batch:
                    if isinstance(found, InputError):
                        finishing.append((item, seconds, found))
                    else:
                        done = finishers.submit(timed, finish, found, next(computed))
                        finishing.append((item, seconds + each, done))
                del batch, prepared, computed
                while len(finishing) > batch_size:
                    yield result()
            while finishing:
                yield result()
        finally:  # closed early, or failed: what has not begun is not begun
            readers.shutdown(wait=False, cancel_futures=True)
            finishers.shutdown(wait=False, cancel_futures=True)


def timed(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """Calls a function; returns its result, or its InputError, and its seconds."""
    start = time.perf_counter()
    try:
        result = function(*args)
    except InputError as error:
        result = error
    return result, time.perf_counter() - start
