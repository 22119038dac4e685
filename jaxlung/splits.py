"""What a data set is to everything after it: ids, and a function from index to example."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError

SPLITS = ("train", "validation", "test")


class Example(NamedTuple):
    image: np.ndarray  # as `images.read_image` gives it, on the original grid
    mask: np.ndarray  # bool [H, W], True is lung
    spacing: tuple[float, float] | None = None  # height and width of a pixel in mm, where known


class Block(NamedTuple):
    """Consecutive examples of a split that training visits with a weight of their own."""

    size: int
    weight: float  # share of an epoch's visits, relative to the other blocks'


class Split(NamedTuple):
    name: str
    ids: tuple[str, ...]  # one an example, unique
    sources: tuple[str, ...]  # what to name in an error: the mask's path, say
    read: Callable[[int], Example]  # raises InputError that names the file
    patients: tuple[str, ...] | None = None  # of each example; None: each is a patient's only one
    groups: Mapping[str, tuple[str, ...]] = {}  # subgroups: column to the value of each example
    stat: Callable[[int], str] | None = None  # what names an example's files without reading them
    blocks: tuple[Block, ...] = ()  # the sets of a weighted mixture, in order; (): all alike


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


def patients_by_id(split: Split) -> dict[str, str]:
    """Id to patient; where nothing says so, each example is of a patient of its own."""
    return dict(zip(split.ids, split.patients or split.ids, strict=True))


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
