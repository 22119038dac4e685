"""SIGTERM, which schedulers and clouds send before they take a machine: save, then leave."""

import itertools
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

# JAX names one of the steps to come for all processes to stop at. Those of one run may end before
# it, and an ensemble goes on with the next run: the numbers go on too.
_step_numbers = itertools.count(1)


class Stop:
    """Knows whether SIGTERM has come; a context, after which the signal acts as before.

    Over several processes JAX hears the signal of any of them, and all stop at the same step.
    """

    def __init__(self) -> None:
        self.asked = False
        self._many = jax.process_count() > 1
        self._before: object = None

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)  # type: ignore[arg-type]

    def listen(self) -> None:
        """Makes SIGTERM ask; until then it ends the process, which has nothing to lose."""
        # The main thread alone may handle signals.
        in_main = threading.current_thread() is threading.main_thread()
        if self._before is None and in_main and not self._many:
            self._before = signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def after(self, steps: int) -> bool:
        """Returns whether to stop after so many more steps; all processes agree."""
        if self._many:
            # JAX hears of each step, as it names one of them for all to stop at.
            self.asked |= any([_agreed(next(_step_numbers)) for _ in range(steps)])
        return self.asked


def _agreed(step: int) -> bool:
    try:
        return bool(multihost_utils.reached_preemption_sync_point(step))
    except RuntimeError:  # switched off: jax_enable_preemption_service
        return False
