"""What a data set is to everything after it: ids, and a function from index to example."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError

SPLITS = ("train", "validation", "test")


class Example(NamedTuple):
    image: np.ndarray  # as `images.read_image` gives it, on the original grid
    mask: np.ndarray  # bool [H, W], True is lung


class Split(NamedTuple):
    name: str
    ids: tuple[str, ...]  # one an example, unique
    sources: tuple[str, ...]  # what to name in an error: the mask's path, say
    read: Callable[[int], Example]  # raises InputError that names the file


def array_split(
    name: str,
    ids: Sequence[str],
    images: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray,
) -> Split:
    """A split of arrays in memory: each image as `to_canvas` takes it, each mask [H, W]."""
    if not len(ids) == len(images) == len(masks):
        raise InputError(f"{name}: {len(ids)} ids, {len(images)} images, {len(masks)} masks")
    ids = tuple(ids)
    return Split(name, ids, ids, lambda i: Example(images[i], np.asarray(masks[i]) != 0))


def fingerprint(splits: Mapping[str, Split], digests: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 over every example's split, id and content digest: names the data of a run."""
    whole = hashlib.sha256()
    for name in sorted(splits):
        for example_id, digest in zip(splits[name].ids, digests[name], strict=True):
            whole.update(f"{name}\0{example_id}\0{digest}\n".encode())
    return whole.hexdigest()
