"""Does a mask lie on the lungs of its scan? Measured on a coarse copy, by the air inside the body.

It needs no other pair and no model: lungs are the largest body of air that no slice's frame
touches. Collapsed or flooded lung is missing in it, and gas of the bowel too much, so that sound
masks agree with it by a Dice of 0.8 to 0.95, and only large differences say anything.
"""

from typing import NamedTuple

import cv2
import numpy as np

SIDE = 96  # the most voxels along an axis of the coarse copy
_AIR = -400  # HU: between lung and fat
_TISSUE = -300  # HU
_REACH = 0.25  # the largest shift that is tried, of each side


class Alignment(NamedTuple):
    """How a mask agrees with the air inside of the body, and what would make it agree better."""

    dice: float
    turn: str  # the best of the mirrored or transposed masks
    turn_gain: float  # of Dice; may be negative
    shift_ZYX: tuple[int, int, int]  # voxels of the file by which the mask seems to be moved
    shift_gain: float


def coarse_steps(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Returns the steps of each axis that leave at most SIDE voxels.

    Example:
        >>> np.zeros((100, 512, 256))[coarse_steps((100, 512, 256))].shape
        (50, 86, 86)
    """
    return tuple(slice(None, None, -(-side // SIDE)) for side in shape)


def find_inner_air(hu_ZxHxW: np.ndarray) -> np.ndarray:
    """Finds the air that no path within a slice leads from to its frame: bool [Z, H, W]."""
    inner_ZxHxW = np.zeros(hu_ZxHxW.shape, bool)
    for z, hu_HxW in enumerate(hu_ZxHxW):
        _, labels_HxW = cv2.connectedComponents((hu_HxW < _AIR).astype(np.uint8), connectivity=4)
        frame = np.concatenate([*labels_HxW[[0, -1]], *labels_HxW[:, [0, -1]].T])
        inner_ZxHxW[z] = (labels_HxW > 0) & ~np.isin(labels_HxW, np.unique(frame))
    return inner_ZxHxW


def measure_alignment(
    mask_ZxHxW: np.ndarray, air_ZxHxW: np.ndarray, steps: tuple[slice, ...]
) -> Alignment:
    """Compares a mask with the inner air, as it is, moved, mirrored and with axes exchanged.

    Args:
        mask_ZxHxW: bool, coarse.
        air_ZxHxW: bool, as `find_inner_air` returns it.
        steps: of `coarse_steps`, which led from the file's voxels to these.
    """
    own = _dice(mask_ZxHxW, air_ZxHxW)
    turned = {
        "mirrored left to right": mask_ZxHxW[:, :, ::-1],
        "mirrored front to back": mask_ZxHxW[:, ::-1],
        "upside down, feet for head": mask_ZxHxW[::-1],
        "turned by 180 degrees about the patient's length": mask_ZxHxW[:, ::-1, ::-1],
    }
    if mask_ZxHxW.shape[1] == mask_ZxHxW.shape[2]:
        swapped = mask_ZxHxW.transpose(0, 2, 1)
        turned |= {
            "with rows and columns exchanged": swapped,
            "turned by 90 degrees": swapped[:, ::-1],
            "turned by 270 degrees": swapped[:, :, ::-1],
        }
    gains = {name: _dice(mask, air_ZxHxW) - own for name, mask in turned.items()}
    turn = max(gains, key=gains.__getitem__)
    overlap = np.fft.irfftn(
        np.fft.rfftn(air_ZxHxW) * np.fft.rfftn(mask_ZxHxW).conj(), air_ZxHxW.shape, (0, 1, 2)
    )
    for axis, side in enumerate(overlap.shape):
        reach = int(_REACH * side)
        far = np.arange(reach + 1, side - reach)
        overlap[(slice(None),) * axis + (far,)] = 0
    best = np.unravel_index(np.argmax(overlap), overlap.shape)
    total = max(1, int(mask_ZxHxW.sum()) + int(air_ZxHxW.sum()))
    # What the mask has to be moved by is against what it was moved by.
    z, y, x = (
        -step.step * int(place if place <= side // 2 else place - side)
        for place, side, step in zip(best, overlap.shape, steps, strict=True)
    )
    shifted = 2 * float(overlap[best]) / total
    return Alignment(own, turn, gains[turn], (z, y, x), shifted - own)


def measure_ends(hu_ZxHxW: np.ndarray) -> tuple[float, float, float]:
    """Measures how far the body goes on beyond the scan along each axis: Z, rows and columns.

    It is the share of tissue in the first and the last plane across that axis; the lesser of both.
    A chest is cut across the patient's length alone, unless the field of view is too small.
    """
    z, y, x = (
        min(float((np.take(hu_ZxHxW, end, axis) > _TISSUE).mean()) for end in (0, -1))
        for axis in range(3)
    )
    return z, y, x


def find_pieces(mask_ZxHxW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pieces of a mask, the largest first: voxels, int [N], and centres, [N, 3]."""
    from scipy import ndimage  # takes half a second to import

    label_ZxHxW, count = ndimage.label(mask_ZxHxW, np.ones((3, 3, 3)))
    sizes_N = np.bincount(label_ZxHxW.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes_N)
    centres = ndimage.center_of_mass(mask_ZxHxW, label_ZxHxW, 1 + order)
    return sizes_N[order], np.array(centres).reshape(-1, 3)


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
