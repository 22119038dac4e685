"""From splits to batches of canvases. TensorFlow is used here and in the TFDS builders alone.

Each epoch's order is a function of (seed, epoch), and so every batch is a function of (seed, step):
no state of the input needs a checkpoint, and the two loaders give the same batches.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxlung.data.duplicates import digest_canvas, hash_image
from jaxlung.data.splits import Block, Split, refuse_unusable
from jaxlung.errors import InputError
from jaxlung.io.grey import to_grey8
from jaxlung.preprocess import is_lung, to_canvas
from jaxlung.system.silence import import_tensorflow
from jaxlung.system.threads import count_cores

Canvas = tuple[np.ndarray, np.ndarray]  # image uint8 [S, S], mask's coverage uint8 [S, S]
HostBatch = dict[str, np.ndarray]
CHECK_LIMIT = 1000  # examples; of a larger split only a sample is read before the first step
PADDING = -1  # the index of a row that only fills up an evaluation's last batch


class Canvases(NamedTuple):
    """A split at the network's size."""

    split: Split
    size: int  # S, pixels
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
    cache_gib: float = 4.0,
    reject_empty: bool = False,
    hashed: bool = False,
) -> Canvases:
    """Reads a split's examples and places them on canvases, when asked for.

    Args:
        size: S, the side of the canvas in pixels.
        fit: "letterbox" or "stretch", as in `to_canvas`.
        cache_gib: memory for the canvases in GiB; they are kept if all fit, and none otherwise.
        reject_empty: reading an example without lung, or of lung alone, or with a blank image,
            raises InputError.
        hashed: keep the perceptual hash of each image that is read, unless the split is so large
            that `check_canvases` reads a sample alone.

    Example:
        >>> from jaxlung.data.splits import make_array_split
        >>> split = make_array_split("train", ["a"], np.zeros((1, 8, 6)), np.ones((1, 8, 6)))
        >>> image_SxS, mask_SxS = make_canvases(split, size=4, fit="stretch").read(0)
        >>> image_SxS.shape, mask_SxS.mean()
        ((4, 4), np.float64(255.0))
    """
    count = len(split.ids)
    cached = 2 * count * size * size <= cache_gib * 2**30
    shape = (count if cached else 0, size, size)
    # np.empty takes no memory until it is written to, so an unread split costs nothing.
    images_NxSxS, masks_NxSxS = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    done_N = np.zeros(count, bool)
    hashes: dict[str, str] | None = {} if hashed and not _is_sampled(split) else None

    def read(index: int) -> Canvas:
        if not done_N[index]:
            example = split.read(index)
            try:
                grey_HxW = to_grey8(example.image)
                image_SxS, mask_SxS, geometry = to_canvas(
                    grey_HxW, example.mask, size=size, fit=fit
                )
            except InputError as error:
                raise InputError(f"{split.ids[index]}: {error}") from error
            assert mask_SxS is not None
            if reject_empty:
                box = geometry.box_of
                refuse_unusable(split, index, box(image_SxS), is_lung(box(mask_SxS)))
            if hashes is not None and split.ids[index] not in hashes:
                hashes[split.ids[index]] = hash_image(grey_HxW)
            if not cached:
                return image_SxS, mask_SxS
            images_NxSxS[index], masks_NxSxS[index] = image_SxS, mask_SxS
            done_N[index] = True
        return images_NxSxS[index], masks_NxSxS[index]

    return Canvases(split, size, read, cached, hashes)


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
        id to `digest_canvas`; in a large split, to `Split.stat` of its files.

    Raises:
        InputError: an example cannot be read.
    """
    split, count = canvases.split, len(canvases.split.ids)
    is_large = _is_sampled(split, limit)
    reads_all = whole or not is_large
    chosen = range(count) if reads_all else np.linspace(0, count - 1, sample).astype(int)

    def digest(index: int) -> str:
        return (known or {}).get(split.ids[index]) or digest_canvas(*canvases.read(int(index)))

    with ThreadPoolExecutor(count_cores()) as pool:
        digests = list(pool.map(digest, chosen))
        if split.stat is not None and is_large:
            digests = list(pool.map(split.stat, range(count)))
    return dict(zip(split.ids, digests, strict=True))


def epoch_order(seed: int, epoch: int, count: int, blocks: Sequence[Block] = ()) -> np.ndarray:
    """Draws the order in which an epoch visits the examples.

    Without blocks it is a permutation of range(count). With them, each block gets its weight's
    share of the count visits (to the nearest whole number) and visits its examples equally often;
    a random choice of them has one visit more.

    Returns:
        int [count], indices of examples.

    Example:
        >>> sorted(epoch_order(0, 1, 4).tolist())
        [0, 1, 2, 3]
    """
    rng = np.random.default_rng([seed, epoch])
    if not blocks:
        return rng.permutation(count)
    weights = np.array([block.weight for block in blocks])
    # Rounding the running sum, not each share, keeps the total.
    ends = np.rint(np.cumsum(weights) / weights.sum() * count).astype(int)
    parts, first = [], 0
    for block, visits in zip(blocks, np.diff(ends, prepend=0), strict=True):
        passes, rest = divmod(int(visits), block.size)
        parts.append(first + np.tile(np.arange(block.size), passes))
        parts.append(first + rng.permutation(block.size)[:rest])
        first += block.size
    return rng.permutation(np.concatenate(parts))


def train_indices(
    seed: int, start_step: int, count: int, batch_size: int, blocks: Sequence[Block] = ()
) -> Iterator[np.ndarray]:
    """Yields index batches [B] from start_step on, without end.

    An epoch leaves out count % batch_size examples of its order.
    """
    steps_per_epoch = count // batch_size
    epoch, first = divmod(start_step, steps_per_epoch)
    while True:
        order = epoch_order(seed, epoch, count, blocks)
        for i in range(first, steps_per_epoch):
            yield order[i * batch_size : (i + 1) * batch_size]
        epoch, first = epoch + 1, 0


def eval_indices(count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yields batches [B] of every index once, in order; PADDING fills up the last batch.

    Example:
        >>> [batch.tolist() for batch in eval_indices(3, 2)]
        [[0, 1], [2, -1]]
    """
    for start in range(0, count, batch_size):
        indices = np.full(batch_size, PADDING)
        stop = min(start + batch_size, count)
        indices[: stop - start] = np.arange(start, stop)
        yield indices


def batches(
    canvases: Canvases, indices: Iterable[np.ndarray], *, loader: str
) -> Generator[HostBatch, None, None]:
    """Yields the batches of the given indices.

    Args:
        canvases: as `make_canvases` returns them.
        indices: index batches, all of one length B; PADDING gives zeros that are not valid.
        loader: "tfdata" reads, batches and prefetches in the background through tf.data;
            "memory" gives the same without TensorFlow, one batch at a time.

    Yields:
        image uint8 [B, S, S], mask uint8 [B, S, S] (coverage), valid bool [B].

    Raises:
        InputError: an example cannot be read, or TensorFlow is not installed.

    Example:
        >>> from jaxlung.data.splits import make_array_split
        >>> split = make_array_split("test", ["a"], np.zeros((1, 8, 8)), np.ones((1, 8, 8)))
        >>> canvases = make_canvases(split, size=4, fit="stretch")
        >>> [batch] = batches(canvases, eval_indices(1, 2), loader="memory")
        >>> batch["image"].shape, batch["valid"].tolist()
        ((2, 4, 4), [True, False])
    """
    if loader == "memory":
        return (_stack([_row(canvases, index) for index in batch]) for batch in indices)
    return _tfdata_batches(canvases, indices)


def _row(canvases: Canvases, index: int) -> tuple[np.ndarray, np.ndarray, np.bool_]:
    if index == PADDING:
        blank_SxS = np.zeros((canvases.size, canvases.size), np.uint8)
        return blank_SxS, blank_SxS, np.False_
    return *canvases.read(int(index)), np.True_


def _stack(rows: list[tuple[np.ndarray, np.ndarray, np.bool_]]) -> HostBatch:
    images, masks, valid = zip(*rows, strict=True)
    return {"image": np.stack(images), "mask": np.stack(masks), "valid": np.array(valid)}


def _tfdata_batches(
    canvases: Canvases, indices: Iterable[np.ndarray]
) -> Generator[HostBatch, None, None]:
    tf = import_tensorflow()
    iterator = iter(indices)
    first = next(iterator, None)
    if first is None:
        return
    size, batch_size = canvases.size, len(first)

    def generate() -> Iterator[np.ndarray]:
        yield first
        yield from iterator

    failures: dict[int, InputError] = {}
    blank_SxS = np.zeros((size, size), np.uint8)

    def row(index: int) -> tuple[np.ndarray, np.ndarray, np.bool_, np.int64]:
        # TensorFlow writes a page of traceback for what is raised here, before anybody catches it.
        try:
            return *_row(canvases, index), np.int64(PADDING)
        except InputError as error:
            failures[int(index)] = error
            return blank_SxS, blank_SxS, np.False_, np.int64(index)

    def read(index):
        types = (tf.uint8, tf.uint8, tf.bool, tf.int64)
        image, mask, valid, failed = tf.numpy_function(row, [index], types)
        return {
            "image": tf.ensure_shape(image, (size, size)),
            "mask": tf.ensure_shape(mask, (size, size)),
            "valid": tf.ensure_shape(valid, ()),
            "failed": tf.ensure_shape(failed, ()),
        }

    dataset = (
        tf.data.Dataset.from_generator(
            generate, output_signature=tf.TensorSpec((batch_size,), tf.int64)
        )
        .unbatch()
        .map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)  # every index batch is whole: nothing is dropped
        .prefetch(2)
    )
    for batch in dataset.as_numpy_iterator():
        for index in batch.pop("failed"):
            if index != PADDING:
                raise failures[int(index)]
        yield batch
