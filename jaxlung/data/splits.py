"""What a data set is to everything after it: ids, and a function from index to example."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from jaxlung.data.metadata import useful_groups
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


def make_array_split(
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


def select_examples(whole: Split, stems: Sequence[str], name: str) -> Split:
    """The named examples of a split as a split of their own, in the order given."""
    position = {stem: i for i, stem in enumerate(whole.ids)}
    chosen = [position[stem] for stem in stems]
    stat = whole.stat
    return Split(
        name,
        tuple(stems),
        tuple(whole.sources[i] for i in chosen),
        lambda i: whole.read(chosen[i]),
        tuple(whole.patients[i] for i in chosen) if whole.patients else None,
        {group: tuple(values[i] for i in chosen) for group, values in whole.groups.items()},
        None if stat is None else lambda i: stat(chosen[i]),
    )


def join_splits(name: str, sets: Sequence[str], parts: Sequence[Split]) -> Split:
    """The parts one after the other; the subgroup `set` says where each example is from.

    Args:
        name: of the split that they make.
        sets: the parts' names, as many.
        parts: of prepared sets.
    """
    if len(parts) == 1:
        return parts[0]._replace(groups=useful_groups(parts[0].groups))
    ends = list(accumulate(len(part.ids) for part in parts))

    def locate(index: int) -> tuple[Split, int]:
        i = next(i for i, end in enumerate(ends) if index < end)
        return parts[i], index - (ends[i - 1] if i else 0)

    def read(index: int) -> Example:
        part, own = locate(index)
        return part.read(own)

    def stat(index: int) -> str:
        part, own = locate(index)
        assert part.stat is not None
        return part.stat(own)

    columns = {column: None for part in parts for column in part.groups}
    groups = {
        column: tuple(
            value for part in parts for value in part.groups.get(column, ("",) * len(part.ids))
        )
        for column in columns
    }
    # Kept even where one set alone has examples: `one_set` goes by it.
    groups = useful_groups(groups)
    groups["set"] = tuple(s for s, part in zip(sets, parts, strict=True) for _ in part.ids)
    return Split(
        name,
        tuple(image_id for part in parts for image_id in part.ids),
        tuple(source for part in parts for source in part.sources),
        read,
        # Two sets may number their patients alike.
        tuple(
            f"{s}:{patient}"
            for s, part in zip(sets, parts, strict=True)
            for patient in part.patients or part.ids
        ),
        groups,
        stat,
    )


def _refuse_doubles(wholes: Mapping[str, Split]) -> None:
    seen: dict[str, str] = {}  # id to set
    for name, whole in wholes.items():
        for image_id in whole.ids:
            if image_id in seen:
                raise InputError(
                    f"data.name: {image_id!r} is in two of the sets, {seen[image_id]} and {name}, "
                    f"which hold the same images; name one of them"
                )
        seen |= dict.fromkeys(whole.ids, name)
