"""From splits to batches of canvases. The only module but the TFDS builders with TensorFlow.

Each epoch's order is a function of (seed, epoch), so every batch is one of (seed, step): nothing
of the input has to be checkpointed, and the two loaders give the same batches.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxlung.data.splits import Block, Split
from jaxlung.errors import InputError
from jaxlung.preprocess import to_canvas
from jaxlung.system.digests import digest_example
from jaxlung.system.silence import quiet_tensorflow
from jaxlung.system.threads import count_cores

Canvas = tuple[np.ndarray, np.ndarray]  # image uint8 [S, S], mask uint8 [S, S]
HostBatch = dict[str, np.ndarray]
CHECK_LIMIT = 1000  # of a split with more examples only a sample is read before the first step
PADDING = -1  # the index of a row that only fills up an evaluation's last batch


class Canvases(NamedTuple):
    """A split at the network's size."""

    split: Split
    size: int
    read: Callable[[int], Canvas]
    cached: bool  # `read` keeps what it has read in memory

    def loader(self, choice: str) -> str:
        """How to feed from it, where data.loader is `choice`: "tfdata" or "memory".

        With "auto" (and for what "device" does not keep there) a split that is in memory after
        `check_canvases` is batched from there, without TensorFlow's seconds of import.
        """
        if choice in ("tfdata", "memory"):
            return choice
        return "memory" if self.cached and not _is_sampled(self.split) else "tfdata"


def make_canvases(
    split: Split, *, size: int, fit: str, cache_gib: float = 4.0, reject_empty: bool = False
) -> Canvases:
    """Reads and places a split's examples on demand; caches them if all fit into cache_gib.

    With reject_empty, reading an example without lung raises InputError.
    """
    count = len(split.ids)
    cached = 2 * count * size * size <= cache_gib * 2**30
    shape = (count if cached else 0, size, size)
    # np.empty takes no memory until it is written to, so an unread split costs nothing.
    images_NxSxS, masks_NxSxS = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    done_N = np.zeros(count, bool)

    def read(index: int) -> Canvas:
        if not done_N[index]:
            example = split.read(index)
            try:
                image_SxS, mask_SxS, _ = to_canvas(example.image, example.mask, size=size, fit=fit)
            except InputError as error:
                raise InputError(f"{split.ids[index]}: {error}") from error
            assert mask_SxS is not None
            if reject_empty and not mask_SxS.any():
                raise InputError(
                    f"{split.sources[index]}: this mask of the {split.name} split is empty (no "
                    f"lung pixel); mend the mask or remove the pair"
                )
            if not cached:
                return image_SxS, mask_SxS
            images_NxSxS[index], masks_NxSxS[index] = image_SxS, mask_SxS
            done_N[index] = True
        return images_NxSxS[index], masks_NxSxS[index]

    return Canvases(split, size, read, cached)


def _is_sampled(split: Split, limit: int = CHECK_LIMIT) -> bool:
    """Whether `check_canvases` reads a sample only."""
    return split.stat is not None and len(split.ids) > limit


def check_canvases(
    canvases: Canvases, limit: int = CHECK_LIMIT, sample: int = 64, *, whole: bool = False
) -> dict[str, str]:
    """Reads every example, filling the cache, so that bad data stops a run before it starts.

    Of a split with more than `limit` examples only `sample` are read, evenly spread, so that a
    large set does not delay the first step; the others are checked when their turn comes. With
    `whole` all are read all the same.

    Returns:
        id to a digest of the example, in order: `digest_example` of its canvas and mask, or, of a
        large split, what `Split.stat` says of its files.

    Raises:
        InputError: what reading raises.
    """
    split = canvases.split
    count = len(split.ids)
    sampled = _is_sampled(split, limit)
    some = sampled and not whole
    chosen = np.linspace(0, count - 1, sample).astype(int) if some else range(count)
    with ThreadPoolExecutor(count_cores()) as pool:
        digests = list(pool.map(lambda index: digest_example(*canvases.read(int(index))), chosen))
        if split.stat is not None and sampled:
            digests = list(pool.map(split.stat, range(count)))
    return dict(zip(split.ids, digests, strict=True))


def epoch_order(seed: int, epoch: int, count: int, blocks: Sequence[Block] = ()) -> np.ndarray:
    """The order in which an epoch visits the examples: count indices.

    Without blocks it is a permutation of range(count). With them, each block gets its weight's
    share of the count visits (to the nearest whole number), and visits all its examples equally
    often, but for one visit more of a random choice of them.
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
    """Index batches from start_step on, without end; an epoch leaves out count % batch_size."""
    steps_per_epoch = count // batch_size
    epoch, first = divmod(start_step, steps_per_epoch)
    while True:
        order = epoch_order(seed, epoch, count, blocks)
        for i in range(first, steps_per_epoch):
            yield order[i * batch_size : (i + 1) * batch_size]
        epoch, first = epoch + 1, 0


def eval_indices(count: int, batch_size: int) -> Iterator[np.ndarray]:
    """Every index once, in order; the last batch is filled up with PADDING."""
    for start in range(0, count, batch_size):
        indices = np.full(batch_size, PADDING)
        stop = min(start + batch_size, count)
        indices[: stop - start] = np.arange(start, stop)
        yield indices


def batches(
    canvases: Canvases, indices: Iterable[np.ndarray], *, loader: str
) -> Generator[HostBatch, None, None]:
    """The batches of the given indices, each a dict of numpy arrays.

    Args:
        canvases: what to read from.
        indices: index batches, all of one length B; PADDING gives zeros that are not valid.
        loader: "tfdata" reads, batches and prefetches in the background through tf.data;
            "memory" does the same without TensorFlow, one batch at a time.

    Yields:
        image uint8 [B, S, S], mask uint8 [B, S, S] of 0 and 1, valid bool [B].
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

    failures: list[InputError] = []

    def row(index: int) -> tuple[np.ndarray, np.ndarray, np.bool_]:
        try:
            return _row(canvases, index)
        except InputError as error:
            failures.append(error)
            raise

    def read(index):
        image, mask, valid = tf.numpy_function(row, [index], (tf.uint8, tf.uint8, tf.bool))
        return {
            "image": tf.ensure_shape(image, (size, size)),
            "mask": tf.ensure_shape(mask, (size, size)),
            "valid": tf.ensure_shape(valid, ()),
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
    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError:
        if failures:  # TensorFlow wraps what `row` raised in pages of its own traceback
            raise failures[0] from None
        raise


def import_tensorflow():
    """TensorFlow, kept off the accelerators.

    Raises:
        InputError: it is not installed.
    """
    quiet_tensorflow()
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            "reading by tf.data (data.loader='tfdata', or a split larger than the cache) needs "
            "TensorFlow, which is not installed: pip install tensorflow-cpu, or set "
            "data.loader='memory'"
        ) from error
    # TensorFlow only reads files here; on a GPU it would take the memory that JAX needs.
    tf.config.set_visible_devices([], "GPU")
    return tf
