"""Public sets by name: the splits of one, or of several joined.

data.split is "hash" (`splitting.split_by_hash`); "published": exactly the sizes that are usual for
the set (`splitting.split_by_size`; the published lists of ids are not part of jaxlung, but
data.split_file takes them); "fold1" or "fold2": JSRT's official fold of that name trains, the other
is the test split.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxlung.catalog import CATALOG, modality_of, set_names
from jaxlung.config import DataConfig
from jaxlung.data.ct_folder import group_slices
from jaxlung.data.metadata import useful_groups
from jaxlung.data.prepared import WINDOW, open_set
from jaxlung.data.splits import (
    SPLITS,
    Block,
    Example,
    Split,
    join_splits,
    patients_by_id,
    select_examples,
)
from jaxlung.data.splitting import read_split_file, split_by_hash, split_by_size, split_into_folds
from jaxlung.errors import InputError


def load_public_splits(config: DataConfig) -> dict[str, Split]:
    """Loads the splits of the sets that config.name joins.

    With config.weights the train split's blocks say how often an epoch visits each set; the
    other splits hold every set's examples once.

    Raises:
        InputError: a set is not prepared, a split would be empty, one image is in two sets, or a
            weight is so low that its set would never be visited.
    """
    window = (config.window_low, config.window_high)
    wholes = {name: open_set(name, config.dir, window) for name in set_names(config.name)}
    if config.allow_mixed_conventions:
        first = CATALOG[next(iter(wholes))].convention
        wholes = {name: _teach(whole, first) for name, whole in wholes.items()}
    refuse_doubles(wholes)
    lists = None
    if config.split_file:
        all_ids = [image_id for whole in wholes.values() for image_id in whole.ids]
        lists = _read_lists(Path(config.split_file), all_ids, modality_of(config.name))
    ids_by_set = {name: _split_ids(name, whole, config, lists) for name, whole in wholes.items()}
    joined = {}
    for split in SPLITS:
        for name, ids_by_split in ids_by_set.items():
            if not ids_by_split[split] and (lists is None or split == "train"):
                raise InputError(
                    f"data.name={name}: its {split} split is empty; change "
                    f"data.validation_fraction or data.test_fraction, or data.split_file"
                )
        parts = [select_examples(wholes[name], ids_by_set[name][split], split) for name in wholes]
        joined[split] = join_splits(split, list(wholes), parts)
    if config.weights:
        counts = {name: len(ids_by_split["train"]) for name, ids_by_split in ids_by_set.items()}
        joined["train"] = joined["train"]._replace(blocks=_make_blocks(counts, config.weights))
    return joined


def _read_lists(path: Path, ids: Sequence[str], modality: str) -> dict[str, list[str]]:
    """Reads lists of images, or of volumes of CT, which stand for their slices."""
    if modality != "ct":
        return read_split_file(path, ids)
    slices_by_volume = group_slices(ids)
    lists = read_split_file(path, list(slices_by_volume))
    return {
        split: [image_id for volume in volumes for image_id in slices_by_volume[volume]]
        for split, volumes in lists.items()
    }


def _teach(whole: Split, structure: str) -> Split:
    """Makes a split whose masks count as those of a structure, whatever they mark."""

    def read(index: int) -> Example:
        return whole.read(index)._replace(marks=structure, others={})

    return whole._replace(read=read, labels=((structure,),) * len(whole.ids))


def _split_ids(
    name: str, whole: Split, config: DataConfig, lists: Mapping[str, list[str]] | None
) -> dict[str, list[str]]:
    """Says which of a set's ids are in which split."""
    if lists is not None:
        known = set(whole.ids)
        return {split: [i for i in lists[split] if i in known] for split in SPLITS}
    patients = patients_by_id(whole)
    validation, test = config.validation_fraction, config.test_fraction
    if config.split == "published":
        sizes = CATALOG[name].published
        assert sizes is not None  # `parse_config` checks it
        splits = split_by_size(name, whole.ids, list(patients.values()), sizes)
    elif config.split == "hash":
        splits = split_by_hash(whole.ids, patients.__getitem__, validation, test)
    else:
        folds = dict(zip(whole.ids, whole.groups["fold"], strict=True))
        training = [image_id for image_id in whole.ids if folds[image_id] == config.split]
        splits = split_by_hash(training, patients.__getitem__, validation, 0.0)
        splits["test"] = [image_id for image_id in whole.ids if folds[image_id] != config.split]
    return split_into_folds(splits, patients, config, name)


def _make_blocks(counts: Mapping[str, int], weights: tuple[float, ...]) -> tuple[Block, ...]:
    """Makes a block of each set's training examples; counts has their numbers."""
    total = sum(counts.values())
    for name, weight in zip(counts, weights, strict=True):
        if total * weight < sum(weights):
            raise InputError(
                f"data.weights={weights}: {name} would never be visited (less than once in an "
                f"epoch of {total}); weigh it more, or leave it out"
            )
    return tuple(map(Block, counts.values(), weights))


def refuse_doubles(wholes: Mapping[str, Split]) -> None:
    """Raises InputError if two of the sets hold an image of one id."""
    set_by_id: dict[str, str] = {}
    for name, whole in wholes.items():
        for image_id in whole.ids:
            if image_id in set_by_id:
                raise InputError(
                    f"data.name: {image_id!r} is in two of the sets, {set_by_id[image_id]} and "
                    f"{name}, which hold the same images; name one of them"
                )
        set_by_id |= dict.fromkeys(whole.ids, name)


def load_whole_set(name: str, data_dir: str = "", window: tuple[float, float] = WINDOW) -> Split:
    """Loads every image of a prepared set as one split, "all": see `prepared.open_set`."""
    return join_splits("all", [name], [open_set(name, data_dir, window)])


def load_one_set(joined: Split, name: str) -> Split:
    """Selects the examples of one set from a split of `join_splits`; all, if it joins no others.

    Raises:
        InputError: the split has none of that set; lists in data.split_file may bring this about.
    """
    sets = joined.groups.get("set", (name,) * len(joined.ids))
    ids = [image_id for image_id, its_set in zip(joined.ids, sets, strict=True) if its_set == name]
    if not ids:
        raise InputError(f"--data {name}: the {joined.name} split has no image of it")
    chosen = select_examples(joined, ids, joined.name)
    return chosen._replace(groups=useful_groups(chosen.groups))
