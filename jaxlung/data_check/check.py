"""Checks whether X-rays or CT volumes with masks are fit for training; finds what is suspicious."""

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxlung.catalog import is_set, modality_of
from jaxlung.config import DataConfig
from jaxlung.data.ct_folder import holds_volumes
from jaxlung.data.folder import Pair
from jaxlung.data.metadata import read_metadata
from jaxlung.data.prepared import open_set
from jaxlung.data.splits import patients_by_id
from jaxlung.data.splitting import make_patient_finder, read_split_file, split_by_hash
from jaxlung.data_check.files import (
    IMAGES,
    VOLUMES,
    Record,
    list_pairs,
    read_example,
    read_pair,
)
from jaxlung.data_check.findings import Compared, compare_pairs, find_in_whole_set, sort_findings
from jaxlung.data_check.kinds import ERROR, KINDS, Finding
from jaxlung.data_check.volumes import compare_volumes, read_middle, read_volume_pair
from jaxlung.errors import InputError
from jaxlung.io.images import read_image
from jaxlung.io.masks import read_mask
from jaxlung.system.threads import count_workers


class Check(NamedTuple):
    """The result of a check."""

    source: str  # the folder, or the prepared set's name
    read: Callable[[str], tuple[np.ndarray, np.ndarray]]  # id to image and mask; InputError
    records: tuple[Record, ...]  # one for each pair
    compared: Mapping[str, Compared]  # by id; without pairs that have an error
    splits: Mapping[str, str]  # id to the split that training will put it in
    split_by: str  # what the splits come from
    findings: tuple[Finding, ...]  # worst first
    seconds: float

    def errors(self) -> list[Finding]:
        """The findings that stop training."""
        return [f for f in self.findings if KINDS[f.kind].severity == ERROR]

    def warnings(self) -> list[Finding]:
        """The other findings."""
        return [f for f in self.findings if KINDS[f.kind].severity != ERROR]


def check(
    source: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] = "",
    metadata: str | os.PathLike[str] | None = None,
    split_file: str | os.PathLike[str] | None = None,
    patient_pattern: str = "",
    validation_fraction: float = DataConfig.validation_fraction,
    test_fraction: float = DataConfig.test_fraction,
) -> Check:
    """Reads every pair of a folder, or of a prepared public set, once and looks for faults.

    None stops it. docs/data_check.md lists the kinds of finding with their thresholds, and
    docs/reference/data_check.md has the evidence for these.

    Args:
        source: a folder that holds images/ and masks/; or a set of `catalog`, where there is no
            folder of its name.
        data_dir: of a set: the folder of prepared sets; "" as in `prepared.data_dir_of`.
        metadata: of a folder: a CSV as in `jaxlung.data.metadata`; None: its metadata.csv, if any.
        patient_pattern: of a folder, as in `config.DataConfig`.
        split_file, validation_fraction, test_fraction: how training will split, as in
            `config.DataConfig`.

    Raises:
        InputError: the folder, a file that was named or a setting cannot be used at all, or the set
            is not prepared.
    """
    started = time.monotonic()
    place, findings = Path(source), list[Finding]()
    are_volumes = not is_set(place) and holds_volumes(place / "images")
    read_record: Callable[[Any], Record]
    items: Sequence[Any]
    if is_set(place):
        if modality_of(str(place)) == "ct":
            raise InputError(
                f"{place}: is a prepared set of CT, which `jaxlung data check` does not read; name "
                f"the folder of its volumes"
            )
        whole = open_set(str(place), data_dir)
        patients, items = patients_by_id(whole), range(len(whole.ids))
        read_record = functools.partial(read_example, whole)
    else:
        items, findings = list_pairs(place, VOLUMES if are_volumes else IMAGES)
        patients = _find_patients(place, metadata, patient_pattern, items, findings)
        read_record = functools.partial(read_pair, place)
    item_of: dict[str, Any] = dict(zip(patients, items, strict=True))

    def read(image_id: str) -> tuple[np.ndarray, np.ndarray]:
        item = item_of[image_id]
        if are_volumes:
            return read_middle(item)
        if isinstance(item, Pair):
            return read_image(item.image), read_mask(item.mask)
        image, mask_HxW, *_ = whole.read(item)
        return image, mask_HxW

    splits, by = _split(patients, split_file, validation_fraction, test_fraction, findings)
    bar = {"desc": "read", "unit": "pair", "disable": None, "leave": False}
    if are_volumes:  # one after the other: each may take a GiB
        read_facts = {pair.id: read_volume_pair(place, pair) for pair in tqdm(items, **bar)}
        records = tuple(record for record, _ in read_facts.values())
        facts = {name: own for name, (_, own) in read_facts.items() if own}
        compared, found = compare_volumes(facts, splits)
    else:
        with ThreadPoolExecutor(count_workers()) as pool:
            records = tuple(tqdm(pool.map(read_record, items), total=len(items), **bar))
        compared, found = compare_pairs(records, splits)
        found += find_in_whole_set(records)
    findings += found
    findings += [finding for record in records for finding in record.findings]
    worst_first, seconds = tuple(sort_findings(findings)), time.monotonic() - started
    return Check(str(place), read, records, compared, splits, by, worst_first, seconds)


def ranking(result: Check) -> list[tuple[str, float, str]]:
    """Ranks every pair that was compared, the most suspicious first: (id, suspicion, kind).

    Suspicion is the largest evidence that any check of the mask or image has, in units of what is
    worth a warning: 1 or more is a finding. Copies play no part in it.
    """
    ranked = []
    for image_id, row in result.compared.items():
        suspicion, kind = max((value, kind) for kind, value in row.evidence.items())
        ranked.append((image_id, suspicion, kind))
    return sorted(ranked, key=lambda entry: (-entry[1], entry[0]))


def _find_patients(
    directory: Path,
    metadata: str | os.PathLike[str] | None,
    patient_pattern: str,
    pairs: Sequence[Pair],
    findings: list[Finding],
) -> dict[str, str]:
    """Finds each id's patient as `folder.load_folder` does; each its own where nothing says it."""
    path = Path(metadata) if metadata else directory / "metadata.csv"
    if metadata and not path.is_file():
        raise InputError(f"--metadata {path}: no such file")
    ids = [pair.id for pair in pairs]
    known = None
    if path.exists():
        try:
            known = read_metadata(path, ids).patients
        except InputError as error:
            message = str(error).removeprefix(f"{path}: ")
            findings.append(Finding("metadata", (), message, path.name))
    if patient_pattern:
        known = tuple(map(make_patient_finder(patient_pattern), ids))
    return dict(zip(ids, known or ids, strict=True))


def _split(
    patients: Mapping[str, str],
    split_file: str | os.PathLike[str] | None,
    validation_fraction: float,
    test_fraction: float,
    findings: list[Finding],
) -> tuple[dict[str, str], str]:
    """Splits as training will, and finds empty splits and patients that are in several.

    Args:
        patients: id to patient.

    Returns:
        id to split, and what the splits come from.
    """
    for name, share in (("validation", validation_fraction), ("test", test_fraction)):
        if not 0 <= share < 1:
            raise InputError(f"--{name}-fraction {share:g}: expected at least 0 and less than 1")
    if validation_fraction + test_fraction >= 1:
        raise InputError(
            f"--validation-fraction {validation_fraction:g} and --test-fraction {test_fraction:g} "
            f"leave nothing to train on"
        )
    ids = tuple(patients)
    if split_file:
        lists, by = read_split_file(Path(split_file), ids), "the split file"
    else:
        by = "hash"
        lists = split_by_hash(ids, patients.__getitem__, validation_fraction, test_fraction)
        for name in (name for name, stems in lists.items() if ids and not stems):
            message = (
                f"the {name} split is empty ({len(ids)} pairs, split by hash): training needs "
                f"other fractions, a split file or more pairs; evaluation of the whole folder does "
                f"not"
            )
            findings.append(Finding("empty_split", (), message))
    splits = {stem: name for name, stems in lists.items() for stem in stems}
    members: dict[str, list[str]] = {}
    for stem in splits:
        members.setdefault(patients[stem], []).append(stem)
    for stems in members.values():
        within = sorted({splits[stem] for stem in stems})
        if len(within) > 1:  # the patient's name stays out of the report
            message = f"are of one patient but in {' and '.join(within)}"
            findings.append(Finding("patient_across_splits", tuple(sorted(stems)), message))
    return splits, by
