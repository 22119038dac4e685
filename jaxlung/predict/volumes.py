"""Masks of CT volumes: from a file to a mask on the file's own grid."""

from pathlib import Path

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.drawing import draw_overlay, draw_sheet
from jaxlung.io.volumes import Volume, apply_window, check_hounsfield, read_volume
from jaxlung.predict.predictor import Predictor
from jaxlung.preprocess import from_canvas, to_canvas


def predict_volume(model: Predictor, path: Path) -> tuple[np.ndarray, np.ndarray, Volume]:
    """The lungs of a NIfTI volume or DICOM series, slice by slice.

    Returns:
        mask bool and probability float32 [Z, H, W] of axial slices, and the volume:
        `volumes.write_mask` brings them back.

    Raises:
        InputError: a model of X-rays, a volume that cannot be read, or one that is not in
            Hounsfield units.
    """
    if model.config.modality != "ct":
        raise InputError(f"{path}: is a CT volume, but the model was trained on X-rays")
    volume = read_volume(path)
    check_hounsfield(volume, path)
    return *predict_slices(model, volume), volume


def predict_slices(model: Predictor, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Mask bool and probability float32 [Z, H, W] of a volume in Hounsfield units."""
    data, batch_size = model.config.data, model.config.train.batch_size
    mask_ZxHxW = np.zeros(volume.voxels_ZxHxW.shape, bool)
    probability_ZxHxW = np.zeros(mask_ZxHxW.shape, np.float32)
    canvas_BxSxS = np.zeros((batch_size, data.size, data.size), np.uint8)
    for start in range(0, len(mask_ZxHxW), batch_size):
        slices = volume.voxels_ZxHxW[start : start + batch_size]
        for b, hu_HxW in enumerate(slices):
            grey_HxW = apply_window(hu_HxW, data.window_low, data.window_high)
            canvas_BxSxS[b], _, geometry = to_canvas(grey_HxW, size=data.size, fit=data.fit)
        probability_BxSxS = model.predict_canvases(canvas_BxSxS)
        for b in range(len(slices)):
            probability_ZxHxW[start + b] = from_canvas(probability_BxSxS[b], geometry)
            mask_ZxHxW[start + b] = model.to_mask(probability_ZxHxW[start + b])
    return mask_ZxHxW, probability_ZxHxW


def picture(model: Predictor, mask_ZxHxW: np.ndarray, volume: Volume) -> np.ndarray:
    """Twelve slices, evenly from the lung's lowest to its highest, with the mask's outline: RGB."""
    data = model.config.data
    with_lung = np.flatnonzero(mask_ZxHxW.any((1, 2)))
    shown = with_lung if len(with_lung) else np.arange(len(mask_ZxHxW))
    chosen = np.unique(np.linspace(int(shown[0]), int(shown[-1]), 12).round().astype(int))
    slices = [
        apply_window(volume.voxels_ZxHxW[z], data.window_low, data.window_high) for z in chosen
    ]
    pictures = [draw_overlay(s, mask_ZxHxW[z]) for s, z in zip(slices, chosen, strict=True)]
    return draw_sheet(pictures, [f"slice {z}" for z in chosen])
