"""Predicts a batch on Ray: films are read by tasks, predicted by actors, and written by tasks.

The driver keeps the journal, as a batch on one machine does, so `--resume` mends its death. Ray
gives what a lost machine held to another; an output that is written twice is the same.
"""

import dataclasses
import json
import logging
import os
import queue
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jaxlung.errors import InputError
from jaxlung.predict.batch.models import Models
from jaxlung.predict.batch.outputs import Job
from jaxlung.predict.batch.run import Results
from jaxlung.predict.batch.summary import Row, make_row
from jaxlung.predict.cluster.session import count_devices, open_session
from jaxlung.predict.cluster.stages import (
    Network,
    Plan,
    Scanner,
    encode_source,
    finish_block,
    prepare_block,
    with_weights,
    without_weights,
)
from jaxlung.predict.predictor import BATCH
from jaxlung.predict.stream import Done
from jaxlung.system.urls import redact

STALL_S = 900  # seconds without a film after which a batch is given up; compiling takes some
_BLOCKS = 2  # batches of a task, where there are many films: a task costs Ray some 10 ms
_ACTOR_CPUS = 0.1  # of Ray's account, not of the machine: if all actors move to one machine that is
# left, its tasks have to find room still


class PredictionFailed(InputError):
    """A film's error as it came from a worker."""

    def __init__(self, message: str, odd: Sequence[str]):
        super().__init__(message)
        self.warnings = list(odd)


def predict_on_ray(
    models: Models, jobs: Sequence[Job], address: str, *, stall_s: float = STALL_S
) -> Results:
    """Yields each image's and scan's row once its outputs are written, in any order.

    Args:
        address: of a cluster, as `open_session` takes it; "": Ray on this machine.
        stall_s: seconds without any result after which the batch is given up.

    Raises:
        InputError: Ray is not installed, no cluster answers, or the model cannot predict.
        OSError: the batch cannot go on: a bucket refuses, a disk is full, a worker does not see the
            folder of outputs, workers fail or stall.
    """
    if not jobs:
        return
    with open_session(address) as ray:
        options = jobs[0].options
        if bucket := options.bucket:  # without the names of what is there
            options = dataclasses.replace(options, bucket=bucket.at(bucket.stage))
        plan = Plan(options, without_weights(models), os.getcwd(), count_devices(ray))
        weights = [ray.put(with_weights(models))]  # in a list, so that it goes as a reference
        _set_up(ray)
        for is_volume in (False, True):
            chosen = [i for i, job in enumerate(jobs) if job.is_volume == is_volume]
            if chosen:
                build = _build_scans if is_volume else _build_images
                data = build(ray, jobs, chosen, plan, weights)
                for table in _take(data, stall_s):
                    yield from _results(jobs, table.to_pylist())


def _set_up(ray: Any) -> None:
    """Makes Ray Data quiet, and strict: no block may fail."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_auto_log_stats = False
    context.max_errored_blocks = 0
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _count_actors(ray: Any, plan: Plan) -> tuple[int, int]:
    """Returns how many actors the cluster takes, and the GPUs of each."""
    resources = ray.cluster_resources()
    if gpus := int(resources.get("GPU", 0)):
        return gpus, 1
    return max(1, int(resources.get("CPU", 1)) // plan.devices), 0


def _read(ray: Any, jobs: Sequence[Job], chosen: Sequence[int], rows: int) -> Any:
    """Makes the table of what is to be done, in blocks of so many rows."""
    items = [{"index": i, "source": encode_source(jobs[i].source)} for i in chosen]
    return ray.data.from_items(items, override_num_blocks=-(-len(items) // rows))


def _actors(ray: Any, plan: Plan, weights: Any, most: int) -> dict[str, Any]:
    """Returns what `map_batches` takes for a pool of actors.

    By Ray Data's defaults they are spread over the machines, and one that dies is started again,
    with what it held, without limit.
    """
    count, gpus = _count_actors(ray, plan)
    count = max(1, min(count, most))
    return {
        "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=count, initial_size=count),
        "fn_constructor_args": (plan, weights),
        "batch_format": "pyarrow",
        "num_cpus": _ACTOR_CPUS,
        "num_gpus": gpus,
    }


def _build_images(
    ray: Any, jobs: Sequence[Job], chosen: Sequence[int], plan: Plan, weights: Any
) -> Any:
    rows = BATCH * max(1, min(_BLOCKS, len(chosen) // (64 * BATCH)))
    each: dict[str, Any] = {
        "batch_size": None,
        "batch_format": "pyarrow",
        "fn_kwargs": {"plan": plan},
    }
    each |= {"num_cpus": 1 if plan.devices > 1 else 0.5}
    pool = _actors(ray, plan, weights, len(chosen) // rows)
    return (
        _read(ray, jobs, chosen, rows)
        .map_batches(prepare_block, **each)
        .map_batches(Network, batch_size=rows, **pool)
        .map_batches(finish_block, **each)
    )


def _build_scans(
    ray: Any, jobs: Sequence[Job], chosen: Sequence[int], plan: Plan, weights: Any
) -> Any:
    pool = _actors(ray, plan, weights, len(chosen))
    return _read(ray, jobs, chosen, 1).map_batches(Scanner, batch_size=1, **pool)


def _take(data: Any, stall_s: float) -> Iterator[Any]:
    """Yields the tables of a pipeline, and gives up one that brings nothing for so long."""
    waiting: queue.Queue[Any] = queue.Queue(maxsize=4)
    stopped = threading.Event()

    def follow() -> None:
        last: Any = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for table in data.iter_batches(batch_size=None, batch_format="pyarrow"):
                    while not stopped.is_set():
                        try:
                            waiting.put(table, timeout=1)
                            break
                        except queue.Full:
                            continue
                    if stopped.is_set():
                        return
        except BaseException as error:  # Ray's, of many kinds
            last = error
        waiting.put(last)

    # A daemon: a pipeline that hangs must not keep the process.
    threading.Thread(target=follow, daemon=True).start()
    try:
        while True:
            try:
                found = waiting.get(timeout=stall_s)
            except queue.Empty:
                raise OSError(
                    f"no film was finished for {stall_s:g} s; is there a worker left, and has it "
                    f"a GPU or cores? `ray status` tells"
                ) from None
            if found is None:
                return
            if isinstance(found, BaseException):
                raise OSError(_explain(found)) from None
            yield found
    finally:
        stopped.set()


def _explain(error: BaseException) -> str:
    """Says in one line why Ray gave up."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    if "ModuleNotFoundError" in str(error) and "jaxlung" in str(error):
        reason = "jaxlung is not installed on the cluster's machines, or another version"
    return f"Ray's workers failed: {redact(reason)[:300]}"


def _results(jobs: Sequence[Job], found: Iterable[dict[str, Any]]) -> Iterator[Done[Job, Row]]:
    for one in found:
        job, seconds = jobs[one["index"]], one["seconds"]
        if not one["failure"]:
            row = make_row(**json.loads(one["row"]))  # whose keys all rows share, for memory
            yield Done(job, row, seconds)
            continue
        failure = json.loads(one["failure"])
        if "ends" in failure:
            raise OSError(failure["ends"])
        if "refused" in failure:  # as the plain command raises it
            raise InputError(failure["refused"])
        yield Done(job, PredictionFailed(failure["error"], failure["warnings"]), seconds)
