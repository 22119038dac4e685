"""JSRT: 247 films with SCR's masks of lungs, heart and clavicles, as a TFDS data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.data.builders.shared import radiographs
from jaxlung.data.folder import list_images
from jaxlung.errors import InputError
from jaxlung.io.masks import read_mask

SIDE = 2048  # pixels
SPACING_MM = (0.175, 0.175)  # https://www.isi.uu.nl/Research/Databases/SCR/data.php
_WHITE = 4095  # the films have 12 bits, and small values where they are bright
ORGANS = {
    "mask_right": "right lung",
    "mask_left": "left lung",
    "heart": "heart",
    "clavicle_right": "right clavicle",
    "clavicle_left": "left clavicle",
}


class JaxlungJsrt(radiographs.Builder):
    """JSRT chest films with the masks of SCR.

    247 posterior-anterior chest films of 14 institutions, 154 with one lung nodule, of the Japanese
    Society of Radiological Technology, and the masks of SCR's first observer, brought from
    1024x1024 to the images' 2048x2048 by doubling each pixel. Lung is what the beam passed through
    without mediastinum, heart, aorta or what lies below the diaphragm. Splits are SCR's two folds.
    Values are 12 bits, turned so that bone is bright.
    """

    DEPTH = 16
    MASK_NAMES = tuple(ORGANS)
    TEXT_NAMES = ("fold",)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = radiographs.manual_folder(dl_manager, "jsrt")
        images = radiographs.first_folder(manual, "All247images", "All247images/All247images")
        folds = radiographs.first_folder(manual, "scratch", "scr/scratch", "scr")
        films = {
            path.stem.upper(): path
            for path in sorted(images.iterdir())
            if path.suffix.upper() == ".IMG" and not path.name.startswith(".")
        }
        masks = {fold: _fold(folds, fold) for fold in ("fold1", "fold2")}
        check_folds(films, masks, images)
        return {fold: self._generate_examples(films, masks[fold], fold) for fold in masks}

    def _generate_examples(
        self, films: dict[str, Path], masks: dict[str, dict[str, Path]], fold: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for stem, organs in masks.items():
            image_HxW = read_img(films[stem])
            planes = {name: enlarge(path, image_HxW.shape) for name, path in organs.items()}
            for name in ("mask_right", "mask_left"):
                if not planes[name].any():
                    raise InputError(f"{organs[name]}: is empty; unpack the masks again")
            finding = "nodule" if stem.startswith("JPCLN") else "no nodule"
            facts: dict[str, Any] = {"patient": stem, "view": "PA", "spacing_mm": SPACING_MM}
            facts |= {"finding": finding, "fold": fold}
            yield stem, radiographs.example(stem, image_HxW, planes, depth=16, **facts)


def _fold(folds: Path, fold: str) -> dict[str, dict[str, Path]]:
    """Finds the masks of a fold: film to organ to file."""
    found: dict[str, dict[str, Path]] = {}
    for name, organ in ORGANS.items():
        folder = radiographs.first_folder(folds, f"{fold}/masks/{organ}")
        for stem, path in list_images(folder).items():
            found.setdefault(stem.upper(), {})[name] = path
    for stem, organs in found.items():
        for name, organ in ORGANS.items():
            if name not in organs:
                raise InputError(
                    f"{folds / fold / 'masks' / organ / stem}.gif: is missing, though other organs "
                    f"of that film are there; unpack the masks again"
                )
    return found


def check_folds(
    films: dict[str, Path], masks: dict[str, dict[str, dict[str, Path]]], images: Path
) -> None:
    """Checks that every film has masks in exactly one fold, and every mask a film.

    Raises:
        InputError: this is not so; the error names the first such file.
    """
    for stem in masks["fold1"]:
        if stem in masks["fold2"]:
            raise InputError(f"{stem}: has masks in fold1 and in fold2; unpack the masks again")
    drawn = {**masks["fold1"], **masks["fold2"]}
    for stem in drawn:
        if stem not in films:
            raise InputError(f"{images / stem}.IMG: is missing, though it has masks; fetch it")
    for stem, path in films.items():
        if stem not in drawn:
            raise InputError(f"{path}: has no masks in fold1 or fold2; unpack the masks again")


def read_img(path: Path) -> np.ndarray:
    """Reads a headerless .IMG file as uint16 [SIDE, SIDE] of 0 to 4095, with bone bright.

    Raises:
        InputError: the file has another length, or values that 12 big-endian bits cannot give.
    """
    data = path.read_bytes()
    if len(data) != 2 * SIDE * SIDE:
        raise InputError(
            f"{path}: has {len(data)} bytes; expected {2 * SIDE * SIDE} ({SIDE}x{SIDE} of 16 bits)"
        )
    values = np.frombuffer(data, ">u2").reshape(SIDE, SIDE)
    if (values > _WHITE).mean() > 0.01:  # the scanner leaves a few such dots, cut below
        raise InputError(f"{path}: is not big-endian with 12 bits; fetch JSRT's own .IMG files")
    return (_WHITE - np.minimum(values, _WHITE)).astype(np.uint16)


def enlarge(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Reads a mask and repeats each pixel a whole number of times, up to the image's size."""
    mask_hxw = read_mask(path)
    height, width = mask_hxw.shape
    factor = shape[0] // height
    if factor < 1 or (factor * height, factor * width) != shape:
        raise InputError(
            f"{path}: is {height}x{width}; the image's {shape[0]}x{shape[1]} is no multiple of it"
        )
    return mask_hxw.repeat(factor, 0).repeat(factor, 1)
