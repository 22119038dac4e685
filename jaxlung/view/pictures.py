"""Pixels of films and scans: for the page, and as files that training reads."""

import gzip
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.grey import drop_colour, find_range, row_blocks, to_grey8
from jaxlung.io.volumes import Grid, make_nifti

THUMBNAIL = 160  # pixels, the longer side
HU_SHIFT = 1024  # added to Hounsfield units, so that they are sent without a sign
LUNG_WINDOW = (-1350, 150)  # Hounsfield units
_MOST = 384 * 2**20  # bytes kept in memory


class Shown(NamedTuple):
    """A film or a slice as the page gets it."""

    pixels_HxW: np.ndarray  # uint8 or uint16
    low: float  # what the page shows as black
    high: float  # and as white

    @property
    def bits(self) -> int:
        return 8 * self.pixels_HxW.dtype.itemsize


def show_film(image: np.ndarray) -> Shown:
    """Makes 8 or 16 bits of a film's pixels, which `to_grey8` turns into the same grey levels.

    Args:
        image: as `io.images.read_image` returns it.
    """
    if image.dtype == np.uint8:
        return Shown(to_grey8(image), 0, 255)
    grey = drop_colour(np.asarray(image), np.float64)
    grey = grey[..., 0] if grey.ndim == 3 else grey
    low, high = find_range(grey)
    if grey.dtype.kind in "ui" and grey.min() >= 0 and grey.max() < 2**16:
        return Shown(grey.astype(np.uint16), low, high)
    # Fractions: a display's 0 to 1, or the float values of a research format.
    scaled_HxW = np.zeros(grey.shape, np.uint16)
    for rows in row_blocks(scaled_HxW) if high > low else ():
        values = grey[rows].astype(np.float64).clip(low, high)
        scaled_HxW[rows] = np.rint((values / 2 - low / 2) / (high / 2 - low / 2) * 65535.0)
    return Shown(scaled_HxW, 0, 65535)


def show_slice(hu_HxW: np.ndarray) -> Shown:
    """Makes 16 bits of a slice in Hounsfield units: HU + 1024, cut to what 16 bits hold."""
    values = hu_HxW.astype(np.int32) + HU_SHIFT
    low, high = (end + HU_SHIFT for end in LUNG_WINDOW)
    return Shown(np.clip(values, 0, 2**16 - 1).astype(np.uint16), low, high)


def draw_thumbnail(shown: Shown, *, inverted: bool = False) -> bytes:
    """Draws a small picture: a JPEG whose longer side is `THUMBNAIL`, at most."""
    height, width = shown.pixels_HxW.shape
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(shown.pixels_HxW, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = np.clip((small - shown.low) * (255 / max(shown.high - shown.low, 1e-9)), 0, 255)
    grey = np.rint(255 - grey if inverted else grey).astype(np.uint8)
    return _encode(".jpg", grey, cv2.IMWRITE_JPEG_QUALITY, 82)


def encode_film(shown: Shown, *, inverted: bool) -> bytes:
    """Encodes a film for training as PNG: pixels alone, nothing of a header. Negatives turn over.

    Training does not look for negatives, as prediction does.
    """
    pixels = shown.pixels_HxW
    if inverted:
        pixels = np.iinfo(pixels.dtype).max - pixels
    return _encode(".png", pixels, cv2.IMWRITE_PNG_COMPRESSION, 2)


def encode_mask(mask: np.ndarray, grid: Grid | None) -> bytes:
    """Encodes a mask: bool [H, W] as PNG of 0 and 255, [Z, H, W] as NIfTI of 0 and 1."""
    if grid is None:
        return _encode(".png", mask.astype(np.uint8) * 255, cv2.IMWRITE_PNG_COMPRESSION, 1)
    return encode_volume(mask, grid)


def encode_volume(voxels_ZxHxW: np.ndarray, grid: Grid) -> bytes:
    """Encodes voxels, a mask or int16 Hounsfield units, as .nii.gz with the grid's geometry."""
    return gzip.compress(make_nifti(voxels_ZxHxW, grid).to_bytes(), 1, mtime=0)


def _encode(suffix: str, image: np.ndarray, *parameters: int) -> bytes:
    done, data = cv2.imencode(suffix, image, parameters)
    if not done:
        raise InputError(f"a picture cannot be written as {suffix}")
    return data.tobytes()


class Cache:
    """Keeps what was made last, by key, up to a number of bytes; the newest always stays."""

    def __init__(self, most: int = _MOST):
        self._most = most
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Returns a value, made at most once even if several threads ask for it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key][0]
            value = make()
            self.put(key, value)
            with self._lock:
                self._making.pop(key, None)
            return value

    def put(self, key: Hashable, value: Any) -> None:
        """Keeps a value in the place of an earlier one."""
        with self._lock:
            self._values.pop(key, None)
            self._values[key] = value, _count_bytes(value)
            while len(self._values) > 1 and sum(n for _, n in self._values.values()) > self._most:
                self._values.popitem(last=False)

    def drop(self, is_dropped: Callable[[Any], bool]) -> None:
        """Forgets the values of some keys."""
        with self._lock:
            for key in [key for key in self._values if is_dropped(key)]:
                del self._values[key]


def _count_bytes(value: Any) -> int:
    arrays = value if isinstance(value, tuple) else (value,)
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
