"""SHA-256 digests that name arrays, files, data sets and weights."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def array_digest(array: np.ndarray) -> str:
    """SHA-256 over shape, dtype and bytes."""
    header = f"{array.shape}{array.dtype}".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def content_digest(image: np.ndarray, mask: np.ndarray) -> str:
    """`array_digest` of an image and of its mask, each cut to half, joined by a colon."""
    return f"{array_digest(image)[:32]}:{array_digest(mask)[:32]}"


def is_content_digest(digest: str) -> bool:
    """Whether it is of `content_digest`, and not what `Split.stat` says of the files."""
    return re.fullmatch("[0-9a-f]{32}:[0-9a-f]{32}", digest) is not None


def fingerprint(digests: Mapping[str, Mapping[str, str]]) -> str:
    """SHA-256 over every example's split, id and content digest: names the data of a run.

    Args:
        digests: split to id to `content_digest`.
    """
    whole = hashlib.sha256()
    for name in sorted(digests):
        for example_id, digest in digests[name].items():
            whole.update(f"{name}\0{example_id}\0{digest}\n".encode())
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(variables: Any) -> str:
    """SHA-256 over every array's name, shape, dtype and bytes: names a model's weights."""
    whole = hashlib.sha256()
    for path, array in jax.tree.leaves_with_path(variables):
        array = np.asarray(array)
        whole.update(f"{jax.tree_util.keystr(path)}\0{array.shape}\0{array.dtype}\0".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
