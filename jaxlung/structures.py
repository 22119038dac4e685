"""The structures that a mask can mark: their names, and which become which in a mirror.

A network has an output for each structure in `model.outputs`. Any lower-case name will do. The
names here are those that jaxlung knows more of.
"""

import re
from collections.abc import Sequence

LUNG = "lung"  # the lung fields: heart, mediastinum and the lung behind them are OUT
LUNG_AND_HEART = "lung_and_heart"  # the heart and the lung behind it are IN
RIGHT_LUNG, LEFT_LUNG = "right_lung", "left_lung"  # the patient's
HEART = "heart"
RIGHT_CLAVICLE, LEFT_CLAVICLE = "right_clavicle", "left_clavicle"

# In how many pieces a frontal film shows a structure. A prediction keeps no more of them. What is
# not named here may have any number.
PIECES = {
    LUNG: 2,
    LUNG_AND_HEART: 2,
    RIGHT_LUNG: 1,
    LEFT_LUNG: 1,
    HEART: 1,
    RIGHT_CLAVICLE: 1,
    LEFT_CLAVICLE: 1,
}


def is_structure_name(name: str) -> bool:
    """Says whether a structure may have this name: lower-case letters, digits and underscores.

    Example:
        >>> is_structure_name("left_lung"), is_structure_name("Left lung")
        (True, False)
    """
    return re.fullmatch("[a-z][a-z0-9_]*", name) is not None


def mirror_name(name: str) -> str:
    """Returns the structure that a mirror makes of this one: left and right change places.

    Example:
        >>> mirror_name("left_lung"), mirror_name("heart")
        ('right_lung', 'heart')
    """
    for side, other in (("left_", "right_"), ("right_", "left_")):
        if name.startswith(side):
            return other + name.removeprefix(side)
    return name


def mirror_order(outputs: Sequence[str]) -> tuple[int, ...]:
    """Returns, for each output, the place of the one whose mirror image it is.

    Args:
        outputs: with the partner of each that is left or right.

    Example:
        >>> mirror_order(("heart", "left_lung", "right_lung"))
        (0, 2, 1)
    """
    return tuple(outputs.index(mirror_name(name)) for name in outputs)


def lung_places(outputs: Sequence[str]) -> tuple[int, ...]:
    """Returns the places of the outputs that are lungs, in which disease lies.

    Example:
        >>> lung_places(("heart", "left_lung", "right_lung"))
        (1, 2)
    """
    lungs = (LUNG, LUNG_AND_HEART, RIGHT_LUNG, LEFT_LUNG)
    return tuple(i for i, name in enumerate(outputs) if name in lungs)
