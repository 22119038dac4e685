"""The public lung sets that `data.name` can name: one plain table, without TensorFlow.

A new set needs an entry in `radiographs` or `scans` and a builder in `jaxlung.data.builders`,
nothing else. The builder takes citation, terms and instructions from here; docs/datasets.md says
more of each set.

A label convention says which parts of the thorax a mask calls lung: it is the structure that the
mask marks. Sets of different conventions teach outputs of their own.
"""

import difflib
import re
from pathlib import Path
from typing import Literal

from jaxlung.catalog.entry import NamedSet
from jaxlung.catalog.radiographs import RADIOGRAPHS
from jaxlung.catalog.scans import SCANS
from jaxlung.errors import InputError
from jaxlung.structures import LUNG

CATALOG: dict[str, NamedSet] = {entry.name: entry for entry in (*RADIOGRAPHS, *SCANS)}

FOLDERS = ("folder", "ct")  # the values of data.name that read the folder data.dir
NO_SETS = ("phantom", *FOLDERS)  # all values that name no public set


def set_names(name: str) -> tuple[str, ...]:
    """Returns the sets that a data.name joins by +; () for those in NO_SETS.

    Raises:
        InputError: a name is not known, or stands twice.

    Example:
        >>> set_names("montgomery+jsrt"), set_names("phantom")
        (('montgomery', 'jsrt'), ())
    """
    if name in NO_SETS:
        return ()
    names = tuple(name.split("+"))
    for part in names:
        if part not in CATALOG:
            others = ", ".join((*NO_SETS, *CATALOG))
            raise InputError(f"data.name: {part!r} is none of {others}{did_you_mean(part)}")
    if len(set(names)) < len(names):
        raise InputError(f"data.name={name!r} names a set twice; weigh it by data.weights")
    return names


def taught_by(name: str) -> tuple[str, ...]:
    """Returns the conventions of the sets that a data.name joins, without repetition.

    Example:
        >>> taught_by("montgomery+jsrt"), taught_by("phantom")
        (('lung',), ('lung',))
    """
    return tuple(dict.fromkeys(CATALOG[own].convention for own in set_names(name))) or (LUNG,)


def modality_of(name: str) -> Literal["xray", "ct"]:
    """Returns the kind of image that a data.name stands for; of a mixture, its first set's.

    Example:
        >>> modality_of("ct"), modality_of("lctsc"), modality_of("montgomery+jsrt")
        ('ct', 'ct', 'xray')
    """
    first = CATALOG.get(name.split("+")[0])
    return "ct" if name == "ct" else first.modality if first else "xray"


def is_set(path: Path) -> bool:
    """Says whether a path names a public set; a file or folder of that name goes first."""
    return str(path) in CATALOG and not path.exists()


def did_you_mean(name: str) -> str:
    """Returns the end of an error about an unknown name: the nearest set, or nothing."""
    near = difflib.get_close_matches(name, CATALOG, 1)
    return f"; did you mean {near[0]}?" if near else ""


def find_finding(stem: str) -> str:
    """Returns the finding that an image's stem tells, in a set where stems do; else "".

    Example:
        >>> find_finding("MCUCXR_0001_0"), find_finding("IM0001")
        ('normal', '')
    """
    patterns = (pair for entry in CATALOG.values() for pair in entry.findings.items())
    return next((finding for pattern, finding in patterns if re.fullmatch(pattern, stem)), "")
