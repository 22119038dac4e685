"""Predicts masks of CT volumes on the file's own grid."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.gate.mask import check_confidence
from jaxlung.io.ct.geometry import is_sheared, measure_voxel
from jaxlung.io.ct.hounsfield import apply_window, read_scan
from jaxlung.io.ct.resampling import straighten
from jaxlung.io.viewers.drawing import draw_overlay, draw_sheet
from jaxlung.io.volumes import Volume
from jaxlung.masks.bodies import label_lung_bodies
from jaxlung.metrics.calibration import Confidence, ExpectedDice
from jaxlung.predict.predictor import Predictor
from jaxlung.preprocess import canvas_geometry, from_canvas, to_canvas
from jaxlung.structures import LUNG

# Millilitres of both lungs. Only infants have less, and no reported total capacity is larger; a
# spacing in cm, or of 1 mm by default, leads outside.
_PLAUSIBLE = (300, 12000)
# Of the largest slice's area: more in the first or last slice are lungs that a scan cuts off. In
# the masks of five whole scans of LCTSC and of a sixth these slices hold none.
_CUT = 0.25
LOW_ATTENUATION = -950  # Hounsfield units


class Density(NamedTuple):
    """What a scan's lungs consist of; None without lung."""

    mean_hu: float | None
    # The share of their voxels below -950 HU: emphysema (Gevenois et al. 1996,
    # doi:10.1164/ajrccm.154.1.8680679). It depends on the kernel, the slices' thickness and how
    # deep the patient breathed in.
    laa950: float | None


class VolumePrediction(NamedTuple):
    """The lungs of a scan, as axial slices; `volumes.write_mask` writes them on the scan's grid."""

    # uint8: 1 the patient's right lung, 2 the left, 0 elsewhere; of another output 1 where it is
    labels_ZxHxW: np.ndarray
    # The Dice of the whole scan to expect, before the clean-up: see `calibration.expected_dice`.
    confidence: float
    density: Density  # of the lungs
    warnings: tuple[str, ...]  # what is odd about scan or mask, in words
    volume: Volume  # in Hounsfield units
    probability_ZxHxW: np.ndarray | None = None  # uint8, 255 is 1; where it was asked for
    output: str = LUNG  # the structure that the labels are of
    resampled: bool = False  # `volume` is not on its file's own grid: see `resampling.straighten`

    @property
    def mask_ZxHxW(self) -> np.ndarray:
        """The lungs, bool; made anew each time."""
        return self.labels_ZxHxW > 0


def predict_volume(
    model: Predictor, path: Path, *, probabilities: bool = False, resample: bool = False
) -> VolumePrediction:
    """Predicts the lungs of a NIfTI volume or DICOM series, slice by slice.

    What the slices give is cleaned up as a whole, unless the model's `train.postprocess` is False:
    see `Predictor.clean_up_scan`. In memory are the scan as it was stored, a byte for each of its
    voxels, and a few slices.

    Args:
        model: of CT.
        path: of a file or a series' folder.
        probabilities: keep them too, before the clean-up.
        resample: bring a scan of a tilted gantry onto a grid at right angles first, and predict
            it there; other scans stay on their own.

    Raises:
        InputError: a model of X-rays, a volume that cannot be read, or one that is not in
            Hounsfield units, unless `hounsfield.to_hounsfield` can bring it there.
    """
    if model.config.modality != "ct":
        raise InputError(f"{path}: is a CT volume, but the model was trained on X-rays")
    volume = read_scan(path)
    resampled = resample and is_sheared(volume.grid)
    if resampled:
        volume = straighten(volume, path)
    found = predict_scan(model, volume, probabilities=probabilities)
    return found._replace(resampled=resampled)


def predict_scan(
    model: Predictor, volume: Volume, *, probabilities: bool = False
) -> VolumePrediction:
    """Predicts the lungs of a scan that was read, in Hounsfield units.

    Args and Returns: as `predict_volume`, which calls this.
    """
    data = model.config.data
    _, height, width = volume.voxels_ZxHxW.shape
    geometry = canvas_geometry(height, width, data.size, data.fit)
    mask_ZxHxW = np.zeros(volume.voxels_ZxHxW.shape, bool)
    probability_ZxHxW = np.zeros(mask_ZxHxW.shape, np.uint8) if probabilities else None
    canvases = (
        to_canvas(
            apply_window(hu_HxW, data.window_low, data.window_high), size=data.size, fit=data.fit
        )[0]
        for hu_HxW in volume.voxels_ZxHxW
    )
    sums = ExpectedDice()
    for z, probability_SxS in enumerate(model.probabilities(canvases)):
        probability_HxW = from_canvas(probability_SxS, geometry)
        mask_ZxHxW[z] = model.to_mask(probability_HxW)
        sums = sums.add(probability_HxW, mask_ZxHxW[z])
        if probability_ZxHxW is not None:
            probability_ZxHxW[z] = np.rint(255 * probability_HxW)
    mask_ZxHxW = model.clean_up_scan(mask_ZxHxW)
    known = model.confidences.get(model.output, Confidence())
    confidence = known.calibrate(sums.value) if mask_ZxHxW.any() else 0.0
    warnings = [*volume.warnings, *check_lungs(mask_ZxHxW, volume, model.output)]
    warnings += check_ends(mask_ZxHxW) if model.output == LUNG else []
    if mask_ZxHxW.any():
        warnings += check_confidence(confidence, known.least)
    has_sides = model.output == LUNG
    return VolumePrediction(
        label_lung_bodies(mask_ZxHxW) if has_sides else mask_ZxHxW.astype(np.uint8),
        confidence,
        measure_density(volume, mask_ZxHxW),
        tuple(warnings),
        volume,
        probability_ZxHxW,
        model.output,
    )


def measure_density(volume: Volume, mask_ZxHxW: np.ndarray) -> Density:
    """Measures the density of what a mask marks in a scan in Hounsfield units.

    Example:
        >>> from jaxlung.io.volumes import Grid
        >>> grid = Grid((3, 1, 1), np.eye(4), None)
        >>> scan = Volume(np.array([[[-960, -840, 40]]]), (1.0, 1.0, 1.0), grid)
        >>> measure_density(scan, np.array([[[True, True, False]]]))
        Density(mean_hu=-900.0, laa950=0.5)
    """
    count, low, total = 0, 0, 0.0
    for hu_HxW, mask_HxW in zip(volume.voxels_ZxHxW, mask_ZxHxW, strict=True):
        lung_N = hu_HxW[mask_HxW]
        count += lung_N.size
        total += float(lung_N.sum(dtype=np.float64))
        low += int(np.count_nonzero(lung_N < LOW_ATTENUATION))
    return Density(total / count, low / count) if count else Density(None, None)


def check_lungs(mask_ZxHxW: np.ndarray, volume: Volume, structure: str = LUNG) -> list[str]:
    """Returns what is odd about the lungs, or another structure, that were found, in words."""
    if not mask_ZxHxW.any():
        return [f"no {structure} found"]
    if structure != LUNG:
        return []
    millilitres = np.count_nonzero(mask_ZxHxW) * measure_voxel(volume) / 1000
    low, high = _PLAUSIBLE
    if low <= millilitres <= high:
        return []
    return [
        f"implausible volume: lungs of {millilitres:.3g} ml, expected {low} to {high} ml; is the "
        f"spacing right, and the scan whole?"
    ]


def check_ends(mask_ZxHxW: np.ndarray) -> list[str]:
    """Warns of lungs that go on beyond the first or the last slice, in words.

    No position says that slices are missing at an end of a series.

    Example:
        >>> mask = np.zeros((3, 4, 4), bool)
        >>> mask[:2] = True
        >>> check_ends(mask)
        ['cut off: the lungs go on below the lowest slice, and their volume is that of a part']
    """
    areas_Z = np.count_nonzero(mask_ZxHxW, axis=(1, 2))
    most = areas_Z.max(initial=0)
    ends = (("below the lowest", areas_Z[0]), ("above the highest", areas_Z[-1]))
    cut = " and ".join(end for end, area in ends if area > _CUT * most)
    return (
        [f"cut off: the lungs go on {cut} slice, and their volume is that of a part"] if cut else []
    )


def picture(model: Predictor, mask_ZxHxW: np.ndarray, volume: Volume) -> np.ndarray:
    """Draws the mask's outline on twelve slices, evenly from the lung's lowest to its highest."""
    data = model.config.data
    with_lung = np.flatnonzero(mask_ZxHxW.any((1, 2)))
    shown = with_lung if len(with_lung) else np.arange(len(mask_ZxHxW))
    chosen = np.unique(np.linspace(int(shown[0]), int(shown[-1]), 12).round().astype(int))
    slices = [
        apply_window(volume.voxels_ZxHxW[z], data.window_low, data.window_high) for z in chosen
    ]
    pictures = [draw_overlay(s, mask_ZxHxW[z]) for s, z in zip(slices, chosen, strict=True)]
    return draw_sheet(pictures, [f"slice {z}" for z in chosen])
