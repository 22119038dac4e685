"""Times one contender in this process, and prints one line of JSON; `speed.py` calls it.

python -m benchmarks.speed.peers.measure CONTENDER START
    [--tasks train,predict,start,memory,augmented] [--runs 7] [--FIELD=VALUE ...]

START is the time at which the process was started, in seconds since the epoch. With
`--tasks first-prediction` the process predicts a single image and does nothing else.
"""

import argparse
import functools
import importlib
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.peers.contender import Contender, Spec

# Name to module and mode.
CONTENDERS = {
    "jaxlung": ("jaxlung_unet", ""),
    "torch-eager-contiguous": ("torch_unet", "eager-contiguous"),
    "torch-eager-channels-last": ("torch_unet", "eager-channels_last"),
    "torch-compile-contiguous": ("torch_unet", "compile-contiguous"),
    "torch-compile-channels-last": ("torch_unet", "compile-channels_last"),
    "keras": ("keras_unet", ""),
    "monai": ("torch_unet", "monai-channels_last"),
}
BATCHES = (1, 8, 32)  # of prediction
RUNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("start", type=float)
    parser.add_argument("--tasks", default="train,predict,start,memory,augmented")
    parser.add_argument("--runs", type=int, default=RUNS, help="timed, after two that are not")
    for name, default in Spec()._asdict().items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = parser.parse_args()
    spec = Spec(*(getattr(arguments, name) for name in Spec._fields))
    module, mode = CONTENDERS[arguments.contender]
    contender: Contender = importlib.import_module(f"benchmarks.speed.peers.{module}").build(
        spec, mode
    )
    tasks = set(arguments.tasks.split(","))
    print(json.dumps(measure(contender, spec, arguments.start, tasks, arguments.runs)))


def measure(
    contender: Contender, spec: Spec, start: float, tasks: set[str], runs: int = RUNS
) -> dict[str, Any]:
    """Measures images a second of each task, seconds to the first results, peak memory in bytes.

    `seconds` holds the time of each call, by task.
    """
    if tasks == {"first-prediction"}:
        contender.predict(images(1, spec.size))
        return {"first_prediction_seconds": time.time() - start}
    figures: dict[str, Any] = {}
    blocks: dict[str, list[float]] = {}
    if tasks & {"train", "start"}:
        contender.train()
        if "start" in tasks:
            figures["first_step_seconds"] = time.time() - start
    if "train" in tasks:
        contender.train()  # some compile a second time
        blocks["train"] = seconds_of(contender.train, runs)
        figures["train"] = spec.batch / float(np.median(blocks["train"]))
        figures["peak_train_bytes"] = peak_bytes(contender)
    if "predict" in tasks:
        for batch in BATCHES:
            image_BxSxS = images(batch, spec.size)
            for _ in range(2):
                contender.predict(image_BxSxS)
            seconds = seconds_of(functools.partial(contender.predict, image_BxSxS), runs)
            blocks[f"predict_{batch}"] = seconds
            figures[f"predict_{batch}"] = batch / float(np.median(seconds))
    figures["peak_bytes"] = peak_bytes(contender)
    if "memory" not in tasks:
        figures = {name: value for name, value in figures.items() if not name.startswith("peak")}
    if "augmented" in tasks:
        figures |= contender.extra()
    return {**figures, "seconds": blocks}


def images(batch: int, size: int) -> np.ndarray:
    return np.random.default_rng(1).random((batch, size, size), np.float32)


def peak_bytes(contender: Contender) -> int:
    """Returns the most memory that the process, or the accelerator, has held so far."""
    if contender.peak_bytes is not None:
        return contender.peak_bytes()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds_of(run: Callable[[], object], runs: int) -> list[float]:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    main()
