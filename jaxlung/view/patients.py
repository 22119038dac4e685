"""Whose film it is, as a digest that names nobody; and the header, for those who ask to see it."""

import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxlung.data.metadata import read_metadata
from jaxlung.errors import InputError, one_line
from jaxlung.io.dicom.signature import is_dicom
from jaxlung.system.silence import silence

# What `--show-header` shows.
_HEADER = """
PatientName PatientID PatientBirthDate PatientSex PatientAge StudyDate StudyDescription
SeriesDescription AccessionNumber Modality ViewPosition BodyPartExamined InstitutionName
Manufacturer
""".split()


def find_patient(path: Path, stem: str, key: bytes) -> str:
    """Finds whose film a file is: a digest under the review's key, the same for all their films.

    A DICOM file tells by its PatientID, or by its study where that is empty. Other files are looked
    up in a metadata.csv beside them, or beside their folder images/.

    Args:
        path: of a file, or the folder of a series.
        stem: of the file, as metadata.csv names it.

    Returns:
        "" where nothing tells.
    """
    name = ""
    with contextlib.suppress(Exception):  # a damaged header tells nothing
        values = read_header(path, ("PatientID", "StudyInstanceUID"))
        name = values.get("PatientID") or values.get("StudyInstanceUID") or ""
    return digest_patient(name or _look_up(path, stem), key)


def digest_patient(name: str, key: bytes) -> str:
    """Returns a name of the patient that nobody without the key can turn back; "" for ""."""
    if not name:
        return ""
    return "p" + hmac.new(key, name.encode(errors="replace"), hashlib.sha256).hexdigest()[:16]


def _look_up(path: Path, stem: str) -> str:
    folders = [path.parent, path.parent.parent] if path.parent.name == "images" else [path.parent]
    for table in (folder / "metadata.csv" for folder in folders):
        if table.is_file():
            with contextlib.suppress(InputError):
                patients = read_metadata(table, [stem]).patients
                return patients[0] if patients else ""
    return ""


def read_header(path: Path, names: Sequence[str] = _HEADER) -> dict[str, str]:
    """Reads attributes of a DICOM file, or of a series' first file; {} for other formats."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and is_dicom(file))
        path = files[0] if files else path
    if path.is_dir() or not is_dicom(path):
        return {}
    import pydicom

    with silence():
        dataset: Any = pydicom.dcmread(
            path, force=True, stop_before_pixels=True, specific_tags=list(names)
        )
        values = {name: one_line(dataset.get(name) or "")[:200] for name in names}
    return {name: value for name, value in values.items() if value}
