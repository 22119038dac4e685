"""Writes a model as StableHLO, which `jax.export` reads where jaxlung is not installed."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.export.check import compare
from jaxlung.export.exported import Exported, count_channels, is_kernel
from jaxlung.forward import mean_of_members, predict_step
from jaxlung.model import build_model
from jaxlung.structures import mirror_order
from jaxlung.system.files import write_json, write_whole

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-5  # of a probability: XLA computes both


def write_stablehlo(exported: Exported, out: Path) -> str:
    """Writes the file, and OUT.json with what it has no place for; whole or not at all.

    Returns:
        How it was checked, in words.

    Raises:
        InputError: it computes other probabilities.
    """
    from jax import export

    size, channels = exported.model.config.data.size, count_channels(exported.model)
    sides = f"{size}, {size}, {channels}" if channels > 1 else f"{size}, {size}"
    canvas = jax.ShapeDtypeStruct(export.symbolic_shape(f"batch, {sides}"), np.uint8)
    written = export.export(jax.jit(_make_function(exported)), platforms=PLATFORMS)(canvas)
    beside = out.with_name(f"{out.name}.json")
    with write_whole(beside) as partial_json, write_whole(out) as partial:
        write_json(partial_json, exported.about)
        partial.write_bytes(written.serialize())
        reloaded = export.deserialize(bytearray(partial.read_bytes()))
        difference = compare(exported, reloaded.call, TOLERANCE)
    return f"for {', '.join(PLATFORMS)}, on phantoms within {difference:.0e} of jaxlung"


def _make_function(exported: Exported) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """Makes the function that is written: canvases in, probabilities of each output by name."""
    model = exported.model
    outputs = model.config.model.outputs
    step = functools.partial(
        predict_step,
        # As for an image on several devices: plain convolutions, which all platforms have. Which
        # of its own a CPU would take depends on the batch, and that is not known here.
        model=build_model(model.config.model, split=True, drawn=False),
        tta=model.tta,
        mirror=mirror_order(outputs),
    )
    whole = step if model.members == 1 else mean_of_members(step)

    def keep(path: Any, array: Any) -> np.ndarray:
        is_half = exported.float16 and is_kernel(path[-1].key)
        return np.asarray(array).astype(np.float16 if is_half else np.float32)

    kept = jax.tree.map_with_path(keep, model.variables)

    def find_probability(canvas_BxSxS: jax.Array) -> dict[str, jax.Array]:
        variables = jax.tree.map(lambda array: jnp.asarray(array).astype(np.float32), kept)
        probability_BxSxSxC = whole(variables, canvas_BxSxS)
        return {name: probability_BxSxSxC[..., i] for i, name in enumerate(outputs)}

    return find_probability
