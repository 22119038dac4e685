"""The gate's classifier: two dense layers on the features, and the span of upright films.

weights/gate.npz holds its arrays, and tools/fit_gate.py writes them.
"""

import functools
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxlung.errors import InputError

WEIGHTS = Path(__file__).parents[1] / "weights" / "gate.npz"
CLASSES = (
    *("upright", "inverted", "turned 90", "turned 180", "turned 270"),
    *("part", "photographed", "lateral", "other", "ct"),  # ct: an axial slice
)
NAMES = ("mean", "hidden", "hidden_bias", "weights", "bias", "centre", "basis", "limit")

Fitted = Mapping[str, np.ndarray]  # as `read_gate` returns it


@functools.cache
def read_gate(path: Path = WEIGHTS) -> Fitted:
    """Reads what tools/fit_gate.py has written.

    Returns:
        The classifier: mean [D], hidden [D, H], hidden_bias [H], weights [H, classes], bias
        [classes]. The principal components of upright films: centre [D], basis [D, K], and limit
        [], the usual distance. All float32.

    Raises:
        InputError: the file is missing, damaged or has other classes.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if tuple(arrays["classes"]) != CLASSES:
                raise ValueError("it is of other classes")
            return {name: arrays[name].astype(np.float32) for name in NAMES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is damaged ({error}); install jaxlung anew") from error


def probabilities(features_D: np.ndarray, fitted: Fitted) -> np.ndarray:
    """Returns the classes' probabilities, float32 [..., classes], for features [..., D]."""
    hidden = (features_D - fitted["mean"]) @ fitted["hidden"] + fitted["hidden_bias"]
    logits = np.maximum(hidden, 0) @ fitted["weights"] + fitted["bias"]
    logits = logits - logits.max(-1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def distance(features_D: np.ndarray, fitted: Fitted) -> np.ndarray:
    """Returns the squared distance, float32 [...], of features [..., D] from upright films' span.

    The classifier may be sure of a picture unlike any that it was fitted to. The distance is then
    large.
    """
    centred = features_D - fitted["mean"] - fitted["centre"]
    along = centred @ fitted["basis"]
    return (centred**2).sum(-1) - (along**2).sum(-1)
