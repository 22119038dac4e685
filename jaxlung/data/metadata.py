"""What metadata.csv says of a folder's images: patient, pixel spacing, subgroups.

An optional `metadata.csv` has a row for each image:

    id                        the image's stem (required)
    patient                   images of one patient are split together and resampled together
    spacing_mm                of square pixels; or spacing_y_mm and spacing_x_mm. They win over
                              what a DICOM file says; where they are empty, the file counts
    convention                the structure that the image's mask marks, as in data.convention,
                              which counts where it is empty
    finding, view, site, sex  subgroups for evaluation, as is any column that begins with group_,
                              where they have 2 to 12 different values

Other columns are not read: they may name people, and the names of subgroups get into reports.
"""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxlung.catalog import find_finding
from jaxlung.errors import InputError
from jaxlung.io.text import compose, read_text
from jaxlung.structures import is_structure_name

GROUPS = ("finding", "view", "site", "sex")
MAX_GROUPS = 12  # a column with more different values is an identifier or a measurement
_RESERVED = ("patient", "convention", "spacing_mm", "spacing_y_mm", "spacing_x_mm")


class Metadata(NamedTuple):
    """Each field is in the order of the ids that it was read for."""

    patients: tuple[str, ...] | None  # None: the set does not say
    spacings: tuple[tuple[float, float] | None, ...]  # height and width of a pixel, mm
    groups: Mapping[str, tuple[str, ...]]  # column to value of each image, "" where not known
    conventions: tuple[str, ...]  # "": not known


def read_metadata(path: Path | None, ids: Sequence[str]) -> Metadata:
    """Reads the rows of these ids.

    A file may describe more images than a folder holds: rows of other ids are passed over.

    Args:
        path: a CSV file; None where there is none, and only the ids themselves can tell.

    Raises:
        InputError: the file cannot be read, a column or row is missing or stands twice, or a
            spacing is not a number of millimetres.
    """
    # The stems of some public sets tell the finding; a folder of their images keeps it.
    groups = useful_groups({"finding": tuple(map(find_finding, ids))})
    if path is None or not ids:
        return Metadata(None, (None,) * len(ids), groups, ("",) * len(ids))
    rows = _rows(path)
    for image_id in ids:
        if compose(image_id) not in rows:
            raise InputError(
                f"{path}: has no row with id {image_id!r}; every image needs one, by its file name "
                f"without suffix"
            )
    chosen = [rows[compose(image_id)] for image_id in ids]
    patients = None
    if "patient" in chosen[0]:
        for row in chosen:
            if not row["patient"]:
                raise InputError(f"{path}: the row of {row['id']!r} has no patient; name one")
        patients = tuple(row["patient"] for row in chosen)
    groups |= useful_groups(
        {
            name: tuple(row[name] for row in chosen)
            for name in chosen[0]
            if name in GROUPS or name.startswith("group_")
        }
    )
    spacings = tuple(_spacing(path, row) for row in chosen)
    return Metadata(patients, spacings, groups, tuple(_convention(path, row) for row in chosen))


def _rows(path: Path) -> dict[str, dict[str, str]]:
    try:
        with io.StringIO(read_text(path), newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            if "id" not in header or len(set(header)) < len(header):
                raise InputError(
                    f"{path}: needs one column 'id' and no column twice, separated by commas; its "
                    f"first line has {', '.join(header) or 'nothing'}"
                )
            for name in header:
                if name not in _RESERVED and re.search("patient|spacing", name):
                    raise InputError(
                        f"{path}: column {name!r} is not known; name it one of "
                        f"{', '.join(_RESERVED)}, or remove it"
                    )
            reader.fieldnames = header
            rows: dict[str, dict[str, str]] = {}
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(f"{path}: line {reader.line_num} has not {len(header)} values")
                row = {name: compose(value.strip()) for name, value in row.items()}
                if not any(row.values()):
                    continue  # spreadsheets end like this
                if row["id"] in rows:
                    raise InputError(f"{path}: line {reader.line_num} repeats id {row['id']!r}")
                rows[row["id"]] = row
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    if not rows:
        raise InputError(f"{path}: has no rows")
    return rows


def _convention(path: Path, row: Mapping[str, str]) -> str:
    convention = row.get("convention", "")
    if convention and not is_structure_name(convention):
        raise InputError(
            f"{path}: the row of {row['id']!r} has convention {convention!r}; name a structure in "
            f"lower-case letters, digits and underscores, such as lung or lung_and_heart"
        )
    return convention


def _spacing(path: Path, row: Mapping[str, str]) -> tuple[float, float] | None:
    square = row.get("spacing_mm", "")
    height, width = row.get("spacing_y_mm", "") or square, row.get("spacing_x_mm", "") or square
    if not height and not width:
        return None
    try:
        sides = float(height), float(width)
    except ValueError:
        sides = (math.nan, math.nan)
    if not all(is_spacing(side) for side in sides):
        raise InputError(
            f"{path}: the row of {row['id']!r} has spacing {height!r} x {width!r}; expected "
            f"millimetres between 0.0001 and 100 for both sides, or nothing"
        )
    return sides


def is_spacing(side: float) -> bool:
    """Says whether a pixel may have such a side, in mm; metres and mistaken units are refused.

    Example:
        >>> is_spacing(0.175), is_spacing(0.0), is_spacing(math.nan)
        (True, False, False)
    """
    return 1e-4 <= side <= 100  # False of NaN


def useful_groups(groups: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Returns the columns that can serve as subgroups, with 2 to MAX_GROUPS different values.

    Example:
        >>> useful_groups({"sex": ("F", "M"), "site": ("a", "a")})
        {'sex': ('F', 'M')}
    """
    return {name: values for name, values in groups.items() if 2 <= len(set(values)) <= MAX_GROUPS}
