"""K-fold cross-validation: each patient outside the test split validates in exactly one fold."""

import hashlib
from collections.abc import Mapping, Sequence

from jaxlung.config import DataConfig
from jaxlung.errors import InputError


def fold_of(patient: str, folds: int) -> int:
    """A patient's fold, in 0 ... folds - 1, by hash alone: more images never move the old ones.

    By other bytes of the hash than `folder.hash_split` goes by, so that the folds of what it left
    outside the test split are alike in size.
    """
    digest = hashlib.sha256(patient.encode()).digest()
    return int.from_bytes(digest[8:16], "big") * folds >> 64


def into_folds(
    ids_by_split: Mapping[str, Sequence[str]],
    patients: Mapping[str, str],
    config: DataConfig,
    where: str,
) -> dict[str, list[str]]:
    """The splits with data.folds: fold data.fold validates, the others train, test stays as it is.

    Args:
        ids_by_split: without folds; returned as it is where data.folds is 0.
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
