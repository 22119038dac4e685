"""The files of a folder, pair by pair, and what reading each pair shows.

`data.folder` stops at the first fault. Nothing stops here: a fault is a `Finding`.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.data.ct_folder import is_volume_file
from jaxlung.data.duplicates import perceptual_hash, standardise
from jaxlung.data.folder import Pair, explain_no_image, scan_files, take_mask
from jaxlung.data.splits import Split
from jaxlung.data_check.consensus import describe_appearance, shrink_mask
from jaxlung.data_check.kinds import Finding, list_counts
from jaxlung.errors import InputError, format_shape
from jaxlung.io.dicom.signature import read_start
from jaxlung.io.film import check_xray
from jaxlung.io.grey import BLANK, measure_spread
from jaxlung.io.images import SUFFIXES, is_image, read_film, stem_of
from jaxlung.io.masks import to_lung
from jaxlung.io.passed_over import name_kind
from jaxlung.io.volumes import volume_stem
from jaxlung.masks.shape import MaskShape, measure_contrast, measure_shape
from jaxlung.preprocess import is_lung, to_canvas
from jaxlung.system.digests import digest_array

SIDE = 256  # of the canvas that everything but the mask's pieces is measured on


class Content(NamedTuple):
    """The facts that are kept of a pair that can be trained on: under 8 KiB, so large sets fit."""

    image_digest: str
    mask_digest: str
    hash_32: np.ndarray  # of `duplicates.perceptual_hash`
    appearance_D: np.ndarray  # of `consensus.describe_appearance`
    mask_GxG: np.ndarray  # of `consensus.shrink_mask`
    shape: MaskShape
    spread: float  # between the image's 1st and 99th percentile, of 255
    is_coloured: bool


class Record(NamedTuple):
    """The facts that reading one pair gave."""

    id: str
    size: tuple[int, ...] | None  # height and width of the image; of a volume slices first
    image_format: str  # "uint8, grey"; "" where it cannot be read
    mask_format: str  # "uint8, grey, 0 and 255"
    findings: tuple[Finding, ...]
    content: Content | None  # None: not fit to be compared with the others


class Layout(NamedTuple):
    """How a folder's files are named."""

    belongs: Callable[[Path], bool]
    stem_of: Callable[[Path], str]
    take_mask: Callable[[dict[str, Path], str], Path | None]  # takes a stem's mask out of all
    names: str  # of masks, for a message


IMAGES = Layout(is_image, stem_of, take_mask, "masks/{0}.png or {0}_mask.png")
VOLUMES = Layout(
    is_volume_file,
    volume_stem,
    lambda masks, stem: masks.pop(stem, None),
    "masks/{0}.nii.gz",
)


def list_pairs(directory: Path, layout: Layout = IMAGES) -> tuple[list[Pair], list[Finding]]:
    """Pairs images with masks as training does, and finds the files that stand alone.

    Raises:
        InputError: there is no folder images/ or masks/, or no image in images/.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such folder; it should hold images/ and masks/")
    folder, pairs = directory / "images", []
    findings: list[Finding] = []
    images = _list_folder(folder, layout, findings)
    masks = _list_folder(directory / "masks", layout, findings)
    if not images:
        reason = explain_no_image(folder)
        raise InputError(f"{folder}: holds no image ({' '.join(SUFFIXES)}){reason}")
    for stem, image in images.items():
        mask = layout.take_mask(masks, stem)
        if mask is None:
            message = f"has no mask; expected {layout.names.format(stem)}"
            findings.append(Finding("no_mask", (stem,), message, relative(directory, image)))
        else:
            pairs.append(Pair(stem, image, mask))
    for stem, mask in masks.items():
        message = "has no image of that stem in images/"
        findings.append(Finding("no_image", (stem,), message, relative(directory, mask)))
    return pairs, findings


def _list_folder(folder: Path, layout: Layout, findings: list[Finding]) -> dict[str, Path]:
    """Lists the images of a folder, stem to path, and adds what else it holds to `findings`."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the one that holds images/ and masks/")
    images, faults, others = scan_files(folder, layout.belongs, layout.stem_of)
    others += [images.pop(stem) for stem, path in list(images.items()) if path.is_dir()]
    for path, earlier in faults:
        file = relative(folder.parent, path)
        if earlier:
            message = f"has the same stem as {earlier.name}; keep one of them"
            findings.append(Finding("same_stem", (layout.stem_of(path),), message, file))
        else:
            message = "has a name that is not UTF-8, which training refuses; rename it"
            findings.append(Finding("unreadable", (), message, file))
    if others:
        kinds = Counter(
            "a folder" if path.is_dir() else name_kind(read_start(path), path.name)
            for path in others
        )
        listed = ", ".join(list_counts(sorted(kinds.items())))
        message = f"{len(others)} entries of {folder.name}/ are not read: {listed}"
        findings.append(Finding("not_read", (), message))
    return images


class Reading:
    """The findings of one pair, while it is read."""

    def __init__(self, example_id: str, image_file: str = "", mask_file: str = ""):
        self.id, self.image_file, self.mask_file = example_id, image_file, mask_file
        self.findings: list[Finding] = []

    def add(self, kind: str, file: str, message: object) -> None:
        self.findings.append(Finding(kind, (self.id,), str(message), file))

    @contextlib.contextmanager
    def keep_fault(self, kind: str, file: str, path: Path | None = None) -> Iterator[None]:
        """Adds a finding where an InputError would stop.

        Args:
            path: errors of `io.images` begin with it, and a finding has it already.
        """
        try:
            yield
        except InputError as error:
            self.add(kind, file, str(error).removeprefix(f"{path}: "))


def read_pair(directory: Path, pair: Pair) -> Record:
    """Reads both files and measures what can be measured; never raises InputError."""
    image_path, mask_path = pair.image, pair.mask
    reading = Reading(pair.id, relative(directory, image_path), relative(directory, mask_path))
    image = mask_film = mask_HxW = None
    with reading.keep_fault("unreadable", reading.image_file, image_path):
        film = read_film(image_path)
        image = film.image
        with reading.keep_fault("not_xray", reading.image_file, image_path):
            check_xray(film.modality, image_path)
    mask_format = ""
    with reading.keep_fault("unreadable", reading.mask_file, mask_path):
        mask_film = read_film(mask_path)
        mask_format = f"{pixel_format(mask_film.image)}, {value_kind(mask_film.image)}"
        with reading.keep_fault("mask_values", reading.mask_file, mask_path):
            mask_HxW = to_lung(mask_film, mask_path)
    return _measure_pair(reading, image, mask_HxW, mask_format)


def read_example(split: Split, index: int) -> Record:
    """Reads an example that has no files of its own, as `read_pair` reads a pair of files."""
    reading = Reading(split.ids[index])
    image = mask_HxW = None
    with reading.keep_fault("unreadable", ""):
        image, mask_HxW, *_ = split.read(index)
    return _measure_pair(reading, image, mask_HxW, "bool, grey, 0 and 1")


def _measure_pair(
    reading: Reading, image: np.ndarray | None, mask_HxW: np.ndarray | None, mask_format: str
) -> Record:
    """Measures what can be measured; an image or a mask that could not be read is None."""
    size, image_format, content = None, "", None
    if image is not None:
        size, image_format = image.shape[:2], pixel_format(image)
        if image.min() == image.max():
            message = f"is blank: every pixel is {image.min():g}"
            reading.add("blank_image", reading.image_file, message)
    if mask_HxW is not None:
        if not mask_HxW.any():
            reading.add("empty_mask", reading.mask_file, "marks no lung: every pixel is 0")
        elif mask_HxW.all():
            reading.add("full_mask", reading.mask_file, "marks the whole image as lung")
        if size and size != mask_HxW.shape:
            turned = " (turned by 90 degrees?)" if size == mask_HxW.shape[::-1] else ""
            own, other = format_shape(mask_HxW.shape), format_shape(size)
            message = f"is {own} but its image is {other} (height x width){turned}"
            reading.add("size_mismatch", reading.mask_file, message)
    if not reading.findings and image is not None and mask_HxW is not None:
        # A layout that no network input can be made of.
        with reading.keep_fault("unreadable", reading.image_file):
            content = _content(image, mask_HxW)
        if content is not None and content.spread < BLANK:
            message = "is blank: 98 % of it is one grey"
            reading.add("blank_image", reading.image_file, message)
            content = None
    return Record(reading.id, size, image_format, mask_format, tuple(reading.findings), content)


def _content(image: np.ndarray, mask_HxW: np.ndarray) -> Content:
    canvas_SxS, mask_SxS, _ = to_canvas(image, mask_HxW, size=SIDE, fit="stretch")
    assert mask_SxS is not None
    lung_SxS = is_lung(mask_SxS).astype(np.uint8)
    standardised = standardise(canvas_SxS)
    colour = image[..., :3] if image.ndim == 3 else image[..., None]
    return Content(
        digest_array(image),
        digest_array(mask_HxW),
        perceptual_hash(standardised),
        describe_appearance(standardised),
        shrink_mask(lung_SxS),
        measure_shape(mask_HxW, measure_contrast(canvas_SxS, lung_SxS)),
        measure_spread(canvas_SxS),
        bool((colour != colour[..., :1]).any()),
    )


def pixel_format(pixels: np.ndarray) -> str:
    """Describes an array as in "uint16, grey"."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    names: Mapping[int, str] = {1: "grey", 3: "RGB", 4: "RGBA"}
    return f"{pixels.dtype}, {names.get(channels, f'{channels} channels')}"


def value_kind(pixels: np.ndarray) -> str:
    """Describes the values of a mask as `io.masks` reads them: two, labels, or soft edges."""
    if pixels.ndim == 3:
        pixels = pixels[..., :3].max(axis=-1)
    if pixels.dtype == np.uint8:
        values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
    else:
        values = np.unique(pixels)
    if len(values) <= 2:
        return " and ".join(f"{value:g}" for value in values)
    if len(values) <= 4 or (values[-1] <= 15 and pixels.dtype.kind != "f"):
        return "labels " + " ".join(f"{value:g}" for value in values)
    return "soft edges"


def relative(directory: Path, path: Path) -> str:
    """Writes a path with stray bytes as \\xff, so that any console or file can show it."""
    return os.fsencode(path.relative_to(directory).as_posix()).decode(errors="backslashreplace")
