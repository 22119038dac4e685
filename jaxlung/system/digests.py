"""SHA-256 digests that name arrays, files, data sets and weights."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def digest_array(array: np.ndarray) -> str:
    """SHA-256 over shape, dtype and bytes."""
    header = f"{array.shape}{array.dtype}".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def digest_example(image: np.ndarray, mask: np.ndarray) -> str:
    """`digest_array` of an image and of its mask, each cut to half, joined by a colon."""
    return f"{digest_array(image)[:32]}:{digest_array(mask)[:32]}"


def is_example_digest(digest: str) -> bool:
    """Whether it is of `digest_example`, and not what `Split.stat` says of the files."""
    return re.fullmatch("[0-9a-f]{32}:[0-9a-f]{32}", digest) is not None


def digest_splits(digests: Mapping[str, Mapping[str, str]]) -> str:
    """SHA-256 over every example's split, id and content digest: names the data of a run.

    Args:
        digests: split to id to `digest_example`.
    """
    whole = hashlib.sha256()
    for name in sorted(digests):
        for example_id, digest in digests[name].items():
            whole.update(f"{name}\0{example_id}\0{digest}\n".encode())
    return whole.hexdigest()


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_weights(variables: Any) -> str:
    """SHA-256 over every array's name, shape, dtype and bytes: names a model's weights."""
    whole = hashlib.sha256()
    for path, array in jax.tree.leaves_with_path(variables):
        array = np.asarray(array)
        whole.update(f"{jax.tree_util.keystr(path)}\0{array.shape}\0{array.dtype}\0".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
