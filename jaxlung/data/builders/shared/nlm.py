"""What file names and readings say in the two sets of the U.S. National Library of Medicine.

MCUCXR_0001_0 (Montgomery) and CHNCXR_0001_0 (Shenzhen): set, number, 0 normal or 1 tuberculosis.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

from jaxlung.catalog import find_finding
from jaxlung.errors import InputError

# The two films look like one patient's: kept together, they cannot be split apart.
_SAME_PATIENT = {"MCUCXR_0313": "MCUCXR_0264"}
_DAYS = {"y": 365.25, "m": 365.25 / 12, "d": 1.0}


class Reading(NamedTuple):
    sex: str  # "F", "M" or ""
    age: float  # years, or NaN


def patient_and_finding(stem: str, path: Path) -> tuple[str, str]:
    """Reads patient and finding from a stem.

    Raises:
        InputError: the stem has another form; the error names the file.
    """
    patient, finding = stem.rpartition("_")[0], find_finding(stem)
    if not finding or len(patient) != len("MCUCXR_0001"):
        raise InputError(f"{path}: is not named like MCUCXR_0001_0 or CHNCXR_0001_0; move it away")
    return _SAME_PATIENT.get(patient, patient), finding


def read_reading(folder: Path | None, stem: str) -> Reading:
    """Reads sex and age from ClinicalReadings/STEM.txt, as far as it exists and says them."""
    path = folder / f"{stem}.txt" if folder else None
    if path is None or not path.is_file():
        return Reading("", math.nan)
    return parse_reading(path.read_text(encoding="utf-8", errors="replace"))


def parse_reading(text: str) -> Reading:
    """Parses "Patient's Sex: F", "Patient's Age: 027Y" (Montgomery), "male 45yrs" (Shenzhen)."""
    sex = re.search(r"\b(?:sex:\s*([MF])\b|(f)emale?|(m)ale)", text, re.IGNORECASE)
    age = re.search(r"(\d+)\s*(y|m|d)", text, re.IGNORECASE)
    years = float(age[1]) * _DAYS[age[2].lower()] / _DAYS["y"] if age else math.nan
    return Reading(next(filter(None, sex.groups())).upper() if sex else "", years)
