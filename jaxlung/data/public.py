"""The splits of a public set, or of several joined: by patient, always the same.

data.split is "hash": each set's patients by `splitting.split_by_hash`; "published": splits of
exactly the sizes that are usual for the set, filled by the patients' hashes (the published lists of
ids are not part of jaxlung: give them in data.split_file); "fold1" or "fold2": JSRT's official fold
of that name is trained on, the other is the test split.
"""

from pathlib import Path

from jaxlung.catalog import CATALOG, NamedSet, set_names
from jaxlung.config import DataConfig
from jaxlung.data.metadata import useful_groups
from jaxlung.data.prepared import open_set
from jaxlung.data.splits import (
    SPLITS,
    Block,
    Split,
    _refuse_doubles,
    join_splits,
    patients_by_id,
    select_examples,
)
from jaxlung.data.splitting import read_split_file, split_by_hash, split_by_size, split_into_folds
from jaxlung.errors import InputError


def load_public_splits(config: DataConfig) -> dict[str, Split]:
    """The splits of the sets that config.name joins.

    With config.weights the train split's blocks say how often an epoch visits each set; the
    others hold every set's examples once.

    Raises:
        InputError: a set that is not prepared, a split that would be empty, one image in two
            sets, or a weight so low that its set would never be visited.
    """
    wholes = {CATALOG[name]: open_set(name, config.dir) for name in set_names(config.name)}
    _refuse_doubles({entry.name: whole for entry, whole in wholes.items()})
    lists = None
    if config.split_file:
        ids = [image_id for whole in wholes.values() for image_id in whole.ids]
        lists = read_split_file(Path(config.split_file), ids)
    parts: dict[str, list[Split]] = {name: [] for name in SPLITS}
    for entry, whole in wholes.items():
        if lists is None:
            by_split = _split(entry, whole, config)
            ids_by_split = split_into_folds(by_split, patients_by_id(whole), config, entry.name)
        else:
            ids_by_split = _own(lists, whole)
        for name in SPLITS:
            parts[name].append(select_examples(whole, ids_by_split[name], name))
    for name in SPLITS:
        for entry, part in zip(wholes, parts[name], strict=True):
            if not part.ids and (lists is None or name == "train"):
                raise InputError(
                    f"data.name={entry.name}: its {name} split is empty; change "
                    f"data.validation_fraction or data.test_fraction, or data.split_file"
                )
    names = [entry.name for entry in wholes]
    joined = {name: join_splits(name, names, parts[name]) for name in SPLITS}
    if config.weights:
        counts = [len(part.ids) for part in parts["train"]]
        blocks = tuple(map(Block, counts, config.weights))
        for entry, block in zip(wholes, blocks, strict=True):
            if sum(counts) * block.weight < sum(config.weights):
                raise InputError(
                    f"data.weights={config.weights}: {entry.name} would never be visited (less "
                    f"than once in an epoch of {sum(counts)}); weigh it more, or leave it out"
                )
        joined["train"] = joined["train"]._replace(blocks=blocks)
    return joined


def load_whole_set(name: str, data_dir: str = "") -> Split:
    """Every image of a prepared set as one split, "all", as `prepared.open_set` reads it."""
    return join_splits("all", [name], [open_set(name, data_dir)])


def load_one_set(joined: Split, name: str) -> Split:
    """The examples that a split of `join_splits` has from one set; all, where it joins no others.

    Raises:
        InputError: it has none of that set, which lists in data.split_file may bring about.
    """
    sets = joined.groups.get("set", (name,) * len(joined.ids))
    ids = [image_id for image_id, own in zip(joined.ids, sets, strict=True) if own == name]
    if not ids:
        raise InputError(f"--data {name}: the {joined.name} split has no image of it")
    chosen = select_examples(joined, ids, joined.name)
    return chosen._replace(groups=useful_groups(chosen.groups))


def _own(lists: dict[str, list[str]], whole: Split) -> dict[str, list[str]]:
    known = set(whole.ids)
    return {name: [image_id for image_id in lists[name] if image_id in known] for name in SPLITS}


def _split(entry: NamedSet, whole: Split, config: DataConfig) -> dict[str, list[str]]:
    patients = patients_by_id(whole)
    if config.split == "published":
        assert entry.published is not None  # `parse_config` checks it
        return split_by_size(entry.name, whole.ids, list(patients.values()), entry.published)
    if config.split == "hash":
        return split_by_hash(
            whole.ids, patients.__getitem__, config.validation_fraction, config.test_fraction
        )
    folds = dict(zip(whole.ids, whole.groups["fold"], strict=True))
    training = [image_id for image_id in whole.ids if folds[image_id] == config.split]
    splits = split_by_hash(training, patients.__getitem__, config.validation_fraction, 0.0)
    splits["test"] = [image_id for image_id in whole.ids if folds[image_id] != config.split]
    return splits
