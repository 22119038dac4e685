"""A trace of some training steps, for Perfetto."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import jax

from jaxlung.train.epochs import Call

STEPS = 10


@contextlib.contextmanager
def trace_steps(
    calls: Iterator[Call], folder: Path, start_step: int, say: Callable[[str], None], *, on: bool
) -> Iterator[Iterator[Call]]:
    """The same calls; if `on`, those after the first, which compiles, are traced for STEPS steps.

    A trace that the run ends is written at the context's end.
    """
    if not on:
        yield calls
        return
    with contextlib.closing(_profiled(calls, folder, start_step, say)) as watched:
        yield watched


def _profiled(
    calls: Iterator[Call], folder: Path, start_step: int, say: Callable[[str], None]
) -> Generator[Call, None, None]:
    results: Any = None

    def watched(call: Call, step: int) -> Call:
        def run(state: Any) -> Any:
            nonlocal results
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state, results = call.run(state)
            return state, results

        return call._replace(run=run)

    step = start_step
    call = next(calls)
    yield watched(call, step)
    step += call.steps
    jax.block_until_ready(results)
    first = step
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # each Python call: minutes of writing, and nothing to see
    jax.profiler.start_trace(folder, create_perfetto_trace=True, profiler_options=options)
    try:
        while step < first + STEPS:
            call = next(calls)
            begun, step = step, step + call.steps  # before it: the run may end there
            yield watched(call, begun)
    finally:
        jax.block_until_ready(results)
        jax.profiler.stop_trace()
        trace = max(folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
        say(f"profile of {step - first} steps: open {trace} at https://ui.perfetto.dev")
    yield from calls
