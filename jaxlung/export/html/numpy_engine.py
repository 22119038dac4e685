"""Runs a plan by numpy, to compare it with JAX before a page is written.

It does what engine.c does, on the same memory by the same strides, so that a plan that reads a
wrong place is found. `tests/export/html` compares engine.wasm itself, in a browser.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided
from scipy.special import expit

from jaxlung.export.check import compare
from jaxlung.export.exported import Exported
from jaxlung.export.html.plan import LANES, STACK, Plan, pad
from jaxlung.structures import mirror_order

_EPSILON = 1e-6  # as in engine.c


def compare_plan(exported: Exported, plan: Plan, tolerance: float) -> float:
    """Runs a plan on phantoms and compares it with JAX.

    Returns and Raises: as `check.compare`.
    """
    config = exported.model.config
    size, outputs = config.data.size, config.model.outputs
    order = list(mirror_order(outputs))

    def run_each(canvas_BxSxS: np.ndarray) -> np.ndarray:
        return np.stack([run_plan(plan, canvas, size, len(outputs)) for canvas in canvas_BxSxS])

    def run(canvas_BxSxS: np.ndarray) -> dict[str, np.ndarray]:
        planes = run_each(canvas_BxSxS)
        if exported.model.tta:
            mirrored = run_each(canvas_BxSxS[..., ::-1])[:, :, ::-1]
            planes = (planes + mirrored[..., order]) / 2
        return {name: planes[..., i] for i, name in enumerate(outputs)}

    return compare(exported, run, tolerance)


def run_plan(plan: Plan, canvas_SxS: np.ndarray, size: int, outputs: int) -> np.ndarray:
    """Returns probabilities, float32 [S, S, outputs], of a canvas, uint8 [S, S]."""
    memory = np.zeros(plan.image // 4, np.float32)
    total = np.zeros((size, size, outputs), np.float32)
    for kernels, vectors in zip(plan.kernels, plan.vectors, strict=True):
        start = STACK // 4
        kernels = kernels.astype(np.float16).astype(np.float32)
        memory[start : start + kernels.size] = kernels
        memory[start + kernels.size : start + kernels.size + vectors.size] = vectors
        for name, *given in plan.steps:
            arguments = [int(value) for value in given]
            if name == "normalize":
                _normalize(memory, canvas_SxS, *map(int, arguments))
            else:
                _OPERATIONS[str(name)](memory, *arguments)
        pixel = pad(outputs)
        row = (size + 2) * pixel
        logits = _view(memory, plan.logits, (size, row), (size, pixel), (outputs, 1))
        total += expit(logits)
    return total / len(plan.kernels)


def _view(memory: np.ndarray, place: int, *axes: tuple[int, int]) -> np.ndarray:
    """Returns a part of the memory by the length and the stride of each axis."""
    shape, strides = zip(*axes, strict=True)
    return as_strided(memory[place:], shape, [4 * stride for stride in strides])


def _normalize(
    memory: np.ndarray,
    canvas_SxS: np.ndarray,
    y: int,
    height: int,
    width: int,
    row: int,
    standardize: int,
) -> None:
    image = canvas_SxS.astype(float) / 255
    if standardize:
        image = (image - image.mean()) / np.sqrt(image.var() + _EPSILON)
    _view(memory, y, (height, row), (width, 1))[...] = image


def _convolve(memory: np.ndarray, *arguments: int) -> None:
    x, kernel, bias, y, height, width, channels, features, side, *strides = arguments
    x_row, x_pixel, tap_row, tap_pixel, y_row, y_pixel = strides
    axes = (height, x_row), (width, x_pixel), (side, tap_row), (side, tap_pixel), (channels, 1)
    taps = side * side * channels
    patches = _view(memory, x, *axes).reshape(height * width, taps)
    blocks = _view(memory, kernel, (features // LANES, taps * LANES), (taps, LANES), (LANES, 1))
    result = patches @ blocks.transpose(1, 0, 2).reshape(taps, features)
    if bias:
        result += memory[bias : bias + features]
    place = _view(memory, y, (height, y_row), (width, y_pixel), (features, 1))
    place[...] = result.reshape(height, width, features)


def _group_statistics(memory: np.ndarray, *arguments: int) -> None:
    x, scale, bias, factor, offset, height, width, channels, groups, row, pixel = arguments
    values = _view(memory, x, (height, row), (width, pixel), (channels, 1)).astype(float)
    values = values.reshape(height, width, groups, -1)
    mean, variance = values.mean((0, 1, 3)), values.var((0, 1, 3))
    each = channels // groups
    factors = memory[scale : scale + channels] / np.repeat(np.sqrt(variance + _EPSILON), each)
    memory[factor : factor + channels] = factors
    shift = memory[bias : bias + channels] - np.repeat(mean, each) * factors
    memory[offset : offset + channels] = shift


def _scale_and_relu(memory: np.ndarray, *arguments: int) -> None:
    x, factor, offset, height, width, channels, row, pixel = arguments
    values = _view(memory, x, (height, row), (width, pixel), (channels, 1))
    scaled = values * memory[factor : factor + channels] + memory[offset : offset + channels]
    values[...] = np.maximum(scaled, 0)


def _pool(memory: np.ndarray, *arguments: int) -> None:
    x, y, height, width, channels, x_row, x_pixel, y_row, y_pixel = arguments
    axes = (height, 2 * x_row), (2, x_row), (width, 2 * x_pixel), (2, x_pixel), (channels, 1)
    place = _view(memory, y, (height, y_row), (width, y_pixel), (channels, 1))
    place[...] = _view(memory, x, *axes).max((1, 3))


_OPERATIONS: dict[str, Callable[..., None]] = {
    "convolve": _convolve,
    "group_statistics": _group_statistics,
    "scale_and_relu": _scale_and_relu,
    "pool": _pool,
}
