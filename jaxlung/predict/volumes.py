"""Predicts masks of CT volumes on the file's own grid."""

from pathlib import Path

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.ct.hounsfield import apply_window, to_hounsfield
from jaxlung.io.drawing import draw_overlay, draw_sheet
from jaxlung.io.volumes import Volume, measure_voxel, read_volume
from jaxlung.predict.predictor import Predictor
from jaxlung.preprocess import canvas_geometry, from_canvas, to_canvas

# Millilitres of both lungs. Only infants have less, and no reported total capacity is larger; a
# spacing in cm, or of 1 mm by default, leads outside.
_PLAUSIBLE = (300, 12000)


def predict_volume(model: Predictor, path: Path) -> tuple[np.ndarray, np.ndarray, Volume]:
    """Predicts the lungs of a NIfTI volume or DICOM series, slice by slice.

    Returns:
        Mask bool and probability float32 [Z, H, W] of axial slices, and the volume, with whose
        grid `volumes.write_mask` writes them.

    Raises:
        InputError: a model of X-rays, a volume that cannot be read, or one that is not in
            Hounsfield units, unless `to_hounsfield` can bring it there.
    """
    if model.config.modality != "ct":
        raise InputError(f"{path}: is a CT volume, but the model was trained on X-rays")
    volume = to_hounsfield(read_volume(path), path)
    data = model.config.data
    _, height, width = volume.voxels_ZxHxW.shape
    geometry = canvas_geometry(height, width, data.size, data.fit)
    mask_ZxHxW = np.zeros(volume.voxels_ZxHxW.shape, bool)
    probability_ZxHxW = np.zeros(mask_ZxHxW.shape, np.float32)
    canvases = (
        to_canvas(
            apply_window(hu_HxW, data.window_low, data.window_high), size=data.size, fit=data.fit
        )[0]
        for hu_HxW in volume.voxels_ZxHxW
    )
    for z, probability_SxS in enumerate(model.probabilities(canvases)):
        probability_ZxHxW[z] = from_canvas(probability_SxS, geometry)
        mask_ZxHxW[z] = model.to_mask(probability_ZxHxW[z])
    return mask_ZxHxW, probability_ZxHxW, volume


def check_lungs(mask_ZxHxW: np.ndarray, volume: Volume) -> list[str]:
    """Returns what is odd about the lungs that were found, in words."""
    if not mask_ZxHxW.any():
        return ["no lung found"]
    millilitres = np.count_nonzero(mask_ZxHxW) * measure_voxel(volume) / 1000
    low, high = _PLAUSIBLE
    if low <= millilitres <= high:
        return []
    return [
        f"implausible volume: lungs of {millilitres:.3g} ml, expected {low} to {high} ml; is the "
        f"spacing right, and the scan whole?"
    ]


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
