"""What a batch of predictions says of itself: a row for each image, kept from the first one on.

Rows are appended to a journal as images are done, so that a batch that was killed can go on; at
its end the journal becomes summary.json and summary.csv.
"""

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.errors import InputError
from jaxlung.workdir import write_json, write_text

SCHEMA = "jaxlung-predict-1"  # changes when a field changes its meaning or goes
JSON, CSV, JOURNAL = "summary.json", "summary.csv", ".summary.jsonl"
# Of each image; None where it does not apply. docs/predict.md says what they mean.
FIELDS = (
    "image", "status", "mask", "height", "width", "slices",
    "lung_px", "right_px", "left_px", "lung_mm2", "right_mm2", "left_mm2",
    "lung_ml", "right_ml", "left_ml", "right_to_left", "confidence",
    "warnings", "error", "seconds",
)  # fmt: skip

Row = dict[str, Any]


def measure(labels: np.ndarray, spacing: tuple[float, ...] | None) -> Row:
    """Sizes of the lungs.

    Args:
        labels: uint8 [H, W] or [Z, H, W] of 1, the patient's right lung, and 2, the left one.
        spacing: of its axes, mm; None: not known.

    Returns:
        the fields *_px (pixels, or voxels), *_mm2 of an image or *_ml of a volume, and
        right_to_left, None where there is no left lung.
    """
    right, left = (int(np.count_nonzero(labels == label)) for label in (1, 2))
    sizes = {"lung": right + left, "right": right, "left": left}
    row: Row = {f"{lung}_px": size for lung, size in sizes.items()}
    if spacing is not None:
        unit, each = ("mm2", 1.0) if labels.ndim == 2 else ("ml", 1e-3)
        each *= float(np.prod(spacing))
        row |= {f"{lung}_{unit}": round(size * each, 1) for lung, size in sizes.items()}
    row["right_to_left"] = round(right / left, 3) if left else None
    return row


class Journal:
    """The rows of a folder of predictions, on disk as soon as they are added."""

    def __init__(self, folder: Path, settings: Row, rows: dict[str, Row]):
        self.folder, self.settings, self.rows = folder, settings, rows
        write_text(folder / JOURNAL, "".join(map(_line, [settings, *rows.values()])))

    def add(self, row: Row) -> None:
        """Keeps a row, whatever happens next to the process."""
        self.rows[row["image"]] = row
        with open(self.folder / JOURNAL, "a", encoding="utf-8") as file:
            file.write(_line(row))

    def close(self, order: Iterable[str]) -> None:
        """Writes the summaries, images of this batch first, in their order; drops the journal."""
        names = [name for name in dict.fromkeys([*order, *self.rows]) if name in self.rows]
        rows = [self.rows[name] for name in names]
        write_json(
            self.folder / JSON, {"schema": SCHEMA, "settings": self.settings, "images": rows}
        )
        text = to_csv(rows).encode(errors="backslashreplace")  # of names that are no UTF-8
        write_text(self.folder / CSV, text.decode())
        os.remove(self.folder / JOURNAL)


def earlier_rows(folder: Path) -> tuple[Row | None, dict[str, Row]]:
    """Settings and rows of what is in a folder already, a killed batch's included.

    Returns:
        (None, {}) where there is neither a summary nor a journal.

    Raises:
        InputError: a summary that is damaged, or of another version.
    """
    settings: Row | None = None
    rows: dict[str, Row] = {}
    path = folder / JSON
    try:
        if path.exists():
            summary = json.loads(path.read_text(encoding="utf-8"))
            if summary["schema"] != SCHEMA:
                raise ValueError(f"its schema is {summary['schema']!r}, not {SCHEMA!r}")
            settings = summary["settings"]
            rows = {row["image"]: row for row in summary["images"]}
        path = folder / JOURNAL
        if path.exists():
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last may be torn
            if lines:
                settings = json.loads(lines[0])
                rows |= {row["image"]: row for row in map(json.loads, lines[1:])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged ({error}); remove it, or name another --out"
        ) from error
    return settings, rows


def to_csv(rows: Iterable[Row]) -> str:
    """The rows' FIELDS as CSV, with a header; several warnings are joined by "; "."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(FIELDS)
    for row in rows:
        values = {**row, "warnings": "; ".join(row.get("warnings", ()))}
        table.writerow(["" if values.get(f) is None else values[f] for f in FIELDS])
    return text.getvalue()


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
