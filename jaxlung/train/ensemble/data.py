"""What the members of an ensemble train and validate on: the same images, or each its own fold."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxlung.config import Config, member_configs
from jaxlung.data.datasets import load_splits
from jaxlung.data.input_pipeline import PADDING, Canvases, batches, eval_indices, train_indices
from jaxlung.errors import InputError
from jaxlung.train.data import prepare_data
from jaxlung.train.ensemble.mesh import member_batch_sharding
from jaxlung.train.sigterm import Stop
from jaxlung.workdir.record import Digests

Splits = dict[str, Canvases]


def prepare_members(config: Config) -> tuple[list[Splits], Digests]:
    """Reads and checks every example once.

    Returns:
        the members' splits: of folds each one's, otherwise a single one that all share; and ids
        with their digests, for folds of all that any member trains on or validates with.

    Raises:
        InputError: see `data.prepare_data`.
    """
    first, *others = member_configs(config)
    canvases, digests = prepare_data(first)
    if not config.ensemble.folds:
        return [canvases], digests
    home = {
        image_id: (canvases[name], i)
        for name in ("train", "validation")
        for i, image_id in enumerate(canvases[name].split.ids)
    }
    splits_M = [canvases]
    for member in others:
        own = dict(canvases)
        for name in ("train", "validation"):
            split = load_splits(member.data)[name]
            own[name] = canvases[name]._replace(split=split, read=_reader(split.ids, home))
        count = len(own["train"].split.ids)
        if count < config.train.batch_size:
            raise InputError(
                f"data.fold={member.data.fold}: {count} are left to train on, fewer than "
                f"train.batch_size={config.train.batch_size}; lower train.batch_size or data.folds"
            )
        splits_M.append(own)
    pool = {**digests["train"], **digests["validation"]}
    return splits_M, {"train": pool, "validation": pool, "test": digests["test"]}


def _reader(ids: Sequence[str], home: dict[str, tuple[Canvases, int]]) -> Callable[[int], Any]:
    def read(index: int) -> Any:
        canvases, i = home[ids[index]]
        return canvases.read(i)

    return read


def steps_per_epoch(splits_M: Sequence[Splits], config: Config, members: int) -> list[int]:
    """Of each member."""
    counts = [len(s["train"].split.ids) // config.train.batch_size for s in splits_M]
    return counts * (members // len(counts))


@contextlib.contextmanager
def training_batches(
    splits_M: Sequence[Splits], config: Config, start: int, mesh: jax.sharding.Mesh
) -> Iterator[Iterator[Any]]:
    """Batches on the devices, from `start` on.

    Folds differ in size. An epoch has as many batches as the largest one's; a member that has had
    its own gets batches of PADDING, on which it is not to be trained.

    Yields:
        an iterator of batches [B, ...] where the members share them, else [M, B, ...].
    """
    batch_size, shared = config.train.batch_size, len(splits_M) == 1
    counts = steps_per_epoch(splits_M, config, len(splits_M))
    epoch, first = divmod(start, max(counts))

    def indices(canvases: Canvases, count: int) -> Iterator[np.ndarray]:
        split = canvases.split
        own = train_indices(
            config.data.seed,
            epoch * count + min(first, count),
            len(split.ids),
            batch_size,
            split.blocks,
        )
        for tick in itertools.count(first):
            yield next(own) if tick % max(counts) < count else np.full(batch_size, PADDING)

    with contextlib.ExitStack() as stack:
        streams = []
        for splits, count in zip(splits_M, counts, strict=True):
            canvases = splits["train"]
            loader = canvases.loader(config.data.loader)
            stream = batches(canvases, indices(canvases, count), loader=loader)
            streams.append(stack.enter_context(contextlib.closing(stream)))
        yield (_placed(parts, mesh, shared=shared) for parts in zip(*streams, strict=True))


def _placed(parts: Sequence[Any], mesh: jax.sharding.Mesh, *, shared: bool) -> Any:
    """One batch for all members, or each one's, on the devices."""
    batch = parts[0] if shared else jax.tree.map(lambda *arrays: np.stack(arrays), *parts)
    return jax.device_put(batch, member_batch_sharding(mesh, shared=shared))


def evaluate_on_validation(
    variables_M: Any,
    evaluate: Callable[..., Any],
    splits_M: Sequence[Splits],
    config: Config,
    mesh: jax.sharding.Mesh,
    members: int,
    stop: Stop,
) -> list[list[Any]] | None:
    """Each member on its validation split.

    Returns:
        for each member the results of `steps.eval_step` on its batches; None where the run was
        asked to stop meanwhile.
    """
    batch_size, shared = config.train.batch_size, len(splits_M) == 1
    validation = [splits["validation"] for splits in splits_M]
    longest = max(-(-len(canvases.split.ids) // batch_size) for canvases in validation)

    def padded(canvases: Canvases) -> Iterator[np.ndarray]:
        own = eval_indices(len(canvases.split.ids), batch_size)
        yield from itertools.islice(
            itertools.chain(own, itertools.repeat(np.full(batch_size, PADDING))), longest
        )

    streams = [
        batches(canvases, padded(canvases), loader=canvases.loader(config.data.loader))
        for canvases in validation
    ]
    results: list[Any] = []
    for parts in zip(*streams, strict=True):
        placed = _placed(parts, mesh, shared=shared)
        results.append(jax.device_get(evaluate(variables_M, placed)))
        if stop.asked:
            return None
    return [[jax.tree.map(lambda x, m=m: x[m], r) for r in results] for m in range(members)]
