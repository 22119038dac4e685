"""Keeps a row for each image of a batch of predictions.

Rows are appended to a journal as images are done, so that a batch that was killed can go on. At the
end of the batch summary.json and summary.csv take the journal's place.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.system.files import write_json, write_text, write_whole

SCHEMA = "jaxlung-predict-1"  # changes when a field changes its meaning or goes
JSON, CSV, JOURNAL = "summary.json", "summary.csv", ".summary.jsonl"
PARQUET = "summary.parquet"  # of a run on Ray
# A row's columns; None where one does not apply. docs/reference/predict.md says what they mean.
FIELDS = (
    *("name", "image", "status", "model", "mask", "height", "width", "slices"),
    *("lung_px", "right_px", "left_px", "lung_mm2", "right_mm2", "left_mm2"),
    *("lung_ml", "right_ml", "left_ml", "right_to_left", "mean_hu", "laa950"),
    *("confidence", "turned", "warnings", "error", "seconds"),
)

_FRACTIONS = (
    *("lung_mm2", "right_mm2", "left_mm2", "lung_ml", "right_ml", "left_ml"),
    *("right_to_left", "mean_hu", "laa950", "confidence", "seconds"),
)

Row = dict[str, Any]


def make_row(**values: Any) -> Row:
    """Makes a row with all of FIELDS."""
    return {**dict.fromkeys(FIELDS), "warnings": [], **values}


def measure_lungs(labels: np.ndarray, unit: float | None) -> Row:
    """Measures the lungs' sizes.

    Args:
        labels: uint8 [H, W] or [Z, H, W] of 1, the patient's right lung, and 2, the left one.
        unit: a pixel's area in mm2, or a voxel's volume in mm3; None: not known.

    Returns:
        The fields *_px (pixels or voxels), *_mm2 of an image or *_ml of a volume, and
        right_to_left, which is None where there is no left lung.
    """
    right, left = (int(np.count_nonzero(labels == label)) for label in (1, 2))
    sizes = {"lung": right + left, "right": right, "left": left}
    row: Row = {f"{lung}_px": size for lung, size in sizes.items()}
    if unit is not None:
        name, each = ("mm2", unit) if labels.ndim == 2 else ("ml", unit / 1000)
        row |= {f"{lung}_{name}": round(size * each, 1) for lung, size in sizes.items()}
    row["right_to_left"] = round(right / left, 3) if left else None
    return row


class Journal:
    """The rows of a folder of predictions; each is on disk as soon as it is added."""

    def __init__(
        self, folder: Path, settings: Row, rows: Mapping[str, Row], pending: Mapping[str, str]
    ):
        """Starts with the rows to keep, and the names and sources of what is about to be done."""
        self.folder, self.settings, self.rows = folder, settings, dict(rows)
        head = {"settings": settings, "pending": dict(pending)}
        write_text(folder / JOURNAL, "".join(map(_line, [head, *rows.values()])))

    def add(self, row: Row) -> None:
        """Keeps a row, whatever happens next to the process."""
        self.rows[row["name"]] = row
        with open(self.folder / JOURNAL, "a", encoding="utf-8") as file:
            file.write(_line(row))

    def flush(self) -> None:
        """Keeps what has been added; on a disk it is kept already."""

    def close(
        self, order: Iterable[str], passed_over: Mapping[str, int], *, parquet: bool = False
    ) -> list[Row]:
        """Writes the summaries and drops the journal.

        Args:
            order: the names of this batch, which come first; other rows follow.
            passed_over: files of this batch's folders that are no image, by kind.
            parquet: write summary.parquet too, for which pyarrow has to be there.

        Returns:
            The rows of this batch.
        """
        own = [self.rows[name] for name in order]
        rows = list({row["name"]: row for row in [*own, *self.rows.values()]}.values())
        text = to_csv(rows).encode(errors="backslashreplace")  # of names that are no UTF-8
        (self.folder / PARQUET).unlink(missing_ok=True)  # it never tells of other rows than the CSV
        write_text(self.folder / CSV, text.decode())
        if parquet:
            write_parquet(self.folder / PARQUET, text)
        summary = {"schema": SCHEMA, "settings": self.settings, "images": rows}
        write_json(self.folder / JSON, {**summary, "passed_over": dict(passed_over)})
        os.remove(self.folder / JOURNAL)
        return own


def count_rows(rows: Sequence[Row], before: int = 0) -> str:
    """Counts rows in words.

    Args:
        before: how many of them an earlier batch has predicted.
    """
    failed = sum(row["status"] == "failed" for row in rows)
    odd = sum(bool(row["warnings"]) for row in rows)
    earlier = f" ({before} of them before)" if before else ""
    return (
        f"{len(rows)} in all: {len(rows) - failed} predicted{earlier}, {odd} with warnings, "
        f"{failed} failed"
    )


def to_csv(rows: Iterable[Row]) -> str:
    """Formats the rows' FIELDS as CSV with a header; "; " joins several warnings."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(FIELDS)
    for row in rows:
        values = {**row, "warnings": "; ".join(row["warnings"])}
        table.writerow(["" if values[f] is None else values[f] for f in FIELDS])
    return text.getvalue()


def write_parquet(path: Path, table: bytes) -> None:
    """Writes the summary's CSV as Parquet, with the types of its columns."""
    import pyarrow.csv
    import pyarrow.parquet

    words = ("name", "image", "status", "model", "mask", "warnings", "error")
    types = {name: pyarrow.string() for name in words} | {
        name: pyarrow.float64() if name in _FRACTIONS else pyarrow.int64()
        for name in FIELDS
        if name not in words
    }
    options = pyarrow.csv.ConvertOptions(
        column_types=types, strings_can_be_null=True, null_values=[""]
    )
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    read = pyarrow.csv.read_csv(io.BytesIO(table), convert_options=options, parse_options=parsing)
    with write_whole(path) as partial:
        pyarrow.parquet.write_table(read, partial)


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
