"""What a DICOM Segmentation calls each structure: codes of SNOMED CT, and words."""

from typing import NamedTuple

from jaxlung import structures


class Anatomy(NamedTuple):
    """The segment of a structure."""

    code: str  # of SNOMED CT
    meaning: str  # of the code
    label: str  # of the segment
    side: str = ""  # "Right" or "Left", where the code does not tell
    description: str = ""  # where the code tells too little


SIDE_CODES = {"Right": "24028007", "Left": "7771000"}
RIGHT_LUNG = Anatomy("3341006", "Right lung", "Right lung")
LEFT_LUNG = Anatomy("44029006", "Left lung", "Left lung")
_CLAVICLE = ("51299004", "Clavicle")
_KNOWN = {
    structures.LUNG: Anatomy("39607008", "Lung", "Lung"),
    # No code is of lung and heart alone. The cavity that holds both is in CID 7155.
    structures.LUNG_AND_HEART: Anatomy(
        *("43799004", "Chest cavity", "Lung and heart"),
        description="Lungs and heart as one region, with the lung behind the heart",
    ),
    structures.RIGHT_LUNG: RIGHT_LUNG,
    structures.LEFT_LUNG: LEFT_LUNG,
    structures.HEART: Anatomy("80891009", "Heart", "Heart"),
    structures.RIGHT_CLAVICLE: Anatomy(*_CLAVICLE, "Right clavicle", "Right"),
    structures.LEFT_CLAVICLE: Anatomy(*_CLAVICLE, "Left clavicle", "Left"),
}


def find_anatomy(structure: str) -> Anatomy:
    """Returns what to call a structure; of one that is not known the name is the label.

    Example:
        >>> find_anatomy("heart").code, find_anatomy("trachea").label
        ('80891009', 'trachea')
    """
    unknown = Anatomy("91723000", "Anatomical Structure", structure)
    return _KNOWN.get(structure, unknown)
