"""ChestX-ray14 with the masks of CheXmask, as a TFDS data set that Apache Beam can prepare.

112120 radiographs of 1024x1024 take one process hours. Where a Beam runner or its options are named
(`tfds.download.DownloadConfig`), that runner does it. Otherwise this process does: Beam's own
DirectRunner would hold all examples in memory, several times over, TFDS itself keeps them on disk.
"""

import csv
import functools
import itertools
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.data.builders.shared import radiographs
from jaxlung.data.builders.shared.outlines import decode_runs, parse_landmarks
from jaxlung.errors import InputError

MIN_DICE_RCA = 0.7  # of "Dice RCA (Mean)": CheXmask's own advice
MASKS = {"mask_right": "Right Lung", "mask_left": "Left Lung", "heart": "Heart"}
_ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_TABLE = "ChestX-Ray8.csv"
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

    _by_beam = False

    def download_and_prepare(self, *, download_config: Any = None, **options: Any) -> None:
        self._by_beam = by_beam(download_config)
        super().download_and_prepare(download_config=download_config, **options)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        if self._by_beam:
            import_beam()
        manual = radiographs.manual_folder(dl_manager, "chexmask")
        radiographs.first_folder(manual, "images")
        if not (manual / _TABLE).is_file():
            raise InputError(
                f"{manual / _TABLE}: no such file. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        # What the user has mended since an earlier try counts.
        read_entries.cache_clear()
        _images.cache_clear()
        chosen = choose_rows(manual)
        self.info.metadata["left_out"] = chosen.left_out
        return {"train": self._generate_examples(manual, chosen.offsets)}

    def _generate_examples(self, manual: Path, offsets: list[int]) -> Any:
        build = functools.partial(build_row, str(manual))
        if not self._by_beam:
            return map(build, offsets)
        beam = import_beam()
        # Where rows are, not the rows: their run lengths are gigabytes, which a runner would move.
        return (
            beam.Create(offsets)
            | "Spread over workers" >> beam.Reshuffle()
            | "Build examples" >> beam.Map(build)
        )


class Chosen(NamedTuple):
    """The rows of CheXmask's table to build examples of."""

    offsets: list[int]  # bytes from the start of the file
    left_out: dict[str, int]  # why, and how many


def by_beam(download_config: Any) -> bool:
    """Whether a `tfds.download.DownloadConfig` (or None) names a Beam runner, or options of one."""
    return bool(download_config and (download_config.beam_runner or download_config.beam_options))


def import_beam() -> Any:
    """
    Raises:
        InputError: Apache Beam is not installed.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise InputError(
            "chexmask: a Beam runner needs Apache Beam, which is not installed: "
            "pip install 'jaxlung[beam]'"
        ) from error
    return beam


def choose_rows(manual: Path) -> Chosen:
    """Reads the table once, before the long work: which rows are good, and have all they need.

    Raises:
        InputError: a table is missing or damaged, an image twice in it or missing.
    """
    path = manual / _TABLE
    entries, images = read_entries(manual), _images(str(manual))
    left_out: Counter[str] = Counter()
    offsets: list[int] = []
    seen: set[str] = set()
    missing: list[str] = []
    for offset, row in read_rows(path):
        name = row["Image Index"]
        if name in seen:
            raise InputError(f"{path}: names {name} twice; download it again")
        seen.add(name)
        if not is_good(row):
            left_out[f"with a Dice RCA (Mean) below {MIN_DICE_RCA}"] += 1
        elif not all(row[column].strip() for column in MASKS.values()):
            left_out["without an outline of each lung and the heart"] += 1
        elif name not in images:
            missing.append(name)
        elif name not in entries:
            raise InputError(f"{name}: has no row in the NIH's table; download the table again")
        else:
            offsets.append(offset)
    if missing:
        others = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{manual / 'images' / missing[0]}: is missing{others}; unpack every archive of "
            f"images, or cut {_TABLE} to those that you have"
        )
    if not offsets:
        raise InputError(f"{path}: has no row of a good mask; download it again")
    return Chosen(offsets, dict(left_out))


def read_rows(path: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, str]]]:
    """(offset, row) from one row on, or all rows; other columns are dropped.

    Args:
        offset: bytes from the start of the file, as a row came with; 0 is the header.

    Raises:
        InputError: a file that is no CSV, lacks a column or is cut short.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # run lengths are longer than csv's limit
    try:
        with path.open("rb") as file:
            header = next(csv.reader([file.readline().decode("utf-8-sig")]), [])
            missing = [name for name in _COLUMNS if name not in header]
            if missing:
                raise InputError(f"{path}: has no column {missing[0]!r}; download it again")
            places = [(name, header.index(name)) for name in _COLUMNS]
            position = max(offset, file.tell())
            file.seek(position)

            def lines() -> Iterator[str]:
                nonlocal position
                for line in file:
                    position += len(line)
                    yield line.decode()

            reader = csv.reader(lines())  # takes as many lines as a row has, and no more
            start = position
            for values in reader:
                if len(values) not in (0, len(header)):
                    raise InputError(
                        f"{path}: a row has {len(values)} of {len(header)} columns: the file was "
                        f"cut short or edited; download it again"
                    )
                if values:
                    yield start, {name: values[place] for name, place in places}
                start = position
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: cannot be read as CSV ({radiographs.why(error)}); download it again"
        ) from error


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
        raise InputError(
            f"{Path(manual, _ENTRIES[0])}: no such file; fetch it from the "
            f"NIH's page, https://nihcc.app.box.com/v/ChestXray-NIHCC"
        )
    try:
        with paths[0].open(newline="", encoding="utf-8-sig") as file:
            # The header breaks "OriginalImage[Width,Height]" and "...PixelSpacing[x,y]" at commas.
            rows = {
                row["Image Index"]: row for row in csv.DictReader(file) if row.get("Image Index")
            }
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{paths[0]}: cannot be read as CSV ({radiographs.why(error)}); download it again"
        raise InputError(message) from error
    needed = ("Patient ID", "Finding Labels", "View Position")
    for name in needed:
        if not rows or name not in next(iter(rows.values())):
            raise InputError(f"{paths[0]}: has no column {name!r}, or no row; download it again")
    return rows


def build_row(manual: str, offset: int) -> tuple[str, dict[str, Any]]:
    """`build_example` of the row at an offset."""
    _, row = next(read_rows(Path(manual, _TABLE), offset))
    return build_example(manual, row)


def build_example(manual: str, row: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Key and example of a row of CheXmask's table, one that `choose_rows` found complete.

    Raises:
        InputError: an image or mask is damaged, or the mask is not of the image's size.
    """
    name = row["Image Index"]
    path, entry = _images(manual)[name], read_entries(manual)[name]
    image_HxW = radiographs.read_grey(path)
    try:
        shape = int(float(row["Height"])), int(float(row["Width"]))
        masks = {mask: decode_runs(row[column], shape) for mask, column in MASKS.items()}
        landmarks = parse_landmarks(row["Landmarks"])
    except ValueError as error:
        raise InputError(f"{Path(manual, _TABLE)}: {name}: {error}; download it again") from error
    finding = entry["Finding Labels"]
    example = radiographs.example(
        Path(name).stem,
        image_HxW,
        masks,
        patient=entry["Patient ID"],
        finding="normal" if finding == "No Finding" else finding,
        view=entry["View Position"],
        sex=entry.get("Patient Gender") or entry.get("Patient Sex", ""),
        age=_age(entry.get("Patient Age", "")),
        spacing_mm=spacing(entry, image_HxW.shape),
    )
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
