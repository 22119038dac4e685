"""Predicts in the background: first what the page asks for, then the rest of the list."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from jaxlung.errors import print_error

_QUIET_S = 0.15  # after a request, before the list goes on: the next one may be on its way


class Worker:
    """Two threads: one goes through the list, and one has time for what is asked for.

    A scan takes many seconds, and a film that is asked for meanwhile does not wait for it.
    """

    def __init__(
        self, ids: Sequence[str], is_done: Callable[[str], bool], work: Callable[[str], None]
    ):
        """Begins nothing yet.

        Args:
            ids: of the films, in the list's order.
            is_done: whether a film needs no work.
            work: does it; called in a thread, for one film at a time each.
        """
        self._is_done, self._work = is_done, work
        self._asked: list[str] = []
        self._rest = iter(ids)
        self._under_way: set[str] = set()
        self._stopping = False
        self._changed = threading.Condition()
        self._requests, self._last_request = 0, 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(takes_rest,), daemon=True)
            for takes_rest in (True, False)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, wait_s: float = 10) -> None:
        """Ends the threads after what they are doing."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(wait_s)

    def ask(self, ids: Sequence[str]) -> None:
        """Puts films before all others, in this order."""
        with self._changed:
            self._asked = [*ids, *(i for i in self._asked if i not in ids)]
            self._changed.notify_all()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Lets the list wait while a request of the page is answered, and a moment longer."""
        with self._changed:
            self._requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1
                self._last_request = time.monotonic()

    def _run(self, takes_rest: bool) -> None:
        while (film_id := self._next(takes_rest)) is not None:
            try:
                self._work(film_id)
            except Exception as error:  # of the disk, say: the film is asked for again
                print_error(f"film {film_id}: {type(error).__name__}: {error}")
                time.sleep(1)
            finally:
                with self._changed:
                    self._under_way.discard(film_id)
                    self._changed.notify_all()

    def _next(self, takes_rest: bool) -> str | None:
        """Waits for the next film to work on; None: no more."""
        with self._changed:
            while not self._stopping:
                while self._asked:
                    film_id = self._asked.pop(0)
                    if film_id not in self._under_way and not self._is_done(film_id):
                        self._under_way.add(film_id)
                        return film_id
                quiet_s = time.monotonic() - self._last_request
                if takes_rest and (self._requests or quiet_s < _QUIET_S):
                    self._changed.wait(_QUIET_S)
                    continue
                for film_id in self._rest if takes_rest else ():
                    if film_id not in self._under_way and not self._is_done(film_id):
                        self._under_way.add(film_id)
                        return film_id
                self._changed.wait()
            return None
