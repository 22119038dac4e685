"""`Split`, which is a data set to everything after it: ids, and a function from index to example.

Where splits come from: `datasets` goes by the config's name to `folder`, `ct_folder` or `public`.
Each makes one split of all its images; `splitting` says which of them are for what;
`select_examples` makes the three splits.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from jaxlung.data.metadata import useful_groups
from jaxlung.errors import InputError
from jaxlung.io.grey import BLANK, measure_spread
from jaxlung.io.masks import measure_frame
from jaxlung.masks.shape import HOLES, is_inverted, measure_contrast, measure_shape
from jaxlung.preprocess import is_lung, to_canvas
from jaxlung.structures import LUNG

SPLITS = ("train", "validation", "test")
# Lungs hold 7 % of a picture's frame at most in 704 radiographs, and 19 % of the frame of their own
# box in 500: their inverse holds this share.
_CERTAIN = 0.9


class Example(NamedTuple):
    image: np.ndarray  # as `images.read_image` returns it, on the original grid
    mask: np.ndarray  # bool [H, W], True is the structure that it marks, by its set's convention
    spacing: tuple[float, float] | None = None  # height and width of a pixel in mm, where known
    slice_mm: float | None = None  # of a slice of CT: mm to the next one, where known
    marks: str = LUNG
    # Further structures that are labelled: functions that read their masks, bool [H, W].
    others: Mapping[str, Callable[[], np.ndarray]] = {}

    def mask_of(self, structure: str) -> np.ndarray | None:
        """Returns the mask of a structure, bool [H, W]; None where it is not labelled."""
        if structure == self.marks:
            return self.mask
        return self.others[structure]() if structure in self.others else None


class Block(NamedTuple):
    """Consecutive examples of a split that training visits with a weight of their own."""

    size: int
    weight: float  # share of an epoch's visits, relative to the other blocks'


class Split(NamedTuple):
    """Examples that are read when asked for. Tuples and functions go by the example's index."""

    name: str
    ids: tuple[str, ...]  # unique
    sources: tuple[str, ...]  # names for an error, such as the mask's path
    read: Callable[[int], Example]  # raises InputError that names the file
    patients: tuple[str, ...] | None = None  # None: each example has a patient of its own
    groups: Mapping[str, tuple[str, ...]] = {}  # subgroups: column to the value of each example
    stat: Callable[[int], str] | None = None  # identifies an example's files without reading them
    blocks: tuple[Block, ...] = ()  # the sets of a weighted mixture, in order; (): all alike
    labels: tuple[tuple[str, ...], ...] = ()  # the structures that each labels; (): LUNG for all
    files: tuple[Mapping[str, Path], ...] = ()  # of further structures' masks, where they have any

    def labels_of(self, index: int) -> tuple[str, ...]:
        """Returns the structures that an example's masks mark, its convention first."""
        return self.labels[index] if self.labels else (LUNG,)

    def source_of(self, index: int, structure: str) -> str:
        """Returns the name, for an error, of an example's mask of a structure."""
        further = self.files[index] if self.files else {}
        if structure == self.labels_of(index)[0] or structure not in further:
            return self.sources[index]
        return str(further[structure])

    def stat_of(self, index: int, outputs: Sequence[str]) -> str:
        """Identifies an example's files, those of the outputs' masks too, without reading them."""
        assert self.stat is not None
        texts = [self.stat(index)]
        for output in outputs:
            if (source := self.source_of(index, output)) != self.sources[index]:
                texts.append(f"{output} {Path(source).stat().st_size} bytes")
        return ", ".join(texts)


def make_array_split(
    name: str,
    ids: Sequence[str],
    images: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray,
) -> Split:
    """Makes a split of arrays in memory.

    Args:
        name: "train", "validation" or "test", mostly.
        ids: N unique names.
        images: N arrays [H, W] or [H, W, 3 or 4], as `to_canvas` takes them; sizes may differ.
        masks: N arrays [H, W], non-zero is lung.

    Raises:
        InputError: the numbers of ids, images and masks differ.

    Example:
        >>> split = make_array_split("train", ["a"], np.zeros((1, 4, 4)), np.ones((1, 4, 4)))
        >>> split.read(0).mask.all()
        np.True_
    """
    if not len(ids) == len(images) == len(masks):
        raise InputError(f"{name}: {len(ids)} ids, {len(images)} images, {len(masks)} masks")
    ids = tuple(ids)
    return Split(name, ids, ids, lambda i: Example(images[i], np.asarray(masks[i]) != 0))


def patients_by_id(split: Split) -> dict[str, str]:
    """Maps id to patient; where nothing says so, each example has a patient of its own."""
    return dict(zip(split.ids, split.patients or split.ids, strict=True))


def refuse_unusable(
    split: Split, index: int, image: np.ndarray, mask: np.ndarray, structure: str = LUNG
) -> None:
    """Refuses an example that teaches nothing.

    Args:
        image: uint8 [H, W], without the bars of a letterbox.
        mask: bool [H, W], likewise.
        structure: what the mask marks.

    Raises:
        InputError: the mask is empty or marks the whole image, or the image is blank.
    """
    if not mask.any():
        raise InputError(
            f"{split.source_of(index, structure)}: this mask of the {split.name} split is empty "
            f"(no {structure} pixel); mend the mask or remove the pair"
        )
    if mask.all():
        raise InputError(
            f"{split.source_of(index, structure)}: this mask of the {split.name} split marks the "
            f"whole image as {structure}; mend the mask or remove the pair"
        )
    if measure_spread(image) < BLANK:
        raise InputError(
            f"{split.ids[index]}: this image of the {split.name} split is blank; export it again "
            f"or remove the pair"
        )


def refuse_inverted(image: np.ndarray, mask_HxW: np.ndarray, path: Path) -> None:
    """Raises InputError, which names the path, for a mask of the lungs in which 0 marks them."""
    # The box that the mask fills: a film may have black bars, which an inverted mask leaves out.
    left, top, width, height = cv2.boundingRect(mask_HxW.astype(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    mask = mask_HxW[box]
    if not mask.size or measure_frame(mask) < _CERTAIN:
        return
    canvas_SxS, mask_SxS, _ = to_canvas(image[box], mask, fit="stretch")
    assert mask_SxS is not None
    contrast = measure_contrast(canvas_SxS, is_lung(mask_SxS).astype(np.uint8))
    shape = measure_shape(mask, contrast)
    # Lungs drawn as rectangles fill their box too, but leave no holes.
    if is_inverted(shape) and (mask.size == mask_HxW.size or shape.holes > HOLES):
        raise InputError(
            f"{path}: is inverted, as it marks {shape.border:.0%} of the picture's frame and not "
            f"the lungs; exchange 0 and the other value"
        )


def select_examples(whole: Split, ids: Sequence[str], name: str) -> Split:
    """Makes a split of the named examples of another, in the order given; blocks are dropped."""
    index_by_id = {image_id: i for i, image_id in enumerate(whole.ids)}
    chosen = [index_by_id[image_id] for image_id in ids]
    stat = whole.stat
    return Split(
        name,
        tuple(ids),
        tuple(whole.sources[i] for i in chosen),
        lambda i: whole.read(chosen[i]),
        tuple(whole.patients[i] for i in chosen) if whole.patients else None,
        {group: tuple(values[i] for i in chosen) for group, values in whole.groups.items()},
        None if stat is None else lambda i: stat(chosen[i]),
        labels=tuple(map(whole.labels_of, chosen)),
        files=tuple(whole.files[i] for i in chosen) if whole.files else (),
    )


def keep_once(split: Split, limit: int) -> Split:
    """Makes a split that keeps what it reads for the next reading, up to a limit in bytes."""
    kept: dict[int, Example] = {}
    free, lock = limit, threading.Lock()

    def read(index: int) -> Example:
        nonlocal free
        earlier = kept.pop(index, None)
        example = earlier or split.read(index)
        size = example.image.nbytes + example.mask.nbytes
        with lock:
            if earlier:
                free += size
            elif size <= free:
                free -= size
                kept[index] = example
        return example

    return split._replace(read=read)


def join_splits(name: str, sets: Sequence[str], parts: Sequence[Split]) -> Split:
    """Joins parts one after the other; the subgroup `set` says where each example comes from.

    Args:
        name: of the split that the parts make.
        sets: the parts' names, as many.
        parts: of prepared sets.
    """
    if len(parts) == 1:
        return parts[0]._replace(groups=useful_groups(parts[0].groups))
    places = [(part, i) for part in parts for i in range(len(part.ids))]
    set_of_each = [s for s, part in zip(sets, parts, strict=True) for _ in part.ids]
    patients = [patient for part in parts for patient in part.patients or part.ids]

    def read(index: int) -> Example:
        part, i = places[index]
        return part.read(i)

    def stat(index: int) -> str:
        part, i = places[index]
        assert part.stat is not None
        return part.stat(i)

    groups = useful_groups(
        {
            column: tuple(
                value for part in parts for value in part.groups.get(column, ("",) * len(part.ids))
            )
            for column in dict.fromkeys(column for part in parts for column in part.groups)
        }
    )
    # Kept even where one set alone has examples: `public.load_one_set` goes by it.
    groups["set"] = tuple(set_of_each)
    return Split(
        name,
        tuple(image_id for part in parts for image_id in part.ids),
        tuple(source for part in parts for source in part.sources),
        read,
        # Two sets may number their patients alike.
        tuple(f"{s}:{patient}" for s, patient in zip(set_of_each, patients, strict=True)),
        groups,
        stat,
        labels=tuple(part.labels_of(i) for part, i in places),
    )
