"""A folder of X-rays: images/ and masks/ with the same stem (or stem + _mask), and its splits.

metadata.csv beside them may name patients, pixel spacings and subgroups: see `metadata`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxlung.config import DataConfig
from jaxlung.dicom import is_dicom
from jaxlung.errors import InputError
from jaxlung.film import check_xray
from jaxlung.folds import into_folds
from jaxlung.images import SUFFIXES, read_film, read_mask
from jaxlung.metadata import Metadata, read_metadata
from jaxlung.splits import SPLITS, Example, Split, patients_by_id


class Pair(NamedTuple):
    id: str  # the stem
    image: Path
    mask: Path


def folder_splits(config: DataConfig) -> dict[str, Split]:
    """The splits of config.dir: by the lists in split_file, else by each patient's hash."""
    whole = folder_split(Path(config.dir), config.patient_pattern)
    whole = whole._replace(read=_with_remedy(whole.read, config.dir))
    patients = patients_by_id(whole)
    stems_by_split = split_stems(config, whole.ids, patients)
    return {name: select(whole, stems, name) for name, stems in stems_by_split.items()}


def _with_remedy(read: Callable[[int], Example], directory: str) -> Callable[[int], Example]:
    """Where one file is damaged others may be: training would stop at each in turn."""

    def read_or_advise(index: int) -> Example:
        try:
            return read(index)
        except InputError as error:
            raise InputError(f"{error} (`jaxlung data check {directory}` names all)") from error

    return read_or_advise


def split_stems(
    config: DataConfig, stems: Sequence[str], patients: Mapping[str, str]
) -> dict[str, list[str]]:
    """Which stems are in which split; none of the splits is empty."""
    if config.split_file:
        return read_split_file(Path(config.split_file), stems)
    stems_by_split = hash_split(
        stems, patients.__getitem__, config.validation_fraction, config.test_fraction
    )
    stems_by_split = into_folds(stems_by_split, patients, config, config.dir)
    for name, chosen in stems_by_split.items():
        if not chosen:
            raise InputError(
                f"{config.dir}: the {name} split is empty ({len(stems)} files, split by "
                f"hash); change data.validation_fraction or data.test_fraction, or give lists "
                f"in data.split_file"
            )
    return stems_by_split


def folder_split(directory: Path, patient_pattern: str = "") -> Split:
    """Every pair of a folder as one split, "all", with what its metadata.csv says, if it has one.

    Patients are those of the pattern (see `patient_of`), else of metadata.csv, else one an image.
    """
    pairs = find_pairs(directory)
    stems = [stem for stem, _, _ in pairs]
    path = directory / "metadata.csv"
    metadata = read_metadata(path if path.exists() else None, stems)
    patients = metadata.patients
    if patient_pattern:
        patients = tuple(map(patient_of(patient_pattern), stems))
    return pair_split("all", pairs, metadata._replace(patients=patients))


def find_pairs(directory: Path) -> list[Pair]:
    """Each image with its mask, sorted by stem.

    Raises:
        InputError: a missing or empty folder, or an image or mask that stands alone, by name.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such folder; it should hold images/ and masks/")
    images = images_by_stem(directory / "images")
    masks = images_by_stem(directory / "masks")
    pairs = []
    for stem, image in images.items():
        mask = take_mask(masks, stem)
        if mask is None:
            raise InputError(
                f"{image}: has no mask; expected {directory / 'masks' / stem}.png "
                f"or {stem}_mask.png (or move the image out of images/)"
            )
        pairs.append(Pair(stem, image, mask))
    if masks:
        mask = next(iter(masks.values()))
        raise InputError(f"{mask}: has no image of that stem in {directory / 'images'}")
    return pairs


def take_mask(masks: dict[str, Path], stem: str) -> Path | None:
    """Takes an image's mask out of masks by stem; None if there is none."""
    return masks.pop(stem, None) or masks.pop(f"{stem}_mask", None)


def images_by_stem(directory: Path) -> dict[str, Path]:
    """The image files of a folder, sorted by stem.

    Images are files of a known suffix, and DICOM files without one, as archives export them: the
    stem of such a file (IM000001, 1.2.840.113619) is its whole name. A DICOMDIR is none.

    Raises:
        InputError: a missing folder, one without image, or two images of one stem.
    """
    if not directory.is_dir():
        above = directory.parent.name in ("images", "masks")
        hint = "; name the folder that holds images/ and masks/" if above else ""
        raise InputError(f"{directory}: no such folder{hint}")
    found: dict[str, Path] = {}
    for path in sorted(directory.iterdir(), key=lambda path: (stem_of(path), path.name)):
        stem = stem_of(path)
        if not is_image(path) or path.name.startswith("."):
            continue
        if not is_utf8(path.name):
            raise InputError(
                f"{str(directory)!r}: the file name {path.name!r} is not UTF-8; rename it"
            )
        if stem in found:
            raise InputError(f"{path}: same stem as {found[stem].name}; keep one of them")
        found[stem] = path
    if not found:
        raise InputError(f"{directory}: holds no image ({' '.join(SUFFIXES)}){no_image(directory)}")
    return found


def no_image(directory: Path) -> str:
    """The end of an error about a folder without images: what it may be instead."""
    if (directory / "masks").is_dir():
        return f"; did you mean {directory / 'masks'}?"
    if any(path.name.lower().endswith((".nii", ".nii.gz")) for path in directory.iterdir()):
        return " but CT volumes, which train.py and eval.py take with data.name=ct"
    return ""


def is_utf8(name: str) -> bool:
    """Not so of a name with stray bytes, which no JSON or report could hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_image(path: Path) -> bool:
    """By its suffix, or by its content for DICOM, which often has none."""
    return path.suffix.lower() in SUFFIXES or (path.name != "DICOMDIR" and is_dicom(path))


def stem_of(path: Path) -> str:
    """The name without a suffix that says it is an image."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def pair_split(name: str, pairs: Sequence[Pair], metadata: Metadata | None = None) -> Split:
    """A split of files, read and checked when asked for.

    An example's spacing is that of metadata, which a person wrote down for these images, else
    what its file says (DICOM). A file that says it is no X-ray is refused.
    """
    stems = tuple(stem for stem, _, _ in pairs)
    metadata = metadata or read_metadata(None, stems)

    def read(index: int) -> Example:
        _, image_path, mask_path = pairs[index]
        film, mask = read_film(image_path), read_mask(mask_path)
        check_xray(film.modality, image_path)
        image = film.image
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"{mask_path}: is {mask.shape[0]}x{mask.shape[1]} but its image {image_path.name} "
                f"is {image.shape[0]}x{image.shape[1]} (height x width); give both one size"
            )
        return Example(image, mask, metadata.spacings[index] or film.spacing)

    def stat(index: int) -> str:
        _, image_path, mask_path = pairs[index]
        return f"{image_path.stat().st_size}:{mask_path.stat().st_size} bytes"

    sources = tuple(str(mask) for _, _, mask in pairs)
    return Split(name, stems, sources, read, metadata.patients, metadata.groups, stat)


def select(whole: Split, stems: Sequence[str], name: str) -> Split:
    """The named examples of a split as a split of their own, in the order given."""
    position = {stem: i for i, stem in enumerate(whole.ids)}
    chosen = [position[stem] for stem in stems]
    stat = whole.stat
    return Split(
        name,
        tuple(stems),
        tuple(whole.sources[i] for i in chosen),
        lambda i: whole.read(chosen[i]),
        tuple(whole.patients[i] for i in chosen) if whole.patients else None,
        {group: tuple(values[i] for i in chosen) for group, values in whole.groups.items()},
        None if stat is None else lambda i: stat(chosen[i]),
    )


def patient_of(pattern: str) -> Callable[[str], str]:
    """The patient of a stem: group 1 of the pattern, or the stem itself without a pattern."""
    if not pattern:
        return lambda stem: stem
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"data.patient_pattern='{pattern}' is no regular expression: {error}") \
            from error  # fmt: skip
    if compiled.groups < 1:
        raise InputError(f"data.patient_pattern='{pattern}' needs a group ( ) for the patient")

    def patient(stem: str) -> str:
        match = compiled.search(stem)
        if match is None or match.group(1) is None:
            raise InputError(f"data.patient_pattern='{pattern}' does not match the stem {stem!r}")
        return match.group(1)

    return patient


def hash_split(
    stems: Sequence[str],
    patient: Callable[[str], str],
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, list[str]]:
    """Splits by a hash of the patient alone, so that more images never move the old ones."""
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
    """Reads {"train": [stems], "validation": [...], "test": [...]}; stems left out are unused."""
    try:
        lists = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(lists, dict) or set(lists) != set(SPLITS):
        raise InputError(f"{path}: expected an object with the lists {', '.join(SPLITS)}")
    known = set(stems)
    seen: dict[str, str] = {}
    for name in SPLITS:
        if not isinstance(lists[name], list) or not lists[name]:
            raise InputError(f"{path}: {name} is not a list of stems, or is empty")
        for stem in lists[name]:
            if not isinstance(stem, str) or stem not in known:
                raise InputError(f"{path}: {name} names {stem!r}, which has no image")
            if stem in seen:
                raise InputError(f"{path}: {stem!r} is in {seen[stem]} and again in {name}")
            seen[stem] = name
    return {name: list(lists[name]) for name in SPLITS}
