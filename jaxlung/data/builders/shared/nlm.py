"""What the file names and readings of the U.S. National Library of Medicine's two sets tell.

MCUCXR_0001_0 (Montgomery) and CHNCXR_0001_0 (Shenzhen): set, number, 0 normal or 1 tuberculosis.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

from jaxlung.errors import InputError

_STEM = re.compile(r"^((?:MCUCXR|CHNCXR)_\d{4})_([01])$")
_FINDING = {"0": "normal", "1": "tuberculosis"}
# The two films look like one patient's: kept together, they cannot be split apart.
_SAME_PATIENT = {"MCUCXR_0313": "MCUCXR_0264"}
_DAYS = {"y": 365.25, "m": 365.25 / 12, "d": 1.0}


class Reading(NamedTuple):
    sex: str  # "F", "M" or ""
    age: float  # years, or NaN


def patient_and_finding(stem: str, path: Path) -> tuple[str, str]:
    """
    Raises:
        InputError: a stem of another form; names the file.
    """
    match = _STEM.match(stem)
    if match is None:
        raise InputError(f"{path}: is not named like MCUCXR_0001_0 or CHNCXR_0001_0; move it away")
    return _SAME_PATIENT.get(match[1], match[1]), _FINDING[match[2]]


def read_reading(folder: Path | None, stem: str) -> Reading:
    """Sex and age from ClinicalReadings/STEM.txt, where it is there and says them."""
    path = folder / f"{stem}.txt" if folder else None
    if path is None or not path.is_file():
        return Reading("", math.nan)
    return parse_reading(path.read_text(encoding="utf-8", errors="replace"))


def parse_reading(text: str) -> Reading:
    """Montgomery: "Patient's Sex: F", "Patient's Age: 027Y"; Shenzhen: "male 45yrs"."""
    sex = re.search(r"\b(?:sex:\s*([MF])\b|(f)emale?|(m)ale)", text, re.IGNORECASE)
    age = re.search(r"(\d+)\s*(y|m|d)", text, re.IGNORECASE)
    years = float(age[1]) * _DAYS[age[2].lower()] / _DAYS["y"] if age else math.nan
    return Reading(next(filter(None, sex.groups())).upper() if sex else "", years)
