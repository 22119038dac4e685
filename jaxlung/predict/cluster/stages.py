"""What the workers of a pipeline do: read and prepare, predict, write. Each gives a table back.

No film raises: one that fails has its row, and what ends the batch (a full disk, a bucket that
refuses, weights that are not finite) is told to the driver in a field of its own. So Ray sees no
failed block, of which a pipeline of workers is known to hang.
"""

import contextlib
import dataclasses
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxlung.errors import InputError, explain_os_error
from jaxlung.predict.batch.models import Models
from jaxlung.predict.batch.outputs import Job, Options
from jaxlung.predict.batch.sources import Source
from jaxlung.predict.batch.summary import JOURNAL
from jaxlung.predict.batch.work import (
    Ready,
    compute_batch,
    finish_image,
    predict_scan,
    prepare_image,
)
from jaxlung.predict.canvases import make_canvas_predictor
from jaxlung.predict.predictor import BATCH, Predictor
from jaxlung.predict.stream import timed
from jaxlung.system.urls import redact
from jaxlung.workdir.record import Contents

_WAITING = 8  # threads of a task that wait for a bucket

T = TypeVar("T")
R = TypeVar("R")


class Plan(NamedTuple):
    """What every worker has to know."""

    options: Options
    models: Models  # without their weights
    folder: str  # the driver's working directory, which relative paths start from
    devices: int  # cores that share a batch


def encode_source(source: Source) -> str:
    """Writes a source as JSON, as it travels."""
    path, member, name, *rest = source
    return json.dumps([str(path), member, str(name), *rest])


def _decode_source(text: str) -> Source:
    path, member, name, is_volume, url, mark, others = json.loads(text)
    return Source(Path(path), member, PurePosixPath(name), is_volume, url, mark, tuple(others))


def without_weights(models: Models) -> Models:
    """Returns the models as those need them that prepare and finish."""
    return Models(*(model and _strip(model, {}) for model in models))


def with_weights(models: Models) -> Models:
    """Returns the models with their weights, and without what cannot travel: the programs.

    An array of JAX would start it in the actor before its devices are set, so they become NumPy's.
    """
    return Models(
        *(model and _strip(model, jax.tree.map(np.asarray, model.variables)) for model in models)
    )


def _strip(model: Predictor, variables: Any) -> Predictor:
    return dataclasses.replace(
        model, variables=variables, predict_canvases=_no_program, data=Contents({})
    )


def _no_program(_: np.ndarray) -> np.ndarray:
    raise RuntimeError("a worker that has no weights was asked to predict")


def _restore(model: Predictor | None) -> Predictor | None:
    """Returns a model with its weights as one that predicts."""
    if model is None:
        return None
    return dataclasses.replace(
        model,
        predict_canvases=make_canvas_predictor(
            model.workdir, model.config, model.variables, model.members, model.tta
        ),
    )


@contextlib.contextmanager
def _jobs(plan: Plan, sources: Iterable[str]) -> Iterator[list[Job]]:
    """Yields the jobs of a task; what goes to a bucket is written to a folder of the task first."""
    with contextlib.ExitStack() as held:
        options = plan.options
        with contextlib.suppress(OSError):
            os.chdir(plan.folder)
        if options.bucket:
            stage = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="jaxlung-")))
            options = dataclasses.replace(options, out=stage, bucket=options.bucket.at(stage))
        yield [Job(_decode_source(text), options) for text in sources]


def _check_out_seen(options: Options) -> None:
    """Checks that this machine sees the folder that the driver writes to, by the driver's journal.

    Otherwise masks would be written to a folder of the same name on this machine, and be lost.

    Raises:
        OSError: it does not.
    """
    if options.bucket is None and not (options.out / JOURNAL).exists():
        raise OSError(
            f"{options.out} is not seen by the machine {socket.gethostname()}; give --out a folder "
            f"that all machines see, or a bucket"
        )


def _outcome(job: Job, function: Callable[..., R], *arguments: Any) -> tuple[R | None, str, float]:
    """Calls a function; returns its result, or what went wrong as JSON, and the seconds."""
    try:
        _check_out_seen(job.options)
        result, seconds = timed(function, *arguments)
    except OSError as error:  # ends the batch
        told = job.options.tell(redact(explain_os_error(error)))
        return None, json.dumps({"ends": told}), 0.0
    if isinstance(result, InputError):
        odd = getattr(result, "warnings", [])
        return None, json.dumps({"error": job.options.tell(result), "warnings": odd}), seconds
    return result, "", seconds


def _map(function: Callable[[T], R], items: Sequence[T], waits: bool) -> list[R]:
    """Calls a function for each item; in threads where they wait for a bucket."""
    if not waits:
        return [function(item) for item in items]
    with ThreadPoolExecutor(_WAITING) as threads:
        return list(threads.map(function, items))


def prepare_block(table: Any, plan: Plan) -> Any:
    """Reads films: adds their canvases, and all that the last stage needs of them."""
    import pyarrow as pa
    from ray import cloudpickle

    with _jobs(plan, table["source"].to_pylist()) as jobs:

        def prepare(job: Job) -> tuple[bytes, bytes, int, str, float]:
            ready, failure, seconds = _outcome(job, prepare_image, plan.models, job)
            if ready is None:
                return b"", b"", 0, failure, seconds
            canvas = ready.prepared.canvas
            number = plan.models.known.index(ready.model)
            kept = ready.prepared._replace(canvas=canvas[:0]), ready.stamp
            return canvas.tobytes(), cloudpickle.dumps(kept), number, failure, seconds

        waits = any(job.source.url for job in jobs)
        canvases, films, numbers, failures, seconds = zip(*_map(prepare, jobs, waits), strict=True)
    return pa.table(
        {
            "index": table["index"],
            "source": table["source"],
            "canvas": pa.array(canvases, pa.large_binary()),
            "film": pa.array(films, pa.large_binary()),
            "model": pa.array(numbers, pa.int8()),
            "failure": pa.array(failures, pa.string()),
            "seconds": pa.array(seconds, pa.float64()),
        }
    )


def load_in_actor(plan: Plan, models: Any) -> Models:
    """Sets up JAX in an actor's process, and returns the models, ready to predict.

    Args:
        models: the reference of `with_weights`.
    """
    import ray

    from jaxlung.system.start import start_process

    jax.config.update("jax_num_cpu_devices", plan.devices)
    start_process()
    return Models(*map(_restore, ray.get(models[0])))


class Network:
    """An actor: predicts canvases in batches of one shape, on a GPU or a group of cores."""

    def __init__(self, plan: Plan, models: Any):
        self._models = load_in_actor(plan, models)

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        models = self._models.known
        canvases = []
        for data, number in zip(table["canvas"], table["model"].to_pylist(), strict=True):
            if raw := data.as_buffer():
                model, size = models[number], models[number].config.data.size
                canvas_SxS = np.frombuffer(raw, np.uint8).reshape(size, size)
                prepared = SimpleNamespace(canvas=canvas_SxS)  # as much of it as is needed
                canvases.append(SimpleNamespace(model=model, prepared=prepared))
        found, seconds = timed(_compute, self._models, canvases)
        failure = ""
        if isinstance(found, InputError):  # of weights that are not finite: no film can go on
            failure, found = json.dumps({"refused": str(found)}), []
        each = seconds / max(1, len(canvases))
        probabilities = iter(found)
        filled = [b"" if not c.as_buffer() else next(probabilities, b"") for c in table["canvas"]]
        failures = [old or failure for old in table["failure"].to_pylist()]
        spent = [before + each for before in table["seconds"].to_pylist()]
        return (
            table.drop_columns(["canvas", "failure", "seconds"])
            .append_column("probability", pa.array(filled, pa.large_binary()))
            .append_column("failure", pa.array(failures, pa.string()))
            .append_column("seconds", pa.array(spent, pa.float64()))
        )


def _compute(models: Models, canvases: Sequence[Any]) -> list[bytes]:
    batches = (canvases[i : i + BATCH] for i in range(0, len(canvases), BATCH))
    return [
        np.ascontiguousarray(one, np.float32).tobytes()
        for batch in batches
        for one in compute_batch(models, BATCH, batch)
    ]


def finish_block(table: Any, plan: Plan) -> Any:
    """Writes the outputs of films that the network has seen; gives the rows, as JSON."""
    import pyarrow as pa
    from ray import cloudpickle

    films, probabilities = table["film"], table["probability"]
    numbers, failures = table["model"].to_pylist(), table["failure"].to_pylist()
    spent = table["seconds"].to_pylist()
    with _jobs(plan, table["source"].to_pylist()) as jobs:

        def finish(i: int) -> tuple[str, str, float]:
            if failures[i]:
                return "", failures[i], spent[i]
            prepared, stamp = cloudpickle.loads(films[i].as_buffer())
            model = plan.models.known[numbers[i]]
            size = model.config.data.size
            raw = probabilities[i].as_buffer()
            probability_SxS = np.frombuffer(raw, np.float32).reshape(size, size)
            ready = Ready(jobs[i], model, prepared, stamp)
            row, failure, seconds = _outcome(jobs[i], finish_image, ready, probability_SxS)
            return json.dumps(row) if row else "", failure, spent[i] + seconds

        waits = plan.options.bucket is not None
        return _as_rows(pa, table["index"], _map(finish, range(len(jobs)), waits))


class Scanner:
    """An actor: predicts whole CT scans, from file to mask, on a GPU or a group of cores."""

    def __init__(self, plan: Plan, models: Any):
        self._plan, self._models = plan, load_in_actor(plan, models)

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        with _jobs(self._plan, table["source"].to_pylist()) as jobs:
            found = []
            for job in jobs:
                row, failure, seconds = _outcome(job, predict_scan, self._models, job)
                found.append((json.dumps(row) if row else "", failure, seconds))
        return _as_rows(pa, table["index"], found)


def _as_rows(pa: Any, index: Any, found: Sequence[tuple[str, str, float]]) -> Any:
    rows, failures, seconds = zip(*found, strict=True)
    return pa.table(
        {
            "index": index,
            "row": pa.array(rows, pa.string()),
            "failure": pa.array(failures, pa.string()),
            "seconds": pa.array(seconds, pa.float64()),
        }
    )
