"""How cost grows: python benchmarks/speed/growth.py [--out DIR]

Seconds and memory (arguments and temporaries, of XLA's own account) of a training step and of a
prediction against image side, batch and width, each beside the expected law through its last point,
and of prediction against the number of images. Writes DIR/growth.json and DIR/growth.png.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from jaxlung import steps
from jaxlung.config import ModelConfig
from jaxlung.devices.mesh import (
    jit_init,
    jit_predict_step,
    jit_train_step,
    make_mesh,
    replicated,
    to_devices,
)
from jaxlung.forward import predict_step
from jaxlung.model import build_model
from jaxlung.system.start import keep_freed_memory, use_cores


class Cost(NamedTuple):
    seconds: float
    mib: float  # of the first device


# Values, and the power with which cost is expected to grow.
AXES = {
    "size": ((128, 256, 512, 1024), 2),
    "batch": ((2, 4, 8, 16, 32), 1),
    "width": ((8, 16, 32, 64), 2),
}
COUNTS = (8, 32, 128, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/growth"))
    arguments = parser.parse_args()
    keep_freed_memory()
    use_cores(2)
    found: dict[str, Any] = {"train": {}, "predict": {}}
    for axis, (values, _) in AXES.items():
        for task in found:
            found[task][axis] = [cost(task, **{axis: value}) for value in values]
            print(task, axis, found[task][axis], flush=True)
    found["predict"]["images"] = [predict_many(count) for count in COUNTS]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "growth.json").write_text(json.dumps(found))
    draw(found, arguments.out / "growth.png")


@functools.cache
def programs(task: str, size: int = 256, batch: int = 8, width: int = 16) -> Any:
    """A compiled call and its memory in MiB."""
    model = build_model(ModelConfig(width=width))
    mesh = make_mesh(batch)
    recipe = steps.Recipe(model, optax.adam(1e-3))
    init = functools.partial(steps.init_state, recipe=recipe, size=size)
    state = jit_init(init, mesh)(jax.random.key(0))
    plane = np.random.default_rng(0).integers(0, 255, (batch, size, size)).astype(np.uint8)
    labelled = np.ones((batch, 1), bool)
    arrays = to_devices({"image": plane, "mask": plane[..., None], "labelled": labelled}, mesh)
    if task == "train":
        step = functools.partial(steps.train_step, recipe=recipe)
        key = jax.random.key(0)
        jitted = jit_train_step(step, mesh, replicated(mesh))
        program = jitted.lower(state, arrays, key).compile()

        def call() -> None:
            nonlocal state
            state, metrics = program(state, arrays, key)
            float(metrics["loss"])
    else:
        predict = functools.partial(predict_step, model=model)
        inputs = ({"params": state.params, "batch_stats": {}}, arrays["image"])
        program = jit_predict_step(predict).lower(*inputs).compile()

        def call() -> None:
            np.asarray(program(*inputs))

    account = program.memory_analysis()
    return call, (account.temp_size_in_bytes + account.argument_size_in_bytes) / 2**20


def cost(task: str, **fields: int) -> Cost:
    call, mib = programs(task, **fields)
    call()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Cost(float(np.median(seconds)), mib)


def predict_many(count: int) -> Cost:
    """`count` images in batches of 8."""
    call, mib = programs("predict")
    call()  # the program's first
    start = time.perf_counter()
    for _ in range(count // 8):
        call()
    return Cost(time.perf_counter() - start, mib)


def draw(found: dict[str, Any], path: Path) -> None:
    """Two rows, seconds and memory; a column for each axis."""
    columns = [*AXES, "images"]
    figure, panels = plt.subplots(2, 4, figsize=(14, 6.5))
    for column, axis in enumerate(columns):
        values, power = AXES.get(axis, (COUNTS, 1))
        x = np.array(values, float)
        for row, name in enumerate(("seconds", "mib")):
            panel = panels[row, column]
            for task, colour in (("train", "#1f77b4"), ("predict", "#ff7f0e")):
                if axis not in found[task]:
                    continue
                y = np.array([getattr(one, name) for one in found[task][axis]])
                expected = power if (axis, name) != ("width", "mib") else 1
                expected = 0 if (axis, name) == ("images", "mib") else expected
                panel.plot(x, y, "o-", color=colour, label=task)
                panel.plot(x, y[-1] * (x / x[-1]) ** expected, "--", color=colour, alpha=0.5)
                panel.set_title(f"{name.replace('mib', 'MiB')}, expected {axis}^{expected}")
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xlabel(axis)
            panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
