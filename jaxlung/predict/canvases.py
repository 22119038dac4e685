"""From canvases to probabilities, on all devices or all cores of this process."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlung.config import Config, ModelConfig
from jaxlung.devices.mesh import jit_predict_step, make_mesh, replicated, to_devices
from jaxlung.errors import InputError
from jaxlung.forward import mean_of_members, predict_step
from jaxlung.model import build_model
from jaxlung.structures import mirror_order
from jaxlung.system.start import is_count_given
from jaxlung.system.threads import count_cores, largest_divisor


def make_canvas_predictor(
    workdir: Path, config: Config, variables: Any, members: int, tta: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes the function `Predictor.predict_canvases` of these variables.

    A batch is split over the devices. Where nobody has said how many there are, as in a Python that
    was not started by a command, the processor is one device, and threads share it: one program
    leaves most of its cores idle. An image with its mirror image counts as two, where there are
    devices or cores enough.
    """
    devices = jax.local_devices()
    on_threads = len(devices) == 1 and devices[0].platform == "cpu" and not is_count_given()
    places = count_cores() if on_threads else len(devices)
    mirror = list(mirror_order(config.model.outputs))
    run_parts = _run_in_threads(variables) if on_threads else _run_on_devices(variables, devices)

    def run(canvas_BxSxS: np.ndarray, tta: bool) -> np.ndarray:
        compiled = _jit_predict(config.model, tta, members > 1)
        return run_parts(compiled, canvas_BxSxS, largest_divisor(len(canvas_BxSxS), places))

    def predict_canvases(canvas_BxSxS: np.ndarray) -> np.ndarray:
        if tta and 2 * len(canvas_BxSxS) <= places:
            pairs_BxSxS = np.concatenate([canvas_BxSxS, canvas_BxSxS[:, :, ::-1]])
            straight_BxSxSxC, mirrored_BxSxSxC = np.split(run(pairs_BxSxS, tta=False), 2)
            probability_BxSxSxC = (
                straight_BxSxSxC + mirrored_BxSxSxC[:, :, ::-1, mirror]
            ) / np.float32(2)
        else:
            probability_BxSxSxC = run(canvas_BxSxS, tta)
        if not np.isfinite(probability_BxSxSxC).all():  # it would pass for a mask without lung
            raise InputError(f"{workdir}: the model's output is not finite; retrain it")
        return probability_BxSxSxC

    return predict_canvases


RunParts = Callable[[Callable[..., Any], np.ndarray, int], np.ndarray]


def _run_on_devices(variables: Any, devices: Sequence[jax.Device]) -> RunParts:
    @functools.cache
    def place(count: int) -> tuple[Any, jax.sharding.Mesh]:
        """Returns the variables on the first `count` devices; each count keeps its own copy."""
        mesh = make_mesh(count, list(devices[:count]))
        return jax.device_put(variables, replicated(mesh)), mesh

    def run_parts(compiled: Callable[..., Any], canvas_BxSxS: np.ndarray, count: int) -> np.ndarray:
        placed, mesh = place(count)
        return np.asarray(compiled(placed, to_devices({"image": canvas_BxSxS}, mesh)["image"]))

    return run_parts


def _run_in_threads(variables: Any) -> RunParts:
    @functools.cache
    def place() -> Any:
        return jax.device_put(variables)

    ran: set[Any] = set()

    def run_parts(compiled: Callable[..., Any], canvas_BxSxS: np.ndarray, count: int) -> np.ndarray:
        placed, parts = place(), np.split(canvas_BxSxS, count)
        program = compiled, parts[0].shape
        # What JAX dispatches from one thread runs one after another. The first parts of a shape do
        # so anyway: threads that come at once would each compile it.
        each: Any = _threads().map if count > 1 and program in ran else map
        found = list(each(lambda part: np.asarray(compiled(placed, part)), parts))
        ran.add(program)
        return np.concatenate(found) if count > 1 else found[0]

    return run_parts


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Returns the threads in which parts of a batch run: one a core, shared by all models."""
    return ThreadPoolExecutor(count_cores(), thread_name_prefix="jaxlung-predict")


@functools.lru_cache(maxsize=32)
def _jit_predict(model: ModelConfig, tta: bool, several: bool) -> Callable[..., Any]:
    """Jits the prediction by one or several members.

    Models of one network share it, and its programs: each compiles once, however many are loaded.
    """
    step = functools.partial(
        predict_step,
        model=build_model(model, drawn=False),
        tta=tta,
        mirror=mirror_order(model.outputs),
    )
    return jit_predict_step(mean_of_members(step) if several else step)
