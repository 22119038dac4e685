"""The series that lungs were drawn on, and the mask of them on its grid."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.dicom.series import Slice, sort_slices
from jaxlung.io.volumes import Grid, from_grid
from jaxlung.structures import LEFT_LUNG, LUNG, RIGHT_LUNG

_OFF = 0.1  # how far from a slice a drawing may lie that is on it, as a share of the step
BITS = {RIGHT_LUNG: 1, LEFT_LUNG: 2, LUNG: 4}


class DrawnLungs(NamedTuple):
    """Masks of one grid."""

    bits_ZxHxW: np.ndarray  # uint8, sums of BITS, in the order of `volumes.read_volume`
    structures: tuple[str, ...]  # that are drawn: LUNG, and both sides where they are known
    grid: Grid

    def mask(self, structure: str) -> np.ndarray:
        """Returns the mask of one of the structures, bool [Z, H, W]."""
        if structure == LUNG:
            return self.bits_ZxHxW > 0
        return self.bits_ZxHxW & BITS[structure] > 0


class Target(NamedTuple):
    """A series, as far as drawings refer to it."""

    place: Path
    slices: list[Slice]
    grid: Grid
    normal_3: np.ndarray
    heights_S: np.ndarray  # of the slices along the normal, mm; they rise
    tolerance: float  # mm

    def new_bits(self) -> np.ndarray:
        """Returns an empty mask, uint8 [slices, rows, columns], in the order of the slices."""
        return np.zeros(self.grid.shape[::-1], np.uint8)

    def to_lungs(self, bits_SxRxC: np.ndarray, drawn: Iterable[str]) -> DrawnLungs:
        """Turns a filled mask into axial slices."""
        structures = (LUNG, *(one for one in drawn if one != LUNG))
        return DrawnLungs(from_grid(bits_SxRxC.T, self.grid), structures, self.grid)

    def find_slice(self, points_Nx3: np.ndarray) -> int | None:
        """Returns the index of the slice in whose plane all points lie, or None."""
        heights_N = points_Nx3 @ self.normal_3
        nearest = int(np.argmin(np.abs(self.heights_S - heights_N[0])))
        off = np.abs(heights_N - self.heights_S[nearest]).max()
        return nearest if off <= self.tolerance else None


def read_target(place: Path) -> Target:
    """Reads the headers of a series. Call it in `silence`.

    Raises: as `series.read_series`, for what the headers say.
    """
    slices, series = sort_slices(place, ("FrameOfReferenceUID",))
    rows, columns = slices[0].shape
    normal_3 = np.cross(*slices[0].directions_2x3)
    heights_S = np.array([one.position_3 for one in slices]) @ normal_3
    tolerance = _OFF * float(np.median(np.diff(heights_S)))
    grid = Grid((columns, rows, len(slices)), series.affine_4x4, None)
    return Target(place, slices, grid, normal_3, heights_S, tolerance)


def check_references(
    path: Path, target: Target, frames: Iterable[Any], series: Iterable[Any]
) -> None:
    """Refuses a drawing of another series.

    Args:
        path: of the drawing, for the error.
        frames: the UIDs of the frames of reference that the drawing names.
        series: the UIDs of the series that it names.

    Raises:
        InputError: a kind of UID is named, and the target's own is not among them; or none is.
    """
    first = target.slices[0]
    own = {
        "frame of reference": (first.dataset.get("FrameOfReferenceUID"), frames),
        "series": (first.series, series),
    }
    agrees = False
    for what, (uid, named) in own.items():
        uids = {str(one) for one in named if one}
        if not uids or not uid:
            continue
        if str(uid) not in uids:
            raise InputError(
                f"{path}: is drawn on another {what} than that of {target.place}; pair it with its "
                f"own series"
            )
        agrees = True
    if not agrees:
        raise InputError(
            f"{path}: does not say which series it is drawn on; export it again with its references"
        )
