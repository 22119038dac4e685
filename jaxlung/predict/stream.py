"""Reading in threads while the device works, and finishing in threads after it. No JAX here."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from jaxlung.errors import InputError

T = TypeVar("T")
P = TypeVar("P")
C = TypeVar("C")
R = TypeVar("R")


def stream(
    items: Iterable[T],
    prepare: Callable[[T], P],
    compute: Callable[[Sequence[P]], Iterable[C]],
    finish: Callable[[P, C], R],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[tuple[T, R | InputError]]:
    """Each item and what became of it, in order; an item's InputError takes its result's place.

    `prepare` and `finish` run in threads; `compute` in the caller's, on up to batch_size prepared
    items at once. At most two batches and a few items are held at a time, however many there are
    and however slowly the results are taken.
    """
    left = iter(items)
    reading: deque[tuple[T, Future[P | InputError]]] = deque()
    finishing: deque[tuple[T, Future[R | InputError]]] = deque()

    with ThreadPoolExecutor(workers) as readers, ThreadPoolExecutor(workers) as finishers:

        def read_ahead() -> None:
            while len(reading) < batch_size + workers:
                try:
                    item = next(left)
                except StopIteration:
                    return
                reading.append((item, readers.submit(_caught, prepare, item)))

        try:
            read_ahead()
            while reading:
                batch: list[tuple[T, P | InputError]] = []
                prepared: list[P] = []
                while reading and len(prepared) < batch_size and len(batch) < 2 * batch_size:
                    item, future = reading.popleft()
                    found = future.result()
                    batch.append((item, found))
                    if not isinstance(found, InputError):
                        prepared.append(found)
                    read_ahead()
                computed = iter(compute(prepared) if prepared else ())
                for item, found in batch:
                    if isinstance(found, InputError):
                        failed: Future[R | InputError] = Future()
                        failed.set_result(found)
                        finishing.append((item, failed))
                    else:
                        done = finishers.submit(_caught, finish, found, next(computed))
                        finishing.append((item, done))
                del batch, prepared, computed
                while len(finishing) > batch_size:
                    yield _result(finishing)
            while finishing:
                yield _result(finishing)
        finally:  # closed early, or failed: what has not begun is not begun
            readers.shutdown(wait=False, cancel_futures=True)
            finishers.shutdown(wait=False, cancel_futures=True)


def _result(finishing: deque[tuple[T, Future[R | InputError]]]) -> tuple[T, R | InputError]:
    item, future = finishing.popleft()
    return item, future.result()


def _caught(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except InputError as error:
        return error
