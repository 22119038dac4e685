"""LCTSC: 60 radiotherapy scans of three hospitals with contours, as a TFDS data set.

TCIA's layout, as its NBIA Data Retriever writes it: LCTSC/PATIENT/STUDY/SERIES/*.dcm, with a series
of CT and one of a single RTSTRUCT file for each patient.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxlung.data.builders.shared import radiographs, scans
from jaxlung.errors import InputError, print_warning
from jaxlung.io.ct.hounsfield import read_scan
from jaxlung.io.dicom.drawn.read import read_drawn_lungs
from jaxlung.io.dicom.series import holds_slices
from jaxlung.io.dicom.signature import name_drawing, read_start
from jaxlung.structures import LEFT_LUNG, LUNG, RIGHT_LUNG

_PATIENT = re.compile(r"LCTSC-(Train|Test)-(S\d+)-\d+")
_FEATURES = {LUNG: "mask", RIGHT_LUNG: "mask_right", LEFT_LUNG: "mask_left"}
_AGAIN = "fetch the patient again"


class JaxlungLctsc(radiographs.Builder):
    """Axial CT slices of the Lung CT Segmentation Challenge 2017 with lung masks.

    60 thoracic CT scans of radiotherapy patients of three hospitals (`site`), with contours of the
    right and left lung, drawn by hand for treatment planning. `mask` is the union of both. Trachea
    and main bronchi are not lung; tumour and collapsed lung partly are. Images are Hounsfield units
    plus 1024. `part` is the challenge's: train or test.
    """

    DEPTH = scans.DEPTH
    MASK_NAMES = ("mask_right", "mask_left")
    TEXT_NAMES = ("site", "part")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root = radiographs.manual_folder(dl_manager, "lctsc")
        return {"train": self._generate_examples(find_patients(root))}

    def _generate_examples(self, patients: dict[str, Path]) -> Iterator[tuple[str, dict[str, Any]]]:
        for patient, folder in patients.items():
            series, drawing = find_scan(folder)
            volume = read_scan(series)
            for warning in volume.warnings:
                print_warning(f"{series}: {warning}")
            drawn = read_drawn_lungs(drawing, series)
            if LEFT_LUNG not in drawn.structures:
                raise InputError(f"{drawing}: does not tell right and left lung; {_AGAIN}")
            match = _PATIENT.fullmatch(patient)
            assert match is not None  # `find_patients` looks for such names alone
            yield from scans.slice_examples(
                patient,
                volume.voxels_ZxHxW,
                {feature: drawn.mask(structure) for structure, feature in _FEATURES.items()},
                patient=patient,
                spacing_mm=volume.spacing[1:],
                site=match[2],
                part=match[1].lower(),
            )


def find_patients(root: Path) -> dict[str, Path]:
    """Finds the patients' folders, by name.

    Raises:
        InputError: there is none.
    """
    collections = sorted({root, root / "LCTSC", *root.glob("manifest-*/LCTSC")})
    found = {
        folder.name: folder
        for collection in collections
        for folder in (sorted(collection.iterdir()) if collection.is_dir() else ())
        if _PATIENT.fullmatch(folder.name) and folder.is_dir()
    }
    if not found:
        raise InputError(
            f"{root / 'LCTSC'}: holds no folder like LCTSC-Train-S1-001; fetch the collection "
            f"again and move nothing in it"
        )
    return found


def find_scan(folder: Path) -> tuple[Path, Path]:
    """Finds a patient's one series of CT and one RTSTRUCT file.

    Raises:
        InputError: one is missing, or there are several.
    """
    folders = sorted(path for path in (folder, *folder.rglob("*")) if path.is_dir())
    series = [path for path in folders if holds_slices(path)]
    drawings = [
        file
        for path in folders
        if path not in series
        for file in sorted(path.iterdir())
        if name_drawing(read_start(file)) == "RTSTRUCT"
    ]
    for kind, found in (("series of CT", series), ("RTSTRUCT", drawings)):
        if len(found) != 1:
            raise InputError(f"{folder}: holds {len(found)} {kind} where one belongs; {_AGAIN}")
    return series[0], drawings[0]
