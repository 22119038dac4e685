"""Compares a written model with JAX, before it is named done."""

from collections.abc import Callable, Mapping

import numpy as np

from jaxlung.errors import InputError
from jaxlung.export.exported import Exported
from jaxlung.preprocess import to_canvas

# Probabilities [B, S, S] by output, of canvases uint8 [B, S, S].
Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]

_PHANTOMS = 4


def make_canvases(size: int) -> np.ndarray:
    """Makes canvases to compare on, uint8 [B, S, S]: simulated films.

    A blank one is left out: on it features hardly vary, and runtimes lose digits as they bring them
    to unit variance.
    """
    import jax

    from jaxlung import phantom

    multiple = -(-size // 16) * 16  # as phantoms have it
    films, _ = phantom.radiographs(jax.random.key(0), _PHANTOMS, size=multiple)
    return np.stack([to_canvas(np.asarray(film), size=size)[0] for film in films])


def compare(exported: Exported, run: Run, tolerance: float) -> float:
    """Runs what was written on phantoms, one and several at once, and compares it with JAX.

    Returns:
        The largest difference of a probability.

    Raises:
        InputError: a probability differs by more than the tolerance.
    """
    config = exported.model.config
    canvas_BxSxS = make_canvases(config.data.size)
    truth_BxSxSxC = exported.model.predict_canvases(canvas_BxSxS)
    largest = 0.0
    for count in (1, len(canvas_BxSxS)):
        found = run(canvas_BxSxS[:count])
        for i, name in enumerate(config.model.outputs):
            difference = np.abs(found[name] - truth_BxSxSxC[:count, ..., i]).max()
            if not difference <= tolerance:  # NaN too
                raise InputError(
                    f"{exported.model.workdir}: what was written gives other probabilities of "
                    f"{name} than JAX, by up to {difference:.2g}; it is not kept. Update the "
                    f"runtime, or report it"
                )
            largest = max(largest, float(difference))
    return largest
