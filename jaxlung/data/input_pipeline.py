"""From splits to batches of canvases. TensorFlow is used here and in the TFDS builders alone.

Each epoch's order is a function of (seed, epoch), and so every batch is a function of (seed, step):
no state of the input needs a checkpoint, and the two loaders give the same batches.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

import numpy as np

from jaxlung.data.canvases import Canvas, Canvases
from jaxlung.data.splits import Block
from jaxlung.errors import InputError
from jaxlung.system.silence import import_tensorflow

HostBatch = dict[str, np.ndarray]
PADDING = -1  # the index of a row that only fills up an evaluation's last batch


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
        image uint8 [B, S, S], mask uint8 [B, S, S, C] (coverage), labelled bool [B, C], valid
        bool [B].

    Raises:
        InputError: an example cannot be read, or TensorFlow is not installed.

    Example:
        >>> from jaxlung.data.canvases import make_canvases
        >>> from jaxlung.data.splits import make_array_split
        >>> split = make_array_split("test", ["a"], np.zeros((1, 8, 8)), np.ones((1, 8, 8)))
        >>> canvases = make_canvases(split, size=4, fit="stretch")
        >>> [batch] = batches(canvases, eval_indices(1, 2), loader="memory")
        >>> batch["image"].shape, batch["mask"].shape, batch["valid"].tolist()
        ((2, 4, 4), (2, 4, 4, 1), [True, False])
    """
    if loader == "memory":
        return (stack_rows([_row(canvases, index) for index in batch]) for batch in indices)
    return _tfdata_batches(canvases, indices)


def _row(canvases: Canvases, index: int) -> dict[str, np.ndarray]:
    if index != PADDING:
        return {**_named(canvases.read(int(index))), "valid": np.array(True)}
    shape, count = (canvases.size, canvases.size), len(canvases.outputs)
    blank_SxS, masks_SxSxC = np.zeros(shape, np.uint8), np.zeros((*shape, count), np.uint8)
    padding = Canvas(blank_SxS, masks_SxSxC, np.zeros(count, bool))
    return {**_named(padding), "valid": np.array(False)}


def _named(canvas: Canvas) -> dict[str, np.ndarray]:
    return {"image": canvas.image_SxS, "mask": canvas.mask_SxSxC, "labelled": canvas.labelled_C}


def stack_rows(rows: Sequence[Mapping[str, np.ndarray]]) -> HostBatch:
    """Stacks examples, each a dict of the same arrays, to a batch."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def stack_canvases(canvases: Canvases) -> HostBatch:
    """Reads all of a split: image [N, S, S], mask [N, S, S, C] and labelled [N, C]."""
    return stack_rows([_named(canvases.read(i)) for i in range(len(canvases.split.ids))])


def _tfdata_batches(
    canvases: Canvases, indices: Iterable[np.ndarray]
) -> Generator[HostBatch, None, None]:
    tf = import_tensorflow()
    iterator = iter(indices)
    first = next(iterator, None)
    if first is None:
        return
    batch_size = len(first)

    def generate() -> Iterator[np.ndarray]:
        yield first
        yield from iterator

    failures: dict[int, InputError] = {}
    padding = _row(canvases, PADDING)
    shapes = {name: tf.TensorSpec.from_tensor(tf.constant(one)) for name, one in padding.items()}
    shapes["failed"] = tf.TensorSpec((), tf.int64)

    def row(index: int) -> list[np.ndarray]:
        # TensorFlow writes a page of traceback for what is raised here, before anybody catches it.
        try:
            return [*_row(canvases, index).values(), np.array(PADDING)]
        except InputError as error:
            failures[int(index)] = error
            return [*padding.values(), np.array(index)]

    def read(index):
        found = tf.numpy_function(row, [index], [one.dtype for one in shapes.values()])
        return {
            name: tf.ensure_shape(one, shapes[name].shape)
            for name, one in zip(shapes, found, strict=True)
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
