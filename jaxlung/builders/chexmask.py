"""ChestX-ray14 with the masks of CheXmask, as a TFDS data set that Apache Beam prepares.

112120 radiographs of 1024x1024 outgrow one machine; on one, Beam's DirectRunner does it too.
"""

import csv
import functools
import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.builders import radiographs
from jaxlung.builders.outlines import decode_runs, parse_landmarks
from jaxlung.errors import InputError

MIN_DICE_RCA = 0.7  # of "Dice RCA (Mean)": CheXmask's own advice
MASKS = {"mask_right": "Right Lung", "mask_left": "Left Lung", "heart": "Heart"}
_ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_COLUMNS = ("Image Index", "Dice RCA (Mean)", "Landmarks", "Height", "Width", *MASKS.values())

_DESCRIPTION = """
ChestX-ray14 (112120 frontal radiographs of 30805 patients) with CheXmask's masks of lungs and
heart, drawn by HybridGNet, and their landmarks: scores against them are agreement with that model.
Only masks whose estimated quality, Dice RCA (Mean), is at least 0.7 are kept. The heart is not
lung.
"""


class JaxlungChexmask(tfds.core.GeneratorBasedBuilder):
    """ChestX-ray14 with CheXmask's masks of lungs and heart."""

    VERSION = radiographs.VERSION
    RELEASE_NOTES = radiographs.RELEASE_NOTES
    MANUAL_DOWNLOAD_INSTRUCTIONS = radiographs.CATALOG["chexmask"].instructions

    def _info(self) -> tfds.core.DatasetInfo:
        others = {  # x and y of each point, pixels
            "landmarks": tfds.features.Tensor(shape=(None, 2), dtype=np.int32),
            "dice_rca_mean": tfds.features.Scalar(np.float32),
        }
        return radiographs.dataset_info(
            self, _DESCRIPTION, depth=8, masks=tuple(MASKS), others=others
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        import_beam()
        manual = radiographs.manual_folder(dl_manager, "chexmask")
        table = manual / "ChestX-Ray8.csv"
        if not table.is_file():
            raise InputError(f"{table}: no such file. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        read_entries(manual)
        radiographs.first_folder(manual, "images")
        return {"train": self._generate_examples(manual)}

    def _generate_examples(self, manual: Path) -> Any:
        beam = import_beam()
        return (
            beam.Create([str(manual / "ChestX-Ray8.csv")])
            | "Read rows" >> beam.FlatMap(read_rows)
            | "Filter" >> beam.Filter(is_good)
            | "Spread over workers" >> beam.Reshuffle()
            | "Build examples" >> beam.Map(functools.partial(build_example, str(manual)))
        )


def import_beam() -> Any:
    """
    Raises:
        InputError: Apache Beam is not installed.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise InputError(
            "chexmask is prepared by Apache Beam, which is not installed: "
            "pip install 'jaxlung[beam]'"
        ) from error
    return beam


def read_rows(path: str) -> Iterator[dict[str, str]]:
    """The rows of CheXmask's table; other columns are dropped.

    Raises:
        InputError: a file that is no CSV, or lacks a column.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # run lengths are longer than csv's limit
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: has no column {missing[0]!r}; download it again")
            for row in reader:
                yield {name: row[name] or "" for name in _COLUMNS}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); download it again") from error


def is_good(row: dict[str, str]) -> bool:
    """Dice RCA (Mean) of at least MIN_DICE_RCA; a row without one is not good."""
    try:
        return float(row["Dice RCA (Mean)"]) >= MIN_DICE_RCA
    except ValueError:
        return False


@functools.lru_cache(maxsize=1)
def _images(manual: str) -> dict[str, Path]:
    """Of images/, where the archives may each have left a folder of their own."""
    return {path.name: path for path in Path(manual, "images").rglob("*.png")}


@functools.lru_cache(maxsize=1)
def read_entries(manual: str | Path) -> dict[str, dict[str, str]]:
    """The NIH's table: image to its row.

    Raises:
        InputError: it is not there, or lacks a column.
    """
    paths = [Path(manual, name) for name in _ENTRIES if Path(manual, name).is_file()]
    if not paths:
        raise InputError(f"{Path(manual, _ENTRIES[0])}: no such file; fetch it from the NIH's page")
    with paths[0].open(newline="", encoding="utf-8-sig") as file:
        # The header breaks "OriginalImage[Width,Height]" and "...PixelSpacing[x,y]" at the comma.
        rows = {row["Image Index"]: row for row in csv.DictReader(file) if row.get("Image Index")}
    needed = ("Patient ID", "Finding Labels", "View Position")
    for name in needed:
        if not rows or name not in next(iter(rows.values())):
            raise InputError(f"{paths[0]}: has no column {name!r}, or no row; download it again")
    return rows


def build_example(manual: str, row: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Key and example of a row of CheXmask's table.

    Raises:
        InputError: an image or its entry is missing, or the mask is not of its size.
    """
    name = row["Image Index"]
    path, entry = _images(manual).get(name), read_entries(manual).get(name)
    if path is None:
        raise InputError(
            f"{Path(manual, 'images', name)}: is missing; unpack every archive of images, or cut "
            f"ChestX-Ray8.csv to those that you have"
        )
    if entry is None:
        raise InputError(f"{name}: has no row in the NIH's table; download the table again")
    image_HxW = radiographs.read_grey(path)
    try:
        shape = int(float(row["Height"])), int(float(row["Width"]))
        masks = {mask: decode_runs(row[column], shape) for mask, column in MASKS.items()}
        landmarks = parse_landmarks(row["Landmarks"])
    except ValueError as error:
        raise InputError(f"ChestX-Ray8.csv: {name}: {error}") from error
    finding = entry["Finding Labels"]
    example = radiographs.example(
        Path(name).stem, image_HxW, masks, patient=entry["Patient ID"],
        finding="normal" if finding == "No Finding" else finding,
        view=entry["View Position"],
        sex=entry.get("Patient Gender") or entry.get("Patient Sex", ""),
        age=_age(entry.get("Patient Age", "")), spacing_mm=spacing(entry, image_HxW.shape),
    )  # fmt: skip
    example |= {"landmarks": landmarks, "dice_rca_mean": np.float32(row["Dice RCA (Mean)"])}
    return name, radiographs.cast_depth(example, 8)


def _age(text: str) -> float:
    """ "058Y" or "58", in years."""
    digits = "".join(itertools.takewhile(str.isdigit, text))
    return float(digits) if digits and text[len(digits) :].upper() in ("", "Y") else math.nan


def spacing(entry: dict[str, str], shape: tuple[int, int]) -> tuple[float, float]:
    """Height and width of a pixel in mm: the original's, times the original's size over this one's.

    The PNGs were stretched to 1024x1024 whatever the original's aspect.
    """
    try:
        width, height = float(entry["OriginalImage[Width"]), float(entry["Height]"])
        x, y = float(entry["OriginalImagePixelSpacing[x"]), float(entry["y]"])
    except (KeyError, TypeError, ValueError):
        return radiographs.UNKNOWN
    if not all(math.isfinite(v) and v > 0 for v in (width, height, x, y)):
        return radiographs.UNKNOWN
    return y * height / shape[0], x * width / shape[1]
