"""The splits of a public set, or of several joined: by patient, always the same.

data.split is "hash": each set's patients by `folder.hash_split`; "published": splits of exactly
the sizes that are usual for the set, filled by the patients' hashes (the published lists of ids are
not part of jaxlung: give them in data.split_file); "fold1" or "fold2": JSRT's official fold of that
name is trained on, the other is the test split.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from jaxlung.catalog import CATALOG, NamedSet, set_names
from jaxlung.config import DataConfig
from jaxlung.errors import InputError
from jaxlung.folder import hash_split, read_split_file, select
from jaxlung.folds import into_folds
from jaxlung.metadata import useful_groups
from jaxlung.prepared_sets import open_set
from jaxlung.splits import SPLITS, Block, Example, Split, patients_by_id


def named_splits(config: DataConfig) -> dict[str, Split]:
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
            ids_by_split = into_folds(by_split, patients_by_id(whole), config, entry.name)
        else:
            ids_by_split = _own(lists, whole)
        for name in SPLITS:
            parts[name].append(select(whole, ids_by_split[name], name))
    for name in SPLITS:
        for entry, part in zip(wholes, parts[name], strict=True):
            if not part.ids and (lists is None or name == "train"):
                raise InputError(
                    f"data.name={entry.name}: its {name} split is empty; change "
                    f"data.validation_fraction or data.test_fraction, or data.split_file"
                )
    names = [entry.name for entry in wholes]
    joined = {name: join(name, names, parts[name]) for name in SPLITS}
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


def whole_set(name: str, data_dir: str = "") -> Split:
    """Every image of a prepared set as one split, "all", as `prepared_sets.open_set` reads it."""
    return join("all", [name], [open_set(name, data_dir)])


def one_set(joined: Split, name: str) -> Split:
    """The examples that a split of `join` has from one set; all, where it joins no others.

    Raises:
        InputError: it has none of that set, which lists in data.split_file may bring about.
    """
    sets = joined.groups.get("set", (name,) * len(joined.ids))
    ids = [image_id for image_id, own in zip(joined.ids, sets, strict=True) if own == name]
    if not ids:
        raise InputError(f"--data {name}: the {joined.name} split has no image of it")
    chosen = select(joined, ids, joined.name)
    return chosen._replace(groups=useful_groups(chosen.groups))


def _own(lists: dict[str, list[str]], whole: Split) -> dict[str, list[str]]:
    known = set(whole.ids)
    return {name: [image_id for image_id in lists[name] if image_id in known] for name in SPLITS}


def _split(entry: NamedSet, whole: Split, config: DataConfig) -> dict[str, list[str]]:
    patients = patients_by_id(whole)
    if config.split == "published":
        assert entry.published is not None  # `parse_config` checks it
        return sized_split(entry.name, whole.ids, list(patients.values()), entry.published)
    if config.split == "hash":
        return hash_split(
            whole.ids, patients.__getitem__, config.validation_fraction, config.test_fraction
        )
    folds = dict(zip(whole.ids, whole.groups["fold"], strict=True))
    training = [image_id for image_id in whole.ids if folds[image_id] == config.split]
    splits = hash_split(training, patients.__getitem__, config.validation_fraction, 0.0)
    splits["test"] = [image_id for image_id in whole.ids if folds[image_id] != config.split]
    return splits


def sized_split(
    name: str, ids: Sequence[str], patients: Sequence[str], sizes: tuple[int, int, int]
) -> dict[str, list[str]]:
    """Train, validation and test of exactly these sizes, disjoint by patient.

    Patients of several images are for training; the others come in the order of their hashes:
    test, validation, then train.

    Args:
        name: of the set, for the error.
        patients: of each id.

    Raises:
        InputError: the sizes are not those of the ids, or leave no place for a patient.
    """
    count = Counter(patients)
    singles = [
        image_id for image_id, patient in zip(ids, patients, strict=True) if count[patient] == 1
    ]
    train, validation, test = sizes
    if len(ids) != sum(sizes) or len(singles) < validation + test:
        raise InputError(
            f"data.split='published': {name} has {len(ids)} images, the published sizes are "
            f"{train}, {validation} and {test}; prepare the whole set, or use data.split='hash'"
        )
    patient_of = dict(zip(ids, patients, strict=True))
    order = sorted(
        singles, key=lambda image_id: hashlib.sha256(patient_of[image_id].encode()).digest()
    )
    chosen = {"test": set(order[:test]), "validation": set(order[test : test + validation])}
    chosen["train"] = set(ids) - chosen["test"] - chosen["validation"]
    return {split: [image_id for image_id in ids if image_id in chosen[split]] for split in SPLITS}


def join(name: str, sets: Sequence[str], parts: Sequence[Split]) -> Split:
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
