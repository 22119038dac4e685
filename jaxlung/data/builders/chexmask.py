"""ChestX-ray14 with the masks of CheXmask, as a TFDS data set.

One process prepares the 112120 radiographs of 1024x1024 in hours. TFDS keeps examples on disk
meanwhile, not in memory.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.data.builders.shared import radiographs
from jaxlung.data.builders.shared.outlines import decode_runs, parse_landmarks
from jaxlung.errors import InputError

MIN_DICE_RCA = 0.7  # of "Dice RCA (Mean)", as CheXmask's authors advise
MASKS = {"mask_right": "Right Lung", "mask_left": "Left Lung", "heart": "Heart"}
_ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_TABLE = "ChestX-Ray8.csv"
_COLUMNS = ("Image Index", "Dice RCA (Mean)", "Landmarks", "Height", "Width", *MASKS.values())
Row = dict[str, str]


class JaxlungChexmask(radiographs.Builder):
    """ChestX-ray14 with CheXmask's masks of lungs and heart.

    ChestX-ray14 (112120 frontal radiographs of 30805 patients) with CheXmask's masks of lungs and
    heart, drawn by HybridGNet, and their landmarks: scores against them are agreement with that
    model. Only masks whose estimated quality, Dice RCA (Mean), is at least 0.7 are kept. The heart
    is not lung.
    """

    MASK_NAMES = tuple(MASKS)
    OTHERS = {  # x and y of each point, pixels
        "landmarks": tfds.features.Tensor(shape=(None, 2), dtype=np.int32),
        "dice_rca_mean": tfds.features.Scalar(np.float32),
    }

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = radiographs.manual_folder(dl_manager, "chexmask")
        radiographs.first_folder(manual, "images")
        if not (manual / _TABLE).is_file():
            raise InputError(
                f"{manual / _TABLE}: no such file. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        source = open_source(manual)
        self.info.metadata["left_out"] = check_rows(source)
        return {"train": self._generate_examples(source)}

    def _generate_examples(self, source: "Source") -> Iterator[tuple[str, dict[str, Any]]]:
        for row in read_rows(source.table):
            if reason_to_leave_out(row) is None:
                yield row["Image Index"], build_example(source, row)


class Source(NamedTuple):
    """The files that were fetched by hand."""

    table: Path  # CheXmask's
    entries: dict[str, Row]  # image to its row in the NIH's table
    images: dict[str, Path]  # the archives may each have unpacked to a folder of their own


def open_source(manual: Path) -> Source:
    """Reads the NIH's table and finds the images.

    Raises:
        InputError: the table is missing or lacks a column.
    """
    images = {path.name: path for path in (manual / "images").rglob("*.png")}
    return Source(manual / _TABLE, read_entries(manual), images)


def check_rows(source: Source) -> dict[str, int]:
    """Reads CheXmask's table once, before the long work, and looks for all that it needs.

    Returns:
        why rows are left out, and how many.

    Raises:
        InputError: a table is damaged, or names an image twice or one that is missing.
    """
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    missing: list[str] = []
    for row in read_rows(source.table):
        name = row["Image Index"]
        if name in seen:
            raise InputError(f"{source.table}: names {name} twice; download it again")
        seen.add(name)
        if reason := reason_to_leave_out(row):
            left_out[reason] += 1
        elif name not in source.images:
            missing.append(name)
        elif name not in source.entries:
            raise InputError(f"{name}: has no row in the NIH's table; download the table again")
    if missing:
        others = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{source.table.parent / 'images' / missing[0]}: is missing{others}; unpack every "
            f"archive of images, or cut {_TABLE} to those that you have"
        )
    if left_out.total() == len(seen):
        raise InputError(f"{source.table}: has no row of a good mask; download it again")
    return dict(left_out)


def read_rows(table: Path) -> Iterator[Row]:
    """Yields the rows of CheXmask's table.

    Raises:
        InputError: the file is not CSV, lacks a column or was cut short.
    """
    for row in radiographs.read_table(table, _COLUMNS, "download it again"):
        if None in row or None in row.values():
            raise InputError(
                f"{table}: a row has not as many values as there are columns: the file was cut "
                f"short or edited; download it again"
            )
        yield row


def reason_to_leave_out(row: Row) -> str | None:
    """Says why a row has no example: its mask is not good enough, or not complete."""
    try:
        is_good = float(row["Dice RCA (Mean)"]) >= MIN_DICE_RCA
    except ValueError:
        is_good = False
    if not is_good:
        return f"with a Dice RCA (Mean) below {MIN_DICE_RCA}"
    if not all(row[column].strip() for column in MASKS.values()):
        return "without an outline of each lung and the heart"
    return None


def read_entries(manual: Path) -> dict[str, Row]:
    """Reads the NIH's table: image to its row.

    Raises:
        InputError: the table is missing or lacks a column.
    """
    paths = [manual / name for name in _ENTRIES if (manual / name).is_file()]
    if not paths:
        raise InputError(
            f"{manual / _ENTRIES[0]}: no such file; fetch it from the "
            f"NIH's page, https://nihcc.app.box.com/v/ChestXray-NIHCC"
        )
    columns = ("Image Index", "Patient ID", "Finding Labels", "View Position")
    rows = radiographs.read_table(paths[0], columns, "download it again")
    # The header breaks "OriginalImage[Width,Height]" and "...PixelSpacing[x,y]" at their commas.
    return {row["Image Index"]: row for row in rows if row["Image Index"]}


def build_example(source: Source, row: Row) -> dict[str, Any]:
    """Builds the example of a row that `check_rows` found complete.

    Raises:
        InputError: the image or mask is damaged, or the mask has another size than the image.
    """
    name = row["Image Index"]
    entry = source.entries[name]
    image_HxW = radiographs.read_grey(source.images[name])
    try:
        shape = int(float(row["Height"])), int(float(row["Width"]))
        masks = {mask: decode_runs(row[column], shape) for mask, column in MASKS.items()}
        landmarks = parse_landmarks(row["Landmarks"])
    except ValueError as error:
        raise InputError(f"{source.table}: {name}: {error}; download it again") from error
    finding = entry["Finding Labels"]
    example = radiographs.example(
        Path(name).stem,
        image_HxW,
        masks,
        depth=8,
        patient=entry["Patient ID"],
        finding="normal" if finding == "No Finding" else finding,
        view=entry["View Position"],
        sex=entry.get("Patient Gender") or entry.get("Patient Sex", ""),
        age=_age(entry.get("Patient Age", "")),
        spacing_mm=spacing(entry, image_HxW.shape),
    )
    return example | {"landmarks": landmarks, "dice_rca_mean": np.float32(row["Dice RCA (Mean)"])}


def _age(text: str) -> float:
    """Reads "058Y" or "58", in years."""
    digits = "".join(itertools.takewhile(str.isdigit, text))
    return float(digits) if digits and text[len(digits) :].upper() in ("", "Y") else math.nan


def spacing(entry: dict[str, str], shape: tuple[int, int]) -> tuple[float, float]:
    """Returns height and width of a pixel in mm: the original's, by original size over PNG size.

    The PNGs were stretched to 1024x1024, whatever the original's aspect.
    """
    try:
        width, height = float(entry["OriginalImage[Width"]), float(entry["Height]"])
        x, y = float(entry["OriginalImagePixelSpacing[x"]), float(entry["y]"])
    except (KeyError, TypeError, ValueError):
        return radiographs.UNKNOWN
    if not all(math.isfinite(v) and v > 0 for v in (width, height, x, y)):
        return radiographs.UNKNOWN
    return y * height / shape[0], x * width / shape[1]
