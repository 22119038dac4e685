"""Times one contender in this process, and prints one line of JSON; `benchmarks/speed.py` calls it.

python -m benchmarks.peers.measure CONTENDER START [--FIELD=VALUE ...]; START is the time at which
the process was started, in seconds since the epoch.
"""

import argparse
import importlib
import json
import resource
import time
from collections.abc import Callable

import numpy as np

from benchmarks.peers.contender import Contender, Spec

# Name to module and mode.
CONTENDERS = {
    "jaxlung": ("jaxlung_unet", ""),
    "torch-eager": ("torch_unet", "eager-channels_last"),
    "torch-compile": ("torch_unet", "compile-channels_last"),
    "torch-eager-contiguous": ("torch_unet", "eager-contiguous"),
    "torch-compile-contiguous": ("torch_unet", "compile-contiguous"),
    "keras": ("keras_unet", ""),
    "monai": ("torch_unet", "monai-channels_last"),
}
BATCHES = (1, 8, 32)  # of prediction


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("start", type=float)
    for name, default in Spec()._asdict().items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = parser.parse_args()
    spec = Spec(*(getattr(arguments, name) for name in Spec._fields))
    module, mode = CONTENDERS[arguments.contender]
    contender: Contender = importlib.import_module(f"benchmarks.peers.{module}").build(spec, mode)
    print(json.dumps(measure(contender, spec, arguments.start)))


def measure(contender: Contender, spec: Spec, start: float) -> dict[str, float]:
    """Images a second of each task, seconds to the first step, peak memory in bytes."""
    contender.train()
    figures = {"first_step_seconds": time.time() - start}
    contender.train()  # some compile a second time
    figures["train"] = spec.batch / median_seconds(contender.train, 7)
    # PyTorch's compiled network recompiles for prediction: its own first time is not timed.
    for batch in BATCHES:
        image_BxSxS = np.random.default_rng(1).random((batch, spec.size, spec.size), np.float32)
        for _ in range(2):
            contender.predict(image_BxSxS)
        seconds = median_seconds(lambda x=image_BxSxS: contender.predict(x), 7)
        figures[f"predict_{batch}"] = batch / seconds
    used = contender.peak_bytes
    figures["peak_bytes"] = (
        used() if used else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {**figures, **contender.extra()}


def median_seconds(run: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
