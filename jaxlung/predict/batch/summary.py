"""What a batch of predictions says of itself: a row for each image, kept from the first one on.

Rows are appended to a journal as images are done, so that a batch that was killed can go on; at
its end the journal becomes summary.json and summary.csv. Each share of a batch has its own three
files beside these, with its number in their names, until a batch of all files takes them in.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.system.files import write_json, write_text
from jaxlung.system.processes import Share

SCHEMA = "jaxlung-predict-1"  # changes when a field changes its meaning or goes
JSON, CSV, JOURNAL = "summary.json", "summary.csv", ".summary.jsonl"
# Of each image; None where it does not apply. docs/predict.md says what they mean.
FIELDS = (
    "name",
    "image",
    "status",
    "mask",
    "height",
    "width",
    "slices",
    "lung_px",
    "right_px",
    "left_px",
    "lung_mm2",
    "right_mm2",
    "left_mm2",
    "lung_ml",
    "right_ml",
    "left_ml",
    "right_to_left",
    "confidence",
    "warnings",
    "error",
    "seconds",
)

Row = dict[str, Any]


class Earlier(NamedTuple):
    """What a folder of predictions holds already."""

    settings: Row | None  # what they were made with; None: it holds none
    rows: dict[str, Row]  # by the outputs' name
    pending: Mapping[str, str]  # name to source: of a batch that was interrupted


def make_row(**values: Any) -> Row:
    """A row with all of FIELDS."""
    return {**dict.fromkeys(FIELDS), "warnings": [], **values}


def measure_lungs(labels: np.ndarray, unit: float | None) -> Row:
    """Sizes of the lungs.

    Args:
        labels: uint8 [H, W] or [Z, H, W] of 1, the patient's right lung, and 2, the left one.
        unit: of a pixel's area in mm2 or a voxel's volume in mm3; None: not known.

    Returns:
        the fields *_px (pixels, or voxels), *_mm2 of an image or *_ml of a volume, and
        right_to_left, None where there is no left lung.
    """
    right, left = (int(np.count_nonzero(labels == label)) for label in (1, 2))
    sizes = {"lung": right + left, "right": right, "left": left}
    row: Row = {f"{lung}_px": size for lung, size in sizes.items()}
    if unit is not None:
        name, each = ("mm2", unit) if labels.ndim == 2 else ("ml", unit / 1000)
        row |= {f"{lung}_{name}": round(size * each, 1) for lung, size in sizes.items()}
    row["right_to_left"] = round(right / left, 3) if left else None
    return row


def summary_path(folder: Path, name: str, share: Share | None) -> Path:
    """Where JSON, CSV or JOURNAL of a batch lies, or of a share of one."""
    start, end = name.rsplit(".", 1)
    return folder / (f"{start}.{share}.{end}" if share else name)


def list_shares(folder: Path) -> list[Share]:
    """The shares that have a journal or a summary of their own."""
    names = (path.name for pattern in ("summary.*", ".summary.*") for path in folder.glob(pattern))
    found = (re.fullmatch(r"\.?summary\.(\d{4})-of-(\d{4})\.jsonl?", name) for name in names)
    return sorted({Share(int(match[1]), int(match[2])) for match in found if match})


class Journal:
    """The rows of a folder of predictions, or of a share of them, on disk as soon as added."""

    def __init__(
        self,
        folder: Path,
        settings: Row,
        rows: dict[str, Row],
        pending: Mapping[str, str],
        share: Share | None = None,
    ):
        """Starts with the rows to keep, and the names and sources of what is about to be done.

        Of all files (share None), those of shares among the rows to keep: their files are removed.
        """
        self.settings, self.rows = settings, rows
        self._json, self._csv, self._journal = (
            summary_path(folder, name, share) for name in (JSON, CSV, JOURNAL)
        )
        head = {"settings": settings, "pending": dict(pending)}
        write_text(self._journal, "".join(map(_line, [head, *rows.values()])))
        for other in [] if share else list_shares(folder):
            for name in (CSV, JSON, JOURNAL):
                summary_path(folder, name, other).unlink(missing_ok=True)

    def add(self, row: Row) -> None:
        """Keeps a row, whatever happens next to the process."""
        self.rows[row["name"]] = row
        with open(self._journal, "a", encoding="utf-8") as file:
            file.write(_line(row))

    def close(self, order: Iterable[str]) -> None:
        """Writes the summaries, images of this batch first, in their order; drops the journal."""
        names = [name for name in dict.fromkeys([*order, *self.rows]) if name in self.rows]
        rows = [self.rows[name] for name in names]
        text = to_csv(rows).encode(errors="backslashreplace")  # of names that are no UTF-8
        write_text(self._csv, text.decode())
        write_json(self._json, {"schema": SCHEMA, "settings": self.settings, "images": rows})
        os.remove(self._journal)


def same_settings(one: Row | None, other: Row) -> bool:
    """Where a model's folder lies is none of them."""
    return one is not None and {**one, "model": ""} == {**other, "model": ""}


def read_all(folder: Path) -> Earlier:
    """What is in a folder already, of all batches and of all shares, of those that run as well.

    Raises:
        InputError: as `read_earlier`, or shares were made with different settings.
    """
    found = read_earlier(folder)
    for share in list_shares(folder):
        more = read_earlier(folder, share)
        if more.settings is None:  # it has just been taken in
            continue
        if found.settings is not None and not same_settings(found.settings, more.settings):
            raise InputError(
                f"{folder}: share {share.number}/{share.of} was made with other settings than "
                f"the rest; name another --out folder"
            )
        found = Earlier(
            more.settings, {**found.rows, **more.rows}, {**found.pending, **more.pending}
        )
    return found


def read_earlier(folder: Path, share: Share | None = None) -> Earlier:
    """What a batch, or a share of one, has left, rows included of one that was killed.

    Raises:
        InputError: a summary that is damaged, of another version, or not jaxlung's.
    """
    for name, read in ((JOURNAL, _read_journal), (JSON, _read_summary)):  # a journal has it all
        path = summary_path(folder, name, share)
        try:
            if path.exists():
                return read(path.read_text(encoding="utf-8"))
        except FileNotFoundError:  # another share's journal has just become its summary
            continue
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"{path}: is damaged ({error}); remove it, or name another --out folder"
            ) from error
    if share is None and (folder / CSV).exists():
        raise InputError(
            f"{folder / CSV}: exists, without {JSON}; remove it, or name another --out folder"
        )
    return Earlier(None, {}, {})


def _read_journal(text: str) -> Earlier:
    head, *lines = text.split("\n")[:-1]  # the last may be torn
    start = json.loads(head)
    return Earlier(
        dict(start["settings"]), _by_name(map(json.loads, lines)), dict(start["pending"])
    )


def _read_summary(text: str) -> Earlier:
    summary = json.loads(text)
    if summary["schema"] != SCHEMA:
        raise ValueError(f"its schema is {summary['schema']!r}, not {SCHEMA!r}")
    return Earlier(dict(summary["settings"]), _by_name(summary["images"]), {})


def _by_name(rows: Iterable[Row]) -> dict[str, Row]:
    return {row["name"]: row for row in rows if row["status"] and row["source"]}


def to_csv(rows: Iterable[Row]) -> str:
    """The rows' FIELDS as CSV, with a header; several warnings are joined by "; "."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(FIELDS)
    for row in rows:
        values = {**row, "warnings": "; ".join(row["warnings"])}
        table.writerow(["" if values[f] is None else values[f] for f in FIELDS])
    return text.getvalue()


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"
