"""What the builders of chest radiographs share: features, examples and strict reading."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.catalog import CATALOG, NamedSet
from jaxlung.data.folder import list_images
from jaxlung.errors import InputError
from jaxlung.io.images import read_image
from jaxlung.io.masks import read_mask

VERSION = tfds.core.Version("1.0.0")
RELEASE_NOTES = {"1.0.0": "First release."}
UNKNOWN = (math.nan, math.nan)
_CHUNK = 2**20


def dataset_info(
    builder: tfds.core.DatasetBuilder,
    description: str,
    *,
    depth: int,
    masks: Sequence[str] = (),
    texts: Sequence[str] = (),
    others: Mapping[str, Any] | None = None,
) -> tfds.core.DatasetInfo:
    """The info of a builder of `catalog`.

    Args:
        depth: 8 or 16, the bits that an image may have. Each example's own are in `bits`: an
            8-bit image in a 16-bit feature keeps its values.
        masks: features beside `mask`, such as mask_right (the patient's right lung).
        texts: features beside finding, view and sex.
        others: any further features.
    """
    entry = entry_of(builder)
    features: dict[str, Any] = {
        "id": tfds.features.Text(),
        "patient": tfds.features.Text(),
        "image": tfds.features.Image(
            shape=(None, None, 1), dtype=np.dtype(f"uint{depth}"), encoding_format="png"
        ),
        "bits": tfds.features.Scalar(np.uint8),
        "spacing_mm": tfds.features.Tensor(shape=(2,), dtype=np.float32),  # height, width; NaN
        "age": tfds.features.Scalar(np.float32),  # years; NaN
    }
    for name in ("mask", *masks):  # 0 background, 1 the organ
        features[name] = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
    for name in ("finding", "view", "sex", *texts):  # "" is not known
        features[name] = tfds.features.Text()
    features |= others or {}
    return builder.dataset_info_from_configs(
        description=f"{description.strip()}\n\nLabel convention: {entry.convention}.",
        features=tfds.features.FeaturesDict(features),
        supervised_keys=("image", "mask"),
        homepage=entry.homepage,
        citation=entry.citation,
        license=entry.terms,
        metadata=tfds.core.MetadataDict(label_convention=entry.convention),
    )


def example(
    image_id: str,
    image_HxW: np.ndarray,
    masks: dict[str, np.ndarray],
    *,
    patient: str,
    spacing_mm: tuple[float, float] = UNKNOWN,
    age: float = math.nan,
    finding: str = "",
    view: str = "",
    sex: str = "",
    **texts: str,
) -> dict[str, Any]:
    """The features of `dataset_info`.

    Args:
        masks: each bool [H, W], of the image's grid. Without `mask`, that is mask_right or
            mask_left (a sum of 8-bit masks would wrap).

    Raises:
        InputError: a mask of another size.
    """
    for name, mask in masks.items():
        if mask.shape != image_HxW.shape:
            raise InputError(
                f"{image_id}: {name} is {mask.shape[0]}x{mask.shape[1]} but the image is "
                f"{image_HxW.shape[0]}x{image_HxW.shape[1]} (height x width); fetch the files anew"
            )
    if "mask" not in masks:
        masks = {**masks, "mask": masks["mask_right"] | masks["mask_left"]}
    return {
        "id": image_id,
        "patient": patient,
        "image": image_HxW[..., None],
        "bits": 8 * image_HxW.dtype.itemsize,
        "spacing_mm": np.asarray(spacing_mm, np.float32),
        "age": np.float32(age),
        "finding": finding,
        "view": view,
        "sex": sex,
        **{name: mask.astype(np.uint8)[..., None] for name, mask in masks.items()},
        **texts,
    }


def cast_depth(features: dict[str, Any], depth: int) -> dict[str, Any]:
    """An example whose image has the dtype of a feature of that many bits.

    Raises:
        InputError: the image is deeper.
    """
    if features["bits"] > depth:
        raise InputError(
            f"{features['id']}: has {features['bits']} bits; this set has {depth}, fetch it again"
        )
    return {**features, "image": features["image"].astype(f"uint{depth}")}


def read_grey(path: Path) -> np.ndarray:
    """uint8 or uint16 [H, W], as stored; colour, which these sets hold by accident, to grey.

    Raises: as `read_image`; also a file of another depth.
    """
    pixels = read_image(path)
    if pixels.ndim == 3:
        colour = pixels[..., :3]
        if (colour == colour[..., :1]).all():
            pixels = colour[..., 0]
        else:  # ITU-R BT.601, as in `grey.to_grey8`
            pixels = np.rint(colour @ np.array([0.299, 0.587, 0.114])).astype(pixels.dtype)
    if pixels.dtype == np.int32 and 0 <= pixels.min() and pixels.max() < 2**16:
        pixels = pixels.astype(np.uint16)  # how Pillow gives some 16-bit PNGs
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: has pixels of {pixels.dtype}; expected 8 or 16 bits")
    return np.ascontiguousarray(pixels)


def on_grid(mask_hxw: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask on the image's grid, edges to edges: linear interpolation, inside from 0.5 on.

    Both grids cover the same field, so pixel centres map to (i + 0.5) * h / H - 0.5.
    """
    import cv2

    if mask_hxw.shape == shape:
        return mask_hxw != 0
    coverage = (mask_hxw != 0).astype(np.float32)
    return cv2.resize(coverage, shape[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5


def entry_of(builder: tfds.core.DatasetBuilder) -> NamedSet:
    return CATALOG[builder.name.removeprefix("jaxlung_")]


def manual_folder(dl_manager: Any, name: str) -> Path:
    """The set's own folder among the manual downloads.

    Raises:
        InputError: it is not there.
    """
    folder = optional_manual_folder(dl_manager, name)
    if folder is None:
        raise InputError(f"{name}: has no folder of its files. {CATALOG[name].instructions}")
    return folder


def optional_manual_folder(dl_manager: Any, name: str) -> Path | None:
    """As `manual_folder`, or None where it is not there."""
    try:
        folder = Path(os.fspath(dl_manager.manual_dir)) / name
    except AssertionError:  # how TFDS says that the folder of manual downloads is not there
        return None
    return folder if folder.is_dir() else None


def first_folder(root: Path, *candidates: str) -> Path:
    """The first of some folders that is there; archives differ in how deep they unpack.

    Raises:
        InputError: none of them is there; names the first.
    """
    for candidate in candidates:
        if (root / candidate).is_dir():
            return root / candidate
    raise InputError(
        f"{root / candidates[0]}: no such folder; unpack the archive again and move nothing in it"
    )


def paired(
    images: dict[str, Path], masks: dict[str, Path], left_out: Counter[str], *, without: int
) -> list[tuple[str, Path, Path]]:
    """(stem, image, mask) of the images that have a mask, named STEM or STEM_mask.

    The others are counted in left_out: no mask is not an empty mask.

    Args:
        without: how many images of the published set have no mask.

    Raises:
        InputError: a mask without image, or more images without a mask than that.
    """
    rest, pairs, alone = dict(masks), [], []
    for stem, image in images.items():
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
            f"{next(iter(masks.values())).parent}: holds no mask of {alone[0]} nor of "
            f"{len(alone) - 1} other images{usual}; fetch the masks again"
        )
    if alone:
        left_out["without a mask"] += len(alone)
    return pairs


def read_mask_or_none(path: Path, left_out: Counter[str]) -> np.ndarray | None:
    """bool [H, W]; None, and counted, where the mask has no pixel."""
    mask_HxW = read_mask(path)
    if mask_HxW.any():
        return mask_HxW
    left_out["with an empty mask"] += 1
    return None


def check_sha256(path: os.PathLike[str], expected: str, url: str) -> None:
    """Refuses a download that is not the file that was published.

    TFDS's own checksums.tsv also wants the size, which is not published with the checksum.
    """
    digest = hashlib.sha256()
    with Path(os.fspath(path)).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise InputError(
            f"{path}: has the wrong SHA-256 {digest.hexdigest()[:12]}... (expected "
            f"{expected[:12]}...); delete it and try again: {url} was cut short or has changed"
        )


def why(error: Exception) -> str:
    """Without the path that an OSError repeats."""
    return getattr(error, "strerror", None) or str(error)


def images_in(folder: Path) -> dict[str, Path]:
    """`list_images`, for any path-like."""
    return list_images(Path(os.fspath(folder)))
