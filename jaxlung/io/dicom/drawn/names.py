"""Which of the structures of a file are the lungs, by their names."""

import re
from collections.abc import Mapping
from pathlib import Path

from jaxlung.errors import InputError
from jaxlung.structures import LEFT_LUNG, LUNG, RIGHT_LUNG

_LEFT, _RIGHT, _BOTH = "l|lt|left", "r|rt|right", "both|all|total|whole|bilateral"
_PATTERNS = {
    LEFT_LUNG: rf"(?:{_LEFT})lung|lung(?:{_LEFT})",
    RIGHT_LUNG: rf"(?:{_RIGHT})lung|lung(?:{_RIGHT})",
    LUNG: rf"(?:{_BOTH})?lungs?|lungs?(?:{_BOTH})",
}
SIDES = (RIGHT_LUNG, LEFT_LUNG)


def name_lung(name: str) -> str:
    """Returns the structure that a name means: both lungs, the right or left one, or "".

    Case, blanks and signs do not count, nor does the order of "lung" and its side. A name with any
    other word or number is another structure: the lungs without a tumour, a lobe, the trachea. The
    names of AAPM's Task Group 263 are Lung_L, Lung_R and Lungs.

    Example:
        >>> [name_lung(name) for name in ("Lung_L", "Rt Lung", "LUNGS", "Lungs-GTV", "Heart")]
        ['left_lung', 'right_lung', 'lung', '', '']
    """
    letters = re.sub(r"[\W_]+", "", name.lower())
    matches = (key for key, pattern in _PATTERNS.items() if re.fullmatch(pattern, letters))
    return next(matches, "")


def choose_lungs(named: Mapping[int, str], path: Path, kind: str) -> dict[int, str]:
    """Chooses the structures of a file that make a mask of both lungs.

    A right and a left lung go before one structure of both.

    Args:
        named: number of a structure in its file to the lung that it is, or "".
        path: of the file, for errors.
        kind: what such a structure is called, "ROI" or "segment".

    Returns:
        number to RIGHT_LUNG and LEFT_LUNG, or to LUNG.

    Raises:
        InputError: no structure is a lung, a single one is, or two are the same.
    """
    numbers = {lung: [n for n, own in named.items() if own == lung] for lung in (*SIDES, LUNG)}
    wanted = SIDES if all(numbers[side] for side in SIDES) else (LUNG,)
    one_alone = [side for side in SIDES if numbers[side]]
    if not numbers[wanted[0]]:
        what, remedy = "draws no lung", f"call its {kind}s Lung_L and Lung_R, or Lungs"
        if one_alone:
            what = f"draws the {one_alone[0].replace('_', ' ')} alone"
            remedy = f"draw both, or call the {kind} Lungs if the patient has no other"
        raise InputError(f"{path}: {what}; {remedy}")
    for lung in wanted:
        if len(numbers[lung]) > 1:
            first, second = numbers[lung][:2]
            name = "both lungs" if lung == LUNG else f"the {lung.replace('_', ' ')}"
            raise InputError(f"{path}: {kind}s {first} and {second} are {name}; keep one of them")
    return {numbers[lung][0]: lung for lung in wanted}
