"""SHA-256 digests that name arrays, files, data sets and weights."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def digest_array(array: np.ndarray) -> str:
    """Returns the SHA-256 over an array's shape, dtype and bytes, in hexadecimal."""
    header = f"{array.shape}{array.dtype}".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def digest_example(image: np.ndarray, mask: np.ndarray) -> str:
    """Joins the first halves of the image's and the mask's `digest_array` by a colon."""
    return f"{digest_array(image)[:32]}:{digest_array(mask)[:32]}"


def is_example_digest(digest: str) -> bool:
    """Whether the text comes from `digest_example`, not from `Split.stat`."""
    return re.fullmatch("[0-9a-f]{32}:[0-9a-f]{32}", digest) is not None


def digest_splits(digests: Mapping[str, Mapping[str, str]]) -> str:
    """Returns the SHA-256 over all examples' splits, ids and digests: names a run's data.

    Args:
        digests: split to id to `digest_example`.
    """
    whole = hashlib.sha256()
    for name in sorted(digests):
        for example_id, digest in digests[name].items():
            whole.update(f"{name}\0{example_id}\0{digest}\n".encode())
    return whole.hexdigest()


def digest_file(path: Path) -> str:
    """Returns the SHA-256 over a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_weights(variables: Any) -> str:
    """Returns the SHA-256 over all arrays' names, shapes, dtypes and bytes: names weights."""
    whole = hashlib.sha256()
    for path, array in jax.tree.leaves_with_path(variables):
        array = np.asarray(array)
        whole.update(f"{jax.tree_util.keystr(path)}\0{array.shape}\0{array.dtype}\0".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
