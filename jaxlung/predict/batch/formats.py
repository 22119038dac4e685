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

    def as_volume(self) -> tuple[np.ndarray, Grid]:
        """Returns the labels [Z, H, W] and their grid; an image is a volume of one slice."""
        if self.grid is not None:
            return self.labels, self.grid
        from jaxlung.io.viewers.film_grid import make_film_grid, read_film_spacing
        from jaxlung.predict.batch.sources import on_disk

        with on_disk(self.source) as path:
            spacing = read_film_spacing(path)
        height, width = self.labels.shape
        return self.labels[None], make_film_grid(height, width, spacing)


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

    images.write_png(
        mask.path, mask.labels if mask.sides else (mask.labels > 0).view("uint8") * 255
    )


def _write_nifti(mask: MaskFile) -> None:
    from jaxlung.io.volumes import write_mask

    labels_ZxHxW, grid = mask.as_volume()
    write_mask(mask.path, labels_ZxHxW if mask.sides else labels_ZxHxW > 0, grid)


def _write_seg_nrrd(mask: MaskFile) -> None:
    from jaxlung.io.viewers.seg_nrrd import write_seg_nrrd

    labels_ZxHxW, grid = mask.as_volume()
    write_seg_nrrd(mask.path, labels_ZxHxW, grid, sides=mask.sides, structure=mask.structure)


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


def _check_nibabel() -> None:
    from jaxlung.io.volumes import import_nibabel

    import_nibabel()


def _check_nrrd() -> None:
    from jaxlung.io.viewers.seg_nrrd import import_nrrd

    import_nrrd()


_NIFTI = Format(".nii.gz", _write_nifti, check_extra=_check_nibabel)
_SEG_NRRD = Format(".seg.nrrd", _write_seg_nrrd, check_extra=_check_nrrd)
_SEGMENTATION = Format(".dcm", _write_segmentation, _check_dicom, _check_highdicom)
_OF_BOTH = {"nii": _NIFTI, "seg-nrrd": _SEG_NRRD, "dicom-seg": _SEGMENTATION}
IMAGE_FORMATS = {"png": Format(".png", _write_png), **_OF_BOTH}
VOLUME_FORMATS = {"png": Format(".nii.gz", _write_nifti), **_OF_BOTH}
