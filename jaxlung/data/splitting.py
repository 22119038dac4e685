"""Which example is in which split: by hash, by fixed sizes, by lists in a file, in folds.

All go by patient, and by the patients' names alone: more images never move the old ones. Lists are
taken as they are. In cross-validation each patient outside the test split validates in exactly one
fold.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxlung.config import DataConfig
from jaxlung.data.splits import SPLITS
from jaxlung.errors import InputError
from jaxlung.io.text import compose, read_text


def fold_of(patient: str, folds: int) -> int:
    """Returns a patient's fold, in 0 ... folds - 1, by hash alone.

    Other bytes of the hash decide than in `split_by_hash`: the folds of what it left outside the
    test split are therefore alike in size.

    Example:
        >>> [fold_of(f"patient{i}", 5) for i in range(4)]
        [0, 3, 4, 0]
    """
    digest = hashlib.sha256(patient.encode()).digest()
    return int.from_bytes(digest[8:16], "big") * folds >> 64


def split_into_folds(
    ids_by_split: Mapping[str, Sequence[str]],
    patients: Mapping[str, str],
    config: DataConfig,
    where: str,
) -> dict[str, list[str]]:
    """Splits anew by data.folds: fold data.fold validates, the others train, test stays the same.

    Args:
        ids_by_split: the splits without folds; returned as they are where data.folds is 0.
        patients: id to patient, in the order of the data set.
        where: the folder or set, for the error.

    Raises:
        InputError: one of the folds has no patient.
    """
    splits = {name: list(ids) for name, ids in ids_by_split.items()}
    if not config.folds:
        return splits
    pool = {*splits["train"], *splits["validation"]}
    ids_by_fold: list[list[str]] = [[] for _ in range(config.folds)]
    fold_by_id = {i: fold_of(patient, config.folds) for i, patient in patients.items() if i in pool}
    for image_id, fold in fold_by_id.items():
        ids_by_fold[fold].append(image_id)
    for fold, ids in enumerate(ids_by_fold):
        if not ids:
            count = len({patients[image_id] for image_id in pool})
            raise InputError(
                f"{where}: data.folds={config.folds} leaves fold {fold} empty ({count} patients "
                f"outside the test split, by hash); lower data.folds"
            )
    return {
        "train": [i for i, fold in fold_by_id.items() if fold != config.fold],
        "validation": ids_by_fold[config.fold],
        "test": splits["test"],
    }


def split_stems(
    config: DataConfig, stems: Sequence[str], patients: Mapping[str, str]
) -> dict[str, list[str]]:
    """Splits the stems of a folder by data.split_file, else by hash and data.folds.

    Raises:
        InputError: a split would be empty, or the lists cannot be used.
    """
    if config.split_file:
        return read_split_file(Path(config.split_file), stems)
    stems_by_split = split_by_hash(
        stems, patients.__getitem__, config.validation_fraction, config.test_fraction
    )
    stems_by_split = split_into_folds(stems_by_split, patients, config, config.dir)
    for name, chosen in stems_by_split.items():
        if not chosen:
            raise InputError(
                f"{config.dir}: the {name} split is empty ({len(stems)} files, split by "
                f"hash); change data.validation_fraction or data.test_fraction, or give lists "
                f"in data.split_file"
            )
    return stems_by_split


def make_patient_finder(pattern: str) -> Callable[[str], str]:
    """Makes a function from stem to patient: group 1 of the pattern; "" takes the stem itself.

    Raises:
        InputError: the pattern is not a regular expression with a group; the function raises it
            for a stem that does not match.

    Example:
        >>> make_patient_finder(r"P(\\d+)")("scan_P12_3")
        '12'
    """
    if not pattern:
        return lambda stem: stem
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"data.patient_pattern='{pattern}' is no regular expression: {error}"
        ) from error
    if compiled.groups < 1:
        raise InputError(f"data.patient_pattern='{pattern}' needs a group ( ) for the patient")

    def patient(stem: str) -> str:
        match = compiled.search(stem)
        if match is None or match.group(1) is None:
            raise InputError(f"data.patient_pattern='{pattern}' does not match the stem {stem!r}")
        return match.group(1)

    return patient


def split_by_hash(
    stems: Sequence[str],
    patient: Callable[[str], str],
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, list[str]]:
    """Splits by a hash of the patient alone, in the shares given; the rest is for training."""
    splits: dict[str, list[str]] = {name: [] for name in SPLITS}
    for stem in stems:
        digest = hashlib.sha256(patient(stem).encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        if position < test_fraction:
            splits["test"].append(stem)
        elif position < test_fraction + validation_fraction:
            splits["validation"].append(stem)
        else:
            splits["train"].append(stem)
    return splits


def read_split_file(path: Path, stems: Sequence[str]) -> dict[str, list[str]]:
    """Reads {"train": [stems], "validation": [...], "test": [...]}; stems not named are unused.

    Raises:
        InputError: the file is not such an object, a list is empty, or a stem is unknown or stands
            twice.
    """
    try:
        lists = json.loads(read_text(path))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(lists, dict) or set(lists) != set(SPLITS):
        raise InputError(f"{path}: expected an object with the lists {', '.join(SPLITS)}")
    known = {compose(stem): stem for stem in stems}
    seen: dict[str, str] = {}
    for name in SPLITS:
        if not isinstance(lists[name], list) or not lists[name]:
            raise InputError(f"{path}: {name} is not a list of stems, or is empty")
        for stem in lists[name]:
            if not isinstance(stem, str) or compose(stem) not in known:
                raise InputError(f"{path}: {name} names {stem!r}, which has no image")
            if compose(stem) in seen:
                raise InputError(
                    f"{path}: {stem!r} is in {seen[compose(stem)]} and again in {name}"
                )
            seen[compose(stem)] = name
    return {name: [known[compose(stem)] for stem in lists[name]] for name in SPLITS}


def split_by_size(
    name: str, ids: Sequence[str], patients: Sequence[str], sizes: tuple[int, int, int]
) -> dict[str, list[str]]:
    """Splits into train, validation and test of exactly these sizes, disjoint by patient.

    Patients with several images train; the others come in the order of their hashes: test,
    validation, then train.

    Args:
        name: of the set, for the error.
        ids: of N images.
        patients: of each id, N.
        sizes: of train, validation and test; their sum is N.

    Raises:
        InputError: the sizes do not sum to N, or too few patients have a single image.
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
