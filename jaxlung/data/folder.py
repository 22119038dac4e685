"""A folder of X-rays: images/ and masks/ whose files have one stem (or stem + _mask).

metadata.csv beside them may name patients, pixel spacings and subgroups: see `metadata`. Folders
masks_NAME/ may hold masks of a further structure NAME, such as masks_heart/, of all images or some.
A network that has no output NAME passes over them.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.config import DataConfig
from jaxlung.data.metadata import Metadata, read_metadata
from jaxlung.data.splits import Example, Split, patients_by_id, refuse_inverted, select_examples
from jaxlung.data.splitting import make_patient_finder, split_stems
from jaxlung.errors import InputError, format_shape
from jaxlung.io import volumes
from jaxlung.io.dicom.signature import read_start
from jaxlung.io.film import check_xray
from jaxlung.io.images import SUFFIXES, is_image, read_film, stem_of
from jaxlung.io.masks import read_mask
from jaxlung.io.passed_over import is_hidden, name_kind
from jaxlung.io.text import compose, is_utf8
from jaxlung.structures import LUNG, is_structure_name


class Pair(NamedTuple):
    id: str  # the stem
    image: Path
    mask: Path


def load_folder_splits(config: DataConfig) -> dict[str, Split]:
    """Loads the splits of config.dir: by the lists in split_file, else by each patient's hash.

    Raises:
        InputError: the folder, its metadata or the lists cannot be used.
    """
    whole = load_folder(Path(config.dir), config.patient_pattern, config.convention)
    stems_by_split = split_stems(config, whole.ids, patients_by_id(whole))

    def read_or_advise(index: int) -> Example:
        # Where one file is damaged others may be: training would stop at each in turn.
        try:
            return whole.read(index)
        except InputError as error:
            raise InputError(f"{error} (`jaxlung data check {config.dir}` names all)") from error

    advising = whole._replace(read=read_or_advise)
    return {name: select_examples(advising, stems, name) for name, stems in stems_by_split.items()}


def load_folder(directory: Path, patient_pattern: str = "", convention: str = LUNG) -> Split:
    """Loads every pair of a folder as one split, "all".

    Args:
        patient_pattern: as in `make_patient_finder`; "": none.
        convention: the structure that the masks mark, where metadata.csv does not say.
    """
    pairs = find_pairs(directory)
    stems = [pair.id for pair in pairs]
    metadata = read_folder_metadata(directory, stems, patient_pattern)
    return load_pairs("all", pairs, metadata, convention, find_others(directory, stems))


def find_others(directory: Path, stems: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Finds the masks of further structures: structure to stem to the file in masks_STRUCTURE/."""
    found = {}
    for name, folder in _further_folders(directory).items():
        if is_structure_name(name):
            masks = scan_files(folder, is_image, stem_of).files
            found[name] = {stem: path for stem in stems if (path := take_mask(masks, stem))}
    return found


def check_others(directory: Path, outputs: Sequence[str]) -> list[str]:
    """Checks the names in the folders masks_NAME/ of these outputs, and returns the other folders.

    Raises:
        InputError: two masks of a folder have one stem, or a name is not UTF-8.
    """
    folders = _further_folders(directory)
    for name in folders.keys() & set(outputs):
        files_by_stem(folders[name], is_image, stem_of)
    return [f"{folder.name}/" for name, folder in folders.items() if name not in outputs]


def _further_folders(directory: Path) -> dict[str, Path]:
    """Finds the folders masks_NAME/, by NAME, which need not be a structure's."""
    folders = [path for path in sorted(directory.glob("masks_*")) if path.is_dir()]
    return {path.name.removeprefix("masks_"): path for path in folders}


def read_folder_metadata(directory: Path, stems: Sequence[str], patient_pattern: str) -> Metadata:
    """Reads the folder's metadata.csv, if it has one.

    Patients are those of the pattern (`make_patient_finder`), else of metadata.csv; without both,
    the metadata has none.
    """
    path = directory / "metadata.csv"
    metadata = read_metadata(path if path.exists() else None, stems)
    if patient_pattern:
        patients = tuple(map(make_patient_finder(patient_pattern), stems))
        metadata = metadata._replace(patients=patients)
    return metadata


def find_pairs(directory: Path) -> list[Pair]:
    """Pairs each image with its mask, sorted by stem.

    Raises:
        InputError: a folder is missing or empty, or an image or mask stands alone.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such folder; it should hold images/ and masks/")
    images = list_images(directory / "images")
    masks = list_images(directory / "masks")
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
    """Takes an image's mask out of masks by stem; returns None if there is none."""
    return masks.pop(stem, None) or masks.pop(f"{stem}_mask", None)


def list_images(directory: Path) -> dict[str, Path]:
    """Lists the image files of a folder: stem to path, sorted by stem.

    Images are files of a known suffix, and DICOM files without one, as archives export them: the
    stem of such a file (IM000001, 1.2.840.113619) is its whole name. A DICOMDIR does not count.

    Raises:
        InputError: the folder is missing or holds no image, or two images have one stem.
    """
    if not directory.is_dir():
        above = directory.parent.name in ("images", "masks")
        hint = "; name the folder that holds images/ and masks/" if above else ""
        raise InputError(f"{directory}: no such folder{hint}")
    found = files_by_stem(directory, is_image, stem_of)
    if not found:
        reason = explain_no_image(directory)
        raise InputError(f"{directory}: holds no image ({' '.join(SUFFIXES)}){reason}")
    return found


def files_by_stem(
    directory: Path, belongs: Callable[[Path], bool], stem_of: Callable[[Path], str]
) -> dict[str, Path]:
    """Lists the files of a folder that belong to a kind, without hidden ones, sorted by stem.

    Stems are composed (NFC), so that a name matches itself whichever system has written it.

    Raises:
        InputError: two files have one stem, or a name is not UTF-8.
    """
    listing = scan_files(directory, belongs, stem_of)
    for path, earlier in listing.faults:
        if earlier:
            raise InputError(f"{path}: same stem as {earlier.name}; keep one of them")
        if belongs(path):
            raise InputError(
                f"{str(directory)!r}: the file name {path.name!r} is not UTF-8; rename it"
            )
    return listing.files


class Listing(NamedTuple):
    """The entries of a folder, without hidden ones."""

    files: dict[str, Path]  # of the kind, by stem, sorted
    faults: list[tuple[Path, Path | None]]
    """A file and the earlier one of its stem; None: its name is not UTF-8."""
    others: list[Path]  # folders, and files of other kinds


def scan_files(
    directory: Path, belongs: Callable[[Path], bool], stem_of: Callable[[Path], str]
) -> Listing:
    """Lists the files of a folder as `files_by_stem` does, and keeps the faults."""
    listing = Listing({}, [], [])
    stems = {path: compose(stem_of(path)) for path in directory.iterdir()}
    for path, stem in sorted(stems.items(), key=lambda item: (item[1], item[0].name)):
        if is_hidden(path.name):
            continue
        if not is_utf8(path.name):
            listing.faults.append((path, None))
        elif not belongs(path):
            listing.others.append(path)
        elif stem in listing.files:
            listing.faults.append((path, listing.files[stem]))
        else:
            listing.files[stem] = path
    return listing


def count_images_below(directory: Path) -> int:
    """Counts the images in the folders below a folder of images, which nothing reads."""
    folders = [path for path in directory.iterdir() if path.is_dir() and not is_hidden(path.name)]
    return sum(
        not is_hidden(path.name) and path.is_file() and is_image(path)
        for folder in folders
        for path in folder.rglob("*")
    )


def count_passed_over(directory: Path, belongs: Callable[[Path], bool] = is_image) -> Counter[str]:
    """Counts the files in images/ and masks/ that do not belong there, by `name_kind`."""
    folders = (directory / "images", directory / "masks")
    others = [path for folder in folders for path in scan_files(folder, belongs, str).others]
    return Counter(name_kind(read_start(path), path.name) for path in others if path.is_file())


def explain_no_image(directory: Path) -> str:
    """Returns the end of an error about a folder without images: what it may be instead."""
    if (directory / "masks").is_dir():
        return f"; did you mean {directory / 'masks'}?"
    if any(path.name.lower().endswith(volumes.SUFFIXES) for path in directory.iterdir()):
        return " but CT volumes, which `jaxlung train` takes with data.name=ct"
    return ""


def load_pairs(
    name: str,
    pairs: Sequence[Pair],
    metadata: Metadata | None = None,
    convention: str = LUNG,
    masks_of: Mapping[str, Mapping[str, Path]] = {},  # noqa: B006 (never changed)
) -> Split:
    """Makes a split of files, which are read and checked when asked for.

    An example's spacing is that of metadata, which a person wrote down for these images, else the
    one in its file (DICOM). Reading refuses a file that says it is another modality than X-ray, and
    a mask in which 0 marks the lung.
    """
    stems = tuple(stem for stem, _, _ in pairs)
    metadata = metadata or read_metadata(None, stems)
    marks = tuple(own or convention for own in metadata.conventions)
    files = tuple(
        {name: paths[stem] for name, paths in masks_of.items() if stem in paths} for stem in stems
    )

    def read(index: int) -> Example:
        _, image_path, mask_path = pairs[index]
        film = read_film(image_path)
        check_xray(film.modality, image_path)

        def read_fitting(path: Path) -> np.ndarray:
            mask, shape = read_mask(path), film.image.shape[:2]
            if mask.shape != shape:
                raise InputError(
                    f"{path}: is {format_shape(mask.shape)} but its image {image_path.name} is "
                    f"{format_shape(shape)} (height x width); give both one size"
                )
            return mask

        mask = read_fitting(mask_path)
        refuse_inverted(film.image, mask, mask_path)
        spacing = metadata.spacings[index] or film.spacing
        further = {n: functools.partial(read_fitting, path) for n, path in files[index].items()}
        return Example(film.image, mask, spacing, marks=marks[index], others=further)

    def stat(index: int) -> str:
        _, image_path, mask_path = pairs[index]
        return f"{image_path.stat().st_size}:{mask_path.stat().st_size} bytes"

    sources = tuple(str(mask) for _, _, mask in pairs)
    labels = tuple((own, *further) for own, further in zip(marks, files, strict=True))
    patients, groups = metadata.patients, metadata.groups
    return Split(name, stems, sources, read, patients, groups, stat, labels=labels, files=files)
