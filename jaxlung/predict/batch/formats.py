"""The formats that masks are written in. A new format is a function and an entry of the tables.

Imports wait until a mask is written, since the command line reads the tables to list its choices.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from jaxlung.io.volumes import Grid
    from jaxlung.predict.batch.sources import Source


class MaskFile(NamedTuple):
    """A mask to write, with what some formats need to know of it."""

    path: Path
    labels: np.ndarray  # uint8 [H, W], or [Z, H, W] of a volume: 1 right lung, 2 left lung
    sides: bool  # False: the file tells lung from the rest, and not the two lungs apart
    source: Source  # of the image
    model: str  # its name
    grid: Grid | None = None  # of a volume
    structure: str = "lung"  # that the mask marks


def _accept(*_: Path) -> None:
    """Checks nothing."""


class Format(NamedTuple):
    """How masks are written."""

    suffix: str
    write: Callable[[MaskFile], None]
    check_source: Callable[[Path], None] = _accept  # raises InputError where the image will not do
    check_extra: Callable[[], None] = _accept  # raises InputError where a package is missing


def _write_png(mask: MaskFile) -> None:
    from jaxlung.io import images

    labels = mask.labels if mask.sides else (mask.labels > 0).astype("uint8") * 255
    images.write_png(mask.path, labels)


def _write_nifti(mask: MaskFile) -> None:
    from jaxlung.io.volumes import write_mask

    assert mask.grid is not None
    write_mask(mask.path, mask.labels if mask.sides else mask.labels > 0, mask.grid)


def _write_segmentation(mask: MaskFile) -> None:
    from jaxlung.io.dicom.segmentation import write_segmentation
    from jaxlung.predict.batch.sources import on_disk

    label = mask.labels if mask.sides else (mask.labels > 0).astype("uint8")
    with on_disk(mask.source) as path:
        write_segmentation(
            *(mask.path, path, label),
            sides=mask.sides,
            model=mask.model,
            structure=mask.structure,
        )


def _check_dicom(path: Path) -> None:
    from jaxlung.io.dicom.segmentation import check_source

    check_source(path)


def _check_highdicom() -> None:
    from jaxlung.io.dicom.segmentation import import_highdicom

    import_highdicom()


_SEGMENTATION = Format(".dcm", _write_segmentation, _check_dicom, _check_highdicom)
IMAGE_FORMATS = {"png": Format(".png", _write_png), "dicom-seg": _SEGMENTATION}
VOLUME_FORMATS = {"png": Format(".nii.gz", _write_nifti), "dicom-seg": _SEGMENTATION}
