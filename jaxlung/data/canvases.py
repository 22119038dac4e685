"""Examples at the network's size: read when asked for, checked, and kept where they fit."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxlung.data.duplicates import digest_canvas, hash_image
from jaxlung.data.splits import Split, refuse_unusable
from jaxlung.errors import InputError
from jaxlung.io.grey import to_grey8
from jaxlung.preprocess import Geometry, is_lung, mask_to_canvas, to_canvas
from jaxlung.structures import LUNG, mirror_name
from jaxlung.system.threads import count_cores

CHECK_LIMIT = 1000  # examples; of a larger split only a sample is read before the first step


class Canvas(NamedTuple):
    """An example at the network's size."""

    image_SxS: np.ndarray  # uint8
    mask_SxSxC: np.ndarray  # uint8, the coverage by each output's structure; 0 where not labelled
    labelled_C: np.ndarray  # bool


class Canvases(NamedTuple):
    """A split at the network's size."""

    split: Split
    size: int  # S, pixels
    outputs: tuple[str, ...]  # C structures
    read: Callable[[int], Canvas]  # raises InputError that names the file
    cached: bool  # whether `read` keeps what it has read in memory
    hashes: dict[str, str] | None = None  # id to `hash_image` of what was read; None: not wanted

    def loader(self, choice: str) -> str:
        """Returns the loader for `batches`, "tfdata" or "memory", where data.loader is `choice`.

        With "auto" (and for the splits that "device" does not keep there) a split that is in memory
        after `check_canvases` is batched from memory, without TensorFlow's seconds of import.
        """
        if choice in ("tfdata", "memory"):
            return choice
        return "memory" if self.cached and not _is_sampled(self.split) else "tfdata"


def make_canvases(
    split: Split,
    *,
    size: int,
    fit: str,
    outputs: Sequence[str] = (LUNG,),
    cache_gib: float = 4.0,
    reject_empty: bool = False,
    hashed: bool = False,
) -> Canvases:
    """Reads a split's examples and places them on canvases, when asked for.

    Args:
        size: S, the side of the canvas in pixels.
        fit: "letterbox" or "stretch", as in `to_canvas`.
        outputs: the C structures whose masks are wanted.
        cache_gib: memory for the canvases in GiB; they are kept if all fit, and none otherwise.
        reject_empty: reading an example whose mask is empty or full, or whose image is blank,
            raises InputError.
        hashed: keep the perceptual hash of each image that is read, unless the split is so large
            that `check_canvases` reads a sample alone.

    Example:
        >>> from jaxlung.data.splits import make_array_split
        >>> split = make_array_split("train", ["a"], np.zeros((1, 8, 6)), np.ones((1, 8, 6)))
        >>> image_SxS, mask_SxSxC, labelled_C = make_canvases(split, size=4, fit="stretch").read(0)
        >>> image_SxS.shape, mask_SxSxC.shape, mask_SxSxC.mean().item(), labelled_C.tolist()
        ((4, 4), (4, 4, 1), 255.0, [True])
    """
    count = len(split.ids)
    cached = (1 + len(outputs)) * count * size * size <= cache_gib * 2**30
    shape = (count if cached else 0, size, size)
    # np.empty takes no memory until it is written to, so an unread split costs nothing.
    images_NxSxS = np.empty(shape, np.uint8)
    masks_NxSxSxC = np.empty((*shape, len(outputs)), np.uint8)
    labelled_NxC = np.empty((shape[0], len(outputs)), bool)
    done_N = np.zeros(count, bool)
    hashes: dict[str, str] | None = {} if hashed and not _is_sampled(split) else None

    def read(index: int) -> Canvas:
        if not done_N[index]:
            example = split.read(index)
            masks = [example.mask_of(output) for output in outputs]  # errors name their files
            try:
                grey_HxW = to_grey8(example.image)
                image_SxS, _, geometry = to_canvas(grey_HxW, size=size, fit=fit)
                mask_SxSxC = masks_to_canvas(masks, geometry)
            except InputError as error:
                raise InputError(f"{split.ids[index]}: {error}") from error
            labelled_C = np.array([mask_HxW is not None for mask_HxW in masks])
            labelled = [name for name, mask in zip(outputs, masks, strict=True) if mask is not None]
            if not labelled:
                raise InputError(
                    f"{split.sources[index]}: marks {', '.join(split.labels_of(index))}, and "
                    f"model.outputs={tuple(outputs)} has none of these; name one there"
                )
            for name in labelled:
                if mirror_name(name) not in labelled:  # mirrored, it would teach the other side
                    raise InputError(
                        f"{split.source_of(index, name)}: marks {name}, one side without the "
                        f"other; give both masks, or leave both out"
                    )
                if reject_empty:
                    truth_SxS = is_lung(mask_SxSxC[..., outputs.index(name)])
                    boxes = geometry.box_of(image_SxS), geometry.box_of(truth_SxS)
                    refuse_unusable(split, index, *boxes, name)
            if hashes is not None and split.ids[index] not in hashes:
                hashes[split.ids[index]] = hash_image(grey_HxW)
            if not cached:
                return Canvas(image_SxS, mask_SxSxC, labelled_C)
            images_NxSxS[index], masks_NxSxSxC[index] = image_SxS, mask_SxSxC
            labelled_NxC[index] = labelled_C
            done_N[index] = True
        return Canvas(images_NxSxS[index], masks_NxSxSxC[index], labelled_NxC[index])

    return Canvases(split, size, tuple(outputs), read, cached, hashes)


def masks_to_canvas(masks: Sequence[np.ndarray | None], geometry: Geometry) -> np.ndarray:
    """Places an example's C masks, bool [H, W] or None where there is none, on the canvas.

    Returns:
        the coverage, uint8 [S, S, C], 0 where there is no mask.
    """
    mask_SxSxC = np.zeros((geometry.size, geometry.size, len(masks)), np.uint8)
    for i, mask_HxW in enumerate(masks):
        if mask_HxW is not None:
            mask_SxSxC[..., i] = mask_to_canvas(mask_HxW, geometry)
    return mask_SxSxC


def _is_sampled(split: Split, limit: int = CHECK_LIMIT) -> bool:
    """Says whether `check_canvases` reads a sample only."""
    return split.stat is not None and len(split.ids) > limit


def check_canvases(
    canvases: Canvases,
    limit: int = CHECK_LIMIT,
    sample: int = 64,
    *,
    whole: bool = False,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Reads every example, filling the cache, so that bad data stops a run before it starts.

    Args:
        limit: a larger split's examples are checked when their turn comes, not before step one.
        sample: the number of examples to read of a large split, evenly spread.
        whole: read all of a large split too.
        known: id to `digest_canvas` of what has been read already, and is not read again.

    Returns:
        id to `digest_canvas`; in a large split, to `Split.stat_of` its files.

    Raises:
        InputError: an example cannot be read.
    """
    split, count = canvases.split, len(canvases.split.ids)
    is_large = _is_sampled(split, limit)
    reads_all = whole or not is_large
    chosen = range(count) if reads_all else np.linspace(0, count - 1, sample).astype(int)

    def digest(index: int) -> str:
        if text := (known or {}).get(split.ids[index]):
            return text
        image_SxS, mask_SxSxC, _ = canvases.read(int(index))
        return digest_canvas(image_SxS, mask_SxSxC)

    with ThreadPoolExecutor(count_cores()) as pool:
        digests = list(pool.map(digest, chosen))
        if split.stat is not None and is_large:
            stat = functools.partial(split.stat_of, outputs=canvases.outputs)
            digests = list(pool.map(stat, range(count)))
    return dict(zip(split.ids, digests, strict=True))
