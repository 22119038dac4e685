"""The two sets of the U.S. National Library of Medicine: what file names and readings say.

MCUCXR_0001_0 (Montgomery) and CHNCXR_0001_0 (Shenzhen): set, number, 0 normal or 1 tuberculosis.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from jaxlung.catalog import find_finding
from jaxlung.data.builders.shared import radiographs
from jaxlung.errors import InputError

# The two films look like one patient's: kept together, they cannot be split apart.
_SAME_PATIENT = {"MCUCXR_0313": "MCUCXR_0264"}
WITHOUT_MASK = 96  # images of Shenzhen
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


def examples(
    builder: tfds.core.DatasetBuilder, images: Path, masks: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the library's images that have one mask of both lungs."""
    left_out: Counter[str] = Counter()
    pairs = radiographs.read_pairs(images, masks, left_out, without=WITHOUT_MASK)
    for stem, path, mask_HxW in pairs:
        image_HxW, facts = radiographs.read_grey(path), read_facts(stem, path)
        yield stem, radiographs.example(stem, image_HxW, {"mask": mask_HxW}, depth=16, **facts)
    builder.info.metadata["left_out"] = dict(left_out)


def read_facts(stem: str, path: Path) -> dict[str, Any]:
    """Reads what `radiographs.example` takes of an image beside its pixels.

    Sex and age come from ClinicalReadings/STEM.txt beside the folder of images, as far as it exists
    and says them.

    Raises:
        InputError: the stem has another form; the error names the file.
    """
    patient, finding = patient_and_finding(stem, path)
    reading, text = path.parent.parent / "ClinicalReadings" / f"{stem}.txt", ""
    if reading.is_file():
        text = reading.read_text(encoding="utf-8", errors="replace")
    return {"patient": patient, "finding": finding, "view": "PA", **parse_reading(text)._asdict()}


def parse_reading(text: str) -> Reading:
    """Parses "Patient's Sex: F", "Patient's Age: 027Y" (Montgomery), "male 45yrs" (Shenzhen)."""
    sex = re.search(r"\b(?:sex:\s*([MF])\b|(f)emale?|(m)ale)", text, re.IGNORECASE)
    age = re.search(r"(\d+)\s*(y|m|d)", text, re.IGNORECASE)
    years = float(age[1]) * _DAYS[age[2].lower()] / _DAYS["y"] if age else math.nan
    return Reading(next(filter(None, sex.groups())).upper() if sex else "", years)
