"""A trace of some training steps, for Perfetto."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

STEPS = 10


class StepTrace:
    """A context that traces the calls after a run's first, which compiles, for STEPS steps.

    A trace that the run's end cuts short is written at the context's end.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], *, on: bool):
        self._folder, self._say = folder, say
        self._on = on  # until the trace is written
        self._traced: int | None = None  # steps; None: not begun
        self._results: Any = None

    def __enter__(self) -> "StepTrace":
        return self

    def __exit__(self, *error: object) -> None:
        if self._traced is not None:
            self._write()

    def after(self, steps: int, results: Any) -> None:
        """Takes notice of a call of so many steps, which has been dispatched."""
        if not self._on:
            return
        self._results = results
        if self._traced is None:
            self._begin()
        else:
            self._traced += steps
            if self._traced >= STEPS:
                self._write()

    def _begin(self) -> None:
        jax.block_until_ready(self._results)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # each Python call: minutes of writing, nothing to see
        jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
        self._traced = 0

    def _write(self) -> None:
        jax.block_until_ready(self._results)
        jax.profiler.stop_trace()
        traces = self._folder.rglob("perfetto_trace.json.gz")
        newest = max(traces, key=lambda path: path.stat().st_mtime)
        self._say(f"profile of {self._traced} steps: open {newest} at https://ui.perfetto.dev")
        self._on, self._traced = False, None
