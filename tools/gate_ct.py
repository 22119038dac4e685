"""Projects CT volumes to films from the front and from the side, and reads slices of them.

Pure functions of voxels in Hounsfield units and a NumPy generator.
"""

from pathlib import Path

import cv2
import numpy as np

from jaxlung.io import volumes
from tools.gate_films import mild
from tools.gate_pictures import SIZE, to_uint8

_WATER = 0.019  # linear attenuation in 1/mm, at about 70 keV
_WINDOWS = (  # HU, black to white
    (-1350, 150),
    (-1000, 400),
    (-160, 240),
    (-1000, 1000),
    (-1024, 3071),
    (-500, 1300),
)


class Body:
    """A patient's CT without the table: what projections need of it."""

    def __init__(self, path: Path):
        volume = volumes.read_volume(path)
        self.voxels_ZxHxW = np.asarray(volume.voxels_ZxHxW, np.float32)[::-1]  # from above
        self.spacing = volume.spacing
        dense_ZxHxW = np.clip(self.voxels_ZxHxW / 1000 + 1, 0, 3)
        dense_ZxHxW[self.voxels_ZxHxW < -900] = 0
        side = 128  # pixels: projections are looked at in few of them
        planes = [p * _largest(p > 0.4) for p in dense_ZxHxW]
        small = [cv2.resize(p, (side, side), interpolation=cv2.INTER_AREA) for p in planes]
        self.dense_ZxHxW = np.stack(small)

    def project(self, rng: np.random.Generator, *, side: bool) -> np.ndarray:
        """Makes a film, uint8 [H, W], bright where dense, from the front or from either side."""
        ratios_3 = np.array(self.voxels_ZxHxW.shape) / np.array(self.dense_ZxHxW.shape)
        down, deep, wide = self.spacing * ratios_3
        dense_ZxHxW = self.dense_ZxHxW
        angle = rng.uniform(-12, 12)
        height, width = dense_ZxHxW.shape[1:]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        axis, step, other = (2, wide, deep) if side else (1, deep, wide)
        lines = np.stack(
            [cv2.warpAffine(p, turn, (width, height)).sum(axis - 1) for p in dense_ZxHxW]
        )
        lines = lines * step * _WATER * rng.uniform(0.6, 1.1)
        columns = np.flatnonzero(lines.max(0) > 0.5)
        lines = lines[:, columns[0] : columns[-1] + 1]
        if side and rng.random() < 0.5:
            lines = lines[:, ::-1]
        crop = rng.uniform(0, (0.25, 0.25, 0.15, 0.15))  # above, below, left, right
        rows, columns = lines.shape
        lines = lines[
            round(crop[0] * rows) : round((1 - crop[1]) * rows),
            round(crop[2] * columns) : round((1 - crop[3]) * columns),
        ]
        stretch = rng.uniform(0.9, 1.1)
        size = (round(lines.shape[1] * other * stretch), round(lines.shape[0] * down))
        lines = cv2.resize(lines, size, interpolation=cv2.INTER_LINEAR)
        low, high = np.quantile(lines, (rng.uniform(0.02, 0.2), rng.uniform(0.8, 0.98)))
        shown = 1 / (1 + np.exp(-4 * (lines - (low + high) / 2) / (high - low)))
        film = to_uint8((shown - shown.min()) / max(float(np.ptp(shown)), 1e-3))
        return cv2.resize(film, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    def slice(self, rng: np.random.Generator, axis: int) -> np.ndarray:
        """Cuts an axial (axis 0), coronal (1) or sagittal slice (2) with its table: uint8 [H, W].

        It is seen in a window, now and then as a negative, and an axial one in a smaller field of
        view, as scanners reconstruct a chest.
        """
        count = self.voxels_ZxHxW.shape[axis]
        edge = 0 if axis == 0 else 0.25
        index = int(rng.uniform(edge, 1 - edge) * count)
        plane: np.ndarray = np.take(self.voxels_ZxHxW, index, axis)
        low, high = _WINDOWS[int(rng.integers(len(_WINDOWS)))]
        grey = to_uint8(np.asarray((plane - low) / (high - low)))
        if rng.random() < 0.1:
            grey = 255 - grey
        if axis == 0:
            grey = mild(_zoom(grey, rng), rng)
        return cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _zoom(grey_HxW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cuts a box of at least half the sides near the middle; half of the boxes have a round rim."""
    height, width = grey_HxW.shape
    share = rng.uniform(0.5, 1.0)
    rows, columns = round(share * height), round(share * width * rng.uniform(0.9, 1.0))
    top = round((height - rows) * rng.uniform(0.3, 0.7))
    left = round((width - columns) * rng.uniform(0.3, 0.7))
    cut_hxw = grey_HxW[top : top + rows, left : left + columns].copy()
    if rng.random() < 0.5:
        down, across = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
        cut_hxw[down**2 + across**2 > 1] = cut_hxw.min()
    return cut_hxw


def _largest(mask_HxW: np.ndarray) -> np.ndarray:
    """Keeps a mask's largest piece, and what lies inside of it."""
    count, index, stats, _ = cv2.connectedComponentsWithStats(mask_HxW.astype(np.uint8))
    if count < 2:
        return mask_HxW
    piece = (index == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(piece, outlines, -1, 1, -1)
    return piece > 0
