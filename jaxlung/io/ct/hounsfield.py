"""Hounsfield units (HU): whether a CT volume is in them, by its voxels, and windows on them.

A header's intercept is often lost, and what fills the frame around a scan (-1000, -2000, -3024...)
tells nothing. So broad peaks decide: air in and around the patient near -1000 HU, and soft tissue,
fat included, near 0 HU.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.ct.rounding import to_int16
from jaxlung.io.volumes import Volume, read_volume

_LARGEST = 4096  # values beyond are metal or padding
_AIR = (-1300, -500)  # lung is in it
_TISSUE = (-300, 300)
_AIR_PEAK = (-1060, -550)  # where the peak of air, or of lung where there is none, may lie
_TISSUE_PEAK = 150  # HU to either side of 0: fat lies near -100, muscle near 50
_SHIFT = 1024  # DICOM stores CT with this intercept, by custom
_NONE = 0.001  # a smaller share of the voxels is none
_SOME = 0.03  # the least share of a peak; cortical bone and metal together hold 0.002
_NEAR_0 = 10  # HU that air may lie from 0 to be told from air that 1024 was added to
_PEAK = 4  # HU to either side of a value, over which counts are summed to find a peak


def read_scan(path: Path) -> Volume:
    """Reads a CT volume in Hounsfield units, int16.

    Raises: as `read_volume` and `to_hounsfield`.
    """
    return to_hounsfield(read_volume(path, rounded=True), path)


def to_hounsfield(volume: Volume, path: Path) -> Volume:
    """Returns the volume in Hounsfield units, with a warning where it had to be shifted.

    Values that are 1024 (or 1000) too high, as the intercept was never applied, or 1024 too low, as
    it was applied twice, are shifted where both peaks show it.

    Raises:
        InputError: the volume is in other units, 8 bits say, on another scale (HU times 10) or
            inverted, or the shift is not certain.
    """
    counts = _count_values(volume.voxels_ZxHxW)
    air = counts.share(*_AIR, but_commonest=True)
    tissue = counts.share(*_TISSUE, but_commonest=True)
    tissue_above = counts.share(*_TISSUE, _SHIFT)
    air_below = counts.share(*_AIR, -_SHIFT, but_commonest=True)
    if tissue_above >= _SOME and air < tissue_above / 2:
        return _shift(volume, counts, _SHIFT, path)
    if air_below >= _SOME and tissue < air_below / 2:
        return _shift(volume, counts, -_SHIFT, path)
    for what, place, share in (("air", -1000, air), ("soft tissue", 0, counts.share(*_TISSUE))):
        if share < _NONE:
            lowest, highest = volume.voxels_ZxHxW.min(), volume.voxels_ZxHxW.max()
            raise InputError(
                f"{path}: its values, {lowest:g} to {highest:g}, are no Hounsfield units, in which "
                f"a chest has {what} near {place}; rescale it"
            )
    peaks = _find_peaks(counts, 0)
    if not (_AIR_PEAK[0] <= peaks.air <= _AIR_PEAK[1] and abs(peaks.tissue) <= _TISSUE_PEAK):
        raise InputError(f"{path}: is not in Hounsfield units: {peaks}; rescale it")
    return volume


def apply_window(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """Turns Hounsfield units into uint8 of the same shape: `low` becomes 0, `high` 255.

    Example:
        >>> apply_window(np.array([-3000, -600, 3000]), -1350, 150).tolist()
        [0, 128, 255]
    """
    scaled = (np.clip(hu, low, high).astype(np.float32) - low) * (255.0 / (high - low))
    return np.rint(scaled).astype(np.uint8)


class _Counts(NamedTuple):
    """How many voxels have each whole value from -_LARGEST on."""

    counts_N: np.ndarray

    def _between(self, low: int, high: int) -> np.ndarray:
        return self.counts_N[low + _LARGEST : high + _LARGEST]

    def share(self, low: int, high: int, shift: int = 0, *, but_commonest: bool = False) -> float:
        """Returns the share of voxels in a range; without one value, which may be padding."""
        counts = self._between(low + shift, high + shift)
        some = counts.sum() - (counts.max() if but_commonest else 0)
        return float(some / self.counts_N.sum())

    def peak(self, low: int, high: int) -> int:
        """Returns the value in a range about which most voxels lie.

        The commonest value may be padding, and does not count where there are others.
        """
        counts = self._between(low, high).copy()
        if self.share(low, high, but_commonest=True) >= _NONE:
            counts[np.argmax(counts)] = 0
        return low + int(np.argmax(np.convolve(counts, np.ones(2 * _PEAK + 1), "same")))

    def is_air_near_0(self) -> bool:
        """Says whether 1000 was added to air near -1000 HU, or to air that was clipped there.

        With 1024 added it lies at 12 to 24. Lung, which may make a larger peak, lies higher.
        """
        about_0 = (-4 * _NEAR_0, 2 * _NEAR_0)
        is_any = self.share(*about_0, but_commonest=True) >= _NONE
        return is_any and self.peak(*about_0) <= _NEAR_0


class _Peaks(NamedTuple):
    """The values of the volume about which most air and most soft tissue lie."""

    air: int
    tissue: int

    def __str__(self) -> str:
        where = f"its air lies near {self.air} and its soft tissue near {self.tissue}"
        return f"{where}, not near -1000 and 0"


def _find_peaks(counts: _Counts, shift: int) -> _Peaks:
    air, tissue = (counts.peak(low + shift, high + shift) for low, high in (_AIR, _TISSUE))
    return _Peaks(air, tissue)


def _count_values(voxels_ZxHxW: np.ndarray) -> _Counts:
    step = max(1, min(voxels_ZxHxW.shape[1:]) // 128)  # some thousands of a slice are enough
    counts_N = np.zeros(2 * _LARGEST + 1, np.int64)
    for voxels_HxW in voxels_ZxHxW[:, ::step, ::step]:
        whole = np.clip(voxels_HxW, -_LARGEST, _LARGEST).astype(np.int64) + _LARGEST
        counts_N += np.bincount(whole.ravel(), minlength=len(counts_N))
    return _Counts(counts_N)


def _shift(volume: Volume, counts: _Counts, shift: int, path: Path) -> Volume:
    """Takes the shift back where the peaks leave no doubt.

    Soft tissue lies close together, with little between it and air and little above it. The values
    of an MR or of another scale do not. Nothing lies below air; where values are inverted, bone
    would.
    """
    peaks = _find_peaks(counts, shift)
    air, tissue = peaks
    share = counts.share(*_TISSUE, shift)
    is_certain = (
        _AIR_PEAK[0] <= air - shift <= -700
        and abs(tissue - shift) <= _TISSUE_PEAK
        and counts.share(*_AIR, shift) >= _SOME
        and share >= _SOME
        and counts.share(-500, -300, shift) < share / 8
        and counts.share(300, 1000, shift) < share / 4
        and counts.share(air - 1000, air - 100, but_commonest=True) < _NONE
    )
    if not is_certain:
        raise InputError(
            f"{path}: is not in Hounsfield units: {peaks}; apply its rescale intercept first"
        )
    if shift > 0 and counts.is_air_near_0():
        shift = 1000
    voxels = np.empty(volume.voxels_ZxHxW.shape, np.int16)
    for own_HxW, voxels_HxW in zip(voxels, volume.voxels_ZxHxW, strict=True):
        # In a wider type, since int16 could overflow.
        own_HxW[:] = to_int16(voxels_HxW.astype(np.float32) - shift)
    verb = "subtracted" if shift > 0 else "added"
    said = f"not in Hounsfield units: {abs(shift)} was {verb}, as {peaks}"
    return volume._replace(voxels_ZxHxW=voxels, warnings=(*volume.warnings, said))
