"""Checks whether X-rays with lung masks are fit for training, and finds what is suspicious."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from jaxlung.config import DataConfig
from jaxlung.data.metadata import read_metadata
from jaxlung.data.prepared import open_set
from jaxlung.data.splits import patients_by_id
from jaxlung.data.splitting import make_patient_finder, read_split_file, split_by_hash
from jaxlung.data_check.files import Record, list_pairs, read_example, read_pair
from jaxlung.data_check.findings import Compared, compare_pairs, find_in_whole_set, sort_findings
from jaxlung.data_check.kinds import ERROR, KINDS, Finding
from jaxlung.errors import InputError
from jaxlung.io.images import read_image
from jaxlung.io.masks import read_mask
from jaxlung.system.threads import count_workers


class Splits(NamedTuple):
    """How training will split a set, and the faults of that."""

    of: Mapping[str, str]  # id to split
    by: str  # what the splits come from
    findings: tuple[Finding, ...]


class Check(NamedTuple):
    """The result of a check."""

    source: str  # the folder, or the prepared set's name
    read: Callable[[str], tuple[np.ndarray, np.ndarray]]  # id to image and mask; InputError
    records: tuple[Record, ...]  # one for each pair
    compared: Compared
    splits: Splits
    findings: tuple[Finding, ...]  # worst first
    seconds: float

    def errors(self) -> list[Finding]:
        """The findings that stop training."""
        return [f for f in self.findings if KINDS[f.kind].severity == ERROR]

    def warnings(self) -> list[Finding]:
        """The other findings."""
        return [f for f in self.findings if KINDS[f.kind].severity != ERROR]


def check(
    directory: str | os.PathLike[str],
    *,
    metadata: str | os.PathLike[str] | None = None,
    split_file: str | os.PathLike[str] | None = None,
    patient_pattern: str = "",
    validation_fraction: float = DataConfig.validation_fraction,
    test_fraction: float = DataConfig.test_fraction,
) -> Check:
    """Reads every pair of a folder once and looks for faults; none stops it.

    docs/data_check.md lists the kinds of finding, with the evidence for their thresholds.

    Args:
        directory: holds images/ and masks/.
        metadata: a CSV as in `jaxlung.data.metadata`; None: the metadata.csv of the folder, if any.
        split_file, patient_pattern, validation_fraction, test_fraction: how training will split,
            as in `config.DataConfig`.

    Raises:
        InputError: the folder, a file that was named or a setting cannot be used at all.
    """
    started = time.monotonic()
    directory = Path(directory)
    pairs, findings = list_pairs(directory)
    ids = [pair.id for pair in pairs]
    patients, more = _find_patients(directory, metadata, patient_pattern, ids)
    splits = _split(ids, patients, split_file, validation_fraction, test_fraction)
    files = {pair.id: pair for pair in pairs}

    def read(image_id: str) -> tuple[np.ndarray, np.ndarray]:
        return read_image(files[image_id].image), read_mask(files[image_id].mask)

    records = _read_all(lambda i: read_pair(directory, pairs[i]), len(pairs))
    return _compare(str(directory), read, records, splits, [*findings, *more], started)


def check_set(
    name: str,
    data_dir: str | os.PathLike[str] = "",
    *,
    split_file: str | os.PathLike[str] | None = None,
    validation_fraction: float = DataConfig.validation_fraction,
    test_fraction: float = DataConfig.test_fraction,
) -> Check:
    """Checks a prepared public set as `check` does a folder.

    Args:
        name: of `catalog`.
        data_dir: the folder of prepared sets; "" as in `prepared.data_dir_of`.
        split_file, validation_fraction, test_fraction: how training will split, as in
            `config.DataConfig`.

    Raises:
        InputError: the set is not prepared, or a setting cannot be used.
    """
    started = time.monotonic()
    whole = open_set(name, data_dir)
    patients = patients_by_id(whole)
    splits = _split(whole.ids, patients, split_file, validation_fraction, test_fraction)
    position = {image_id: i for i, image_id in enumerate(whole.ids)}

    def read(image_id: str) -> tuple[np.ndarray, np.ndarray]:
        example = whole.read(position[image_id])
        return example.image, example.mask

    records = _read_all(lambda i: read_example(whole, i), len(whole.ids))
    return _compare(name, read, records, splits, [], started)


def _read_all(read: Callable[[int], Record], count: int) -> list[Record]:
    with ThreadPoolExecutor(count_workers()) as pool:
        records = pool.map(read, range(count))
        bar = {"desc": "read", "unit": "pair", "disable": None, "leave": False}
        return list(tqdm(records, total=count, **bar))


def _compare(
    source: str,
    read: Callable[[str], tuple[np.ndarray, np.ndarray]],
    records: Sequence[Record],
    splits: Splits,
    findings: Sequence[Finding],
    started: float,
) -> Check:
    compared = compare_pairs(records, splits.of)
    found = [*findings, *splits.findings, *compared.findings, *find_in_whole_set(records)]
    found += [finding for record in records for finding in record.findings]
    seconds = time.monotonic() - started
    worst_first = tuple(sort_findings(found))
    return Check(source, read, tuple(records), compared, splits, worst_first, seconds)


def ranking(result: Check) -> list[tuple[str, float, str]]:
    """Ranks every pair that was compared, the most suspicious first: (id, suspicion, kind).

    Suspicion is the largest evidence that any check of the mask or image has, in units of what is
    worth a warning: 1 or more is a finding. Copies play no part in it.
    """
    ranked = []
    for image_id, evidence in result.compared.suspicion.items():
        kind = max(evidence, key=lambda kind: (evidence[kind], kind))
        ranked.append((image_id, evidence[kind], kind))
    return sorted(ranked, key=lambda entry: (-entry[1], entry[0]))


def _find_patients(
    directory: Path,
    metadata: str | os.PathLike[str] | None,
    patient_pattern: str,
    ids: Sequence[str],
) -> tuple[Mapping[str, str], list[Finding]]:
    """Finds each id's patient as `folder.load_folder` does; each its own where nothing says it."""
    path = Path(metadata) if metadata else directory / "metadata.csv"
    if metadata and not path.is_file():
        raise InputError(f"--metadata {path}: no such file")
    known, findings = None, []
    if path.exists():
        try:
            known = read_metadata(path, ids).patients
        except InputError as error:
            message = str(error).removeprefix(f"{path}: ")
            findings.append(Finding("metadata", (), path.name, message))
    if patient_pattern:
        known = tuple(map(make_patient_finder(patient_pattern), ids))
    return dict(zip(ids, known or ids, strict=True)), findings


def _split(
    ids: Sequence[str],
    patients: Mapping[str, str],
    split_file: str | os.PathLike[str] | None,
    validation_fraction: float,
    test_fraction: float,
) -> Splits:
    """Splits as training will, and finds empty splits and patients that are in several."""
    for name, share in (("validation", validation_fraction), ("test", test_fraction)):
        if not 0 <= share < 1:
            raise InputError(f"--{name}-fraction {share:g}: expected at least 0 and less than 1")
    if validation_fraction + test_fraction >= 1:
        raise InputError(
            f"--validation-fraction {validation_fraction:g} and --test-fraction {test_fraction:g} "
            f"leave nothing to train on"
        )
    if split_file:
        lists, by = read_split_file(Path(split_file), ids), "the split file"
        empty = []
    else:
        lists = split_by_hash(ids, patients.__getitem__, validation_fraction, test_fraction)
        by, empty = "hash", [name for name, stems in lists.items() if ids and not stems]
    messages = (
        f"the {name} split is empty ({len(ids)} pairs, split by hash): training needs other "
        f"fractions, a split file or more pairs; evaluation of the whole folder does not"
        for name in empty
    )
    findings = [Finding("empty_split", (), "", message) for message in messages]
    splits = {stem: name for name, stems in lists.items() for stem in stems}
    members: dict[str, list[str]] = {}
    for stem in splits:
        members.setdefault(patients[stem], []).append(stem)
    for stems in members.values():
        within = sorted({splits[stem] for stem in stems})
        if len(within) > 1:  # the patient's name stays out of the report
            message = f"are of one patient but in {' and '.join(within)}"
            findings.append(Finding("patient_across_splits", tuple(sorted(stems)), "", message))
    return Splits(splits, by, tuple(findings))
