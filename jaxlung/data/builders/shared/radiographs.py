"""Features, examples and strict reading: what the builders of chest radiographs share."""

import csv
import inspect
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.catalog import CATALOG
from jaxlung.data.folder import list_images
from jaxlung.errors import InputError
from jaxlung.io.grey import drop_colour
from jaxlung.io.images import read_image
from jaxlung.io.masks import read_mask
from jaxlung.system.digests import digest_file

UNKNOWN = (math.nan, math.nan)


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Describes a set of the catalogue to TFDS; its docstring is the set's description."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    DEPTH = 8
    """8 or 16, the bits that an image may have. Each example's own bits are in `bits`: an 8-bit
    image in a 16-bit feature keeps its values."""
    # Features beside `mask`, such as mask_right (the patient's right).
    MASK_NAMES: Sequence[str] = ()
    # Features beside finding, view and sex. Each becomes a subgroup of the set.
    TEXT_NAMES: Sequence[str] = ()
    OTHERS: Mapping[str, Any] = {}  # any further features

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.ENTRY = CATALOG[cls.name.removeprefix("jaxlung_")]
        cls.MANUAL_DOWNLOAD_INSTRUCTIONS = cls.ENTRY.instructions

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "id": tfds.features.Text(),
            "patient": tfds.features.Text(),
            "image": tfds.features.Image(
                shape=(None, None, 1), dtype=np.dtype(f"uint{self.DEPTH}"), encoding_format="png"
            ),
            "bits": tfds.features.Scalar(np.uint8),
            "spacing_mm": tfds.features.Tensor(shape=(2,), dtype=np.float32),  # height, width; NaN
            "age": tfds.features.Scalar(np.float32),  # years; NaN
        }
        for name in ("mask", *self.MASK_NAMES):  # 0 background, 1 the organ
            features[name] = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        for name in ("finding", "view", "sex", *self.TEXT_NAMES):  # "" is not known
            features[name] = tfds.features.Text()
        convention = self.ENTRY.convention
        return self.dataset_info_from_configs(
            description=f"{inspect.getdoc(self)}\n\nLabel convention: {convention}.",
            features=tfds.features.FeaturesDict({**features, **self.OTHERS}),
            supervised_keys=("image", "mask"),
            homepage=self.ENTRY.homepage,
            citation=self.ENTRY.citation,
            license=self.ENTRY.terms,
            metadata=tfds.core.MetadataDict(label_convention=convention),
        )


def example(
    image_id: str,
    image_HxW: np.ndarray,
    masks: dict[str, np.ndarray],
    *,
    depth: int,
    patient: str,
    spacing_mm: tuple[float, float] = UNKNOWN,
    age: float = math.nan,
    finding: str = "",
    view: str = "",
    sex: str = "",
    **texts: str,
) -> dict[str, Any]:
    """Builds an example with the features of `dataset_info`.

    Args:
        masks: each bool [H, W], on the image's grid. Without `mask`, it is made of mask_right or
            mask_left (a sum of 8-bit masks would wrap).
        depth: the bits of the set's images.

    Raises:
        InputError: a mask of another size, or an image of more bits.
    """
    for name, mask in masks.items():
        if mask.shape != image_HxW.shape:
            raise InputError(
                f"{image_id}: {name} is {mask.shape[0]}x{mask.shape[1]} but the image is "
                f"{image_HxW.shape[0]}x{image_HxW.shape[1]} (height x width); fetch the files anew"
            )
    if "mask" not in masks:
        masks = {**masks, "mask": masks["mask_right"] | masks["mask_left"]}
    bits = 8 * image_HxW.dtype.itemsize
    if bits > depth:
        raise InputError(f"{image_id}: has {bits} bits; this set has {depth}, fetch it again")
    return {
        "id": image_id,
        "patient": patient,
        "image": image_HxW[..., None].astype(f"uint{depth}"),
        "bits": bits,
        "spacing_mm": np.asarray(spacing_mm, np.float32),
        "age": np.float32(age),
        "finding": finding,
        "view": view,
        "sex": sex,
        **{name: mask.astype(np.uint8)[..., None] for name, mask in masks.items()},
        **texts,
    }


def read_grey(path: Path) -> np.ndarray:
    """Reads an image as stored, uint8 or uint16 [H, W]; colour, here by accident, becomes grey.

    Raises: as `read_image`; also for a file of another depth.
    """
    pixels = read_image(path)
    pixels = drop_colour(pixels, pixels.dtype)
    if pixels.dtype == np.int32 and 0 <= pixels.min() and pixels.max() < 2**16:
        pixels = pixels.astype(np.uint16)  # how Pillow gives some 16-bit PNGs
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: has pixels of {pixels.dtype}; expected 8 or 16 bits")
    return np.ascontiguousarray(pixels)


def on_grid(mask_hxw: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brings a mask to the image's grid, edges to edges: linear interpolation, inside from 0.5 on.

    Both grids cover the same field, so pixel centres map to (i + 0.5) * h / H - 0.5.
    """
    import cv2

    if mask_hxw.shape == shape:
        return mask_hxw != 0
    coverage = (mask_hxw != 0).astype(np.float32)
    return cv2.resize(coverage, shape[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5


def manual_folder(dl_manager: Any, name: str) -> Path:
    """Finds the set's own folder among the manual downloads.

    Raises:
        InputError: there is none.
    """
    folder = optional_manual_folder(dl_manager, name)
    if folder is None:
        raise InputError(f"{name}: has no folder of its files. {CATALOG[name].instructions}")
    return folder


def optional_manual_folder(dl_manager: Any, name: str) -> Path | None:
    """Does as `manual_folder`, but returns None where there is no folder."""
    try:
        folder = Path(os.fspath(dl_manager.manual_dir)) / name
    except AssertionError:  # TFDS's way to say that the folder of manual downloads is missing
        return None
    return folder if folder.is_dir() else None


def first_folder(root: Path, *candidates: str) -> Path:
    """Returns the first of some folders that exists; archives differ in how deep they unpack.

    Raises:
        InputError: none of them exists; the error names the first.
    """
    for candidate in candidates:
        if (root / candidate).is_dir():
            return root / candidate
    raise InputError(
        f"{root / candidates[0]}: no such folder; unpack the archive again and move nothing in it"
    )


def read_pairs(
    images: Path, masks: Path, left_out: Counter[str], *, without: int
) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Yields (stem, image, mask bool [H, W]) of the images that have a mask, STEM or STEM_mask.

    The other images, and those with an empty mask, are counted in left_out: a missing mask does
    not mean an empty one.

    Args:
        images, masks: the folders.
        without: how many images of the published set have no mask.

    Raises:
        InputError: a mask has no image, or more images than that have no mask.
    """
    rest, pairs, alone = list_images(masks), [], []
    for stem, image in list_images(images).items():
        mask = rest.pop(f"{stem}_mask", None) or rest.pop(stem, None)
        if mask is None:
            alone.append(stem)
        else:
            pairs.append((stem, image, mask))
    if rest:
        path = next(iter(rest.values()))
        raise InputError(f"{path}: has no image; some of the images are missing, fetch them again")
    if len(alone) > without or not pairs:
        usual = f" (in the published set {without} images have none)" if without else ""
        raise InputError(
            f"{masks}: holds no mask of {alone[0]} nor of {len(alone) - 1} other images{usual}; "
            f"fetch the masks again"
        )
    if alone:
        left_out["without a mask"] += len(alone)
    for stem, image, mask in pairs:
        mask_HxW = read_mask(mask)
        if mask_HxW.any():
            yield stem, image, mask_HxW
        else:
            left_out["with an empty mask"] += 1


def check_sha256(path: os.PathLike[str], expected: str, url: str) -> None:
    """Refuses a download that is not the file that was published.

    TFDS's own checksums.tsv also wants the size, which is not published with the checksum.

    Raises:
        InputError: the checksum is another one.
    """
    digest = digest_file(Path(os.fspath(path)))
    if digest != expected:
        raise InputError(
            f"{path}: has the wrong SHA-256 {digest[:12]}... (expected {expected[:12]}...); delete "
            f"it and try again: {url} was cut short or has changed"
        )


def read_table(path: Path, columns: Sequence[str], remedy: str) -> Iterator[dict[str, str]]:
    """Yields the rows of a CSV file, each a dict by column; a short row has None at its end.

    Args:
        columns: that must be there.
        remedy: the end of an error, such as "download it again".

    Raises:
        InputError: the file cannot be read as CSV, or has no row or not these columns.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # run lengths are longer than csv's limit
    row = None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise InputError(f"{path}: has no column {column!r}, or no row; {remedy}")
            for row in reader:
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error  # without the path that an OSError repeats
        raise InputError(f"{path}: cannot be read as CSV ({why}); {remedy}") from error
    if row is None:
        raise InputError(f"{path}: has no row; {remedy}")
