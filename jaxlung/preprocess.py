"""From an image of any size to the network's square canvas, and exactly back.

Training, evaluation and prediction all use `to_canvas` on the host and `normalize` on the device,
so a file gives the network the same numbers wherever it is read.

Coordinates are continuous: pixel (i, j) covers [i, i+1) x [j, j+1). Every resize maps the edges of
one grid to the edges of the other (half-pixel centres), so nothing shifts.
"""

from typing import NamedTuple, TypeVar

import cv2
import jax
import numpy as np

from jaxlung.errors import InputError, format_shape
from jaxlung.io.grey import to_grey8

Array = TypeVar("Array", np.ndarray, jax.Array)


class Geometry(NamedTuple):
    """Where the original image lies on the canvas, in pixels."""

    height: int  # of the original image
    width: int
    size: int  # the canvas's side, S
    top: int  # of the box on the canvas that holds the resized image
    left: int
    box_height: int
    box_width: int

    def box_of(self, plane_SxS: np.ndarray) -> np.ndarray:
        """Returns the part of the canvas that the image fills."""
        rows = slice(self.top, self.top + self.box_height)
        return plane_SxS[rows, self.left : self.left + self.box_width]


def canvas_geometry(height: int, width: int, size: int, fit: str = "letterbox") -> Geometry:
    """Computes the box that an image fills on a square canvas.

    Args:
        height, width: the image's sides, pixels.
        size: the canvas's side, pixels.
        fit: "letterbox" keeps the aspect ratio (to the nearest canvas pixel) and centres the
            image; "stretch" fills the canvas.

    Raises:
        InputError: a size below 1, or another fit.

    Example:
        >>> box = canvas_geometry(100, 200, size=64)
        >>> box.top, box.left, box.box_height, box.box_width
        (16, 0, 32, 64)
    """
    if not isinstance(size, int | np.integer) or size < 1:
        raise InputError(f"size must be a whole number of pixels, at least 1, got {size!r}")
    if fit == "stretch":
        return Geometry(height, width, size, 0, 0, size, size)
    if fit != "letterbox":
        raise InputError(f"fit must be 'letterbox' or 'stretch', got {fit!r}")
    scale = size / max(height, width)
    box_height = min(size, max(1, round(height * scale)))
    box_width = min(size, max(1, round(width * scale)))
    top, left = (size - box_height) // 2, (size - box_width) // 2
    return Geometry(height, width, size, top, left, box_height, box_width)


def to_canvas(
    image: np.ndarray, mask: np.ndarray | None = None, *, size: int = 256, fit: str = "letterbox"
) -> tuple[np.ndarray, np.ndarray | None, Geometry]:
    """Places an image, and its mask by the same mapping, on the canvas.

    Args:
        image: [H, W], [H, W, 1] or [H, W, 3 or 4] (RGB, RGBA). uint8 is taken as it is. Any other
            dtype is scaled from its own minimum and maximum to 0..255, since 10- to 14-bit films
            in 16-bit files use an unknown part of the range.
        mask: [H, W] of any dtype, non-zero is lung; or None.
        size: S, the canvas's side, pixels.
        fit: "letterbox" or "stretch", as in `canvas_geometry`.

    Returns:
        image uint8 [S, S]; mask uint8 [S, S], or None; the geometry for `from_canvas`. The mask
        holds the share of each pixel that lung covers, 0 to 255; `is_lung` thresholds it.

    Raises:
        InputError: an empty image, another shape, values that are not finite, or a mask whose
            size differs from its image's.

    Example:
        >>> film = np.full((100, 200), 90, np.uint8)
        >>> canvas, mask, geometry = to_canvas(film, film > 0, size=64)
        >>> canvas.shape, canvas.dtype, int(is_lung(mask).sum())
        ((64, 64), dtype('uint8'), 2048)
    """
    grey_HxW = to_grey8(image)
    height, width = grey_HxW.shape
    geometry = canvas_geometry(height, width, size, fit)
    canvas_SxS = _paste(_resize(grey_HxW, geometry.box_height, geometry.box_width), geometry)
    return canvas_SxS, None if mask is None else mask_to_canvas(mask, geometry), geometry


def mask_to_canvas(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Places a mask on the canvas of its image: `to_canvas` for further masks.

    Args:
        mask: [height, width] of any dtype, non-zero is marked.
        geometry: of the image, as `to_canvas` returns it.

    Returns:
        uint8 [S, S], the share of each pixel that the mask covers, 0 to 255.

    Raises:
        InputError: the mask has another size than its image.

    Example:
        >>> geometry = canvas_geometry(100, 200, size=64)
        >>> int(is_lung(mask_to_canvas(np.ones((100, 200), bool), geometry)).sum())
        2048
    """
    if mask.shape != (geometry.height, geometry.width):
        sides, image_sides = format_shape(mask.shape), f"{geometry.height}x{geometry.width}"
        raise InputError(f"mask is {sides} but its image is {image_sides} (height x width)")
    coverage_HxW = np.where(np.asarray(mask) != 0, np.float32(255), np.float32(0))
    box = np.rint(_resize(coverage_HxW, geometry.box_height, geometry.box_width))
    return _paste(box.astype(np.uint8), geometry)


def is_lung(coverage: Array) -> Array:
    """Says which pixels of the canvas are lung: those that lung covers by half or more.

    Args:
        coverage: uint8 of any shape, 0 to 255, as `to_canvas` returns it; of JAX or of numpy.

    Returns:
        bool of the same shape and library.

    Example:
        >>> is_lung(np.array([0, 127, 128, 255], np.uint8)).tolist()
        [False, False, True, True]
    """
    return coverage >= 128


def from_canvas(plane_SxS: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Brings a plane of the canvas, such as lung probabilities, back to the original grid.

    Args:
        plane_SxS: float [S, S].
        geometry: as `to_canvas` returned it.

    Returns:
        float32 [height, width], interpolated linearly, within the plane's own range. Threshold it
        afterwards, not before: that keeps edges smooth where the original is larger than the
        canvas.

    Raises:
        InputError: the plane is of another size than the canvas.

    Example:
        >>> geometry = canvas_geometry(100, 200, size=64)
        >>> from_canvas(np.ones((64, 64)), geometry).shape
        (100, 200)
    """
    if plane_SxS.shape != (geometry.size, geometry.size):
        sides = format_shape(plane_SxS.shape)
        raise InputError(f"plane is {sides}, the canvas is {geometry.size} wide")
    box = np.ascontiguousarray(geometry.box_of(plane_SxS), np.float32)
    # Linear weights may sum to slightly more than 1, by rounding.
    plane_HxW = _resize(box, geometry.height, geometry.width)
    return np.clip(plane_HxW, box.min(), box.max(), out=plane_HxW)


def normalize(canvas_BxSxS: Array) -> Array:
    """Scales canvases to the network's input.

    Args:
        canvas_BxSxS: uint8 [B, S, S], of JAX (also under jit) or of numpy.

    Returns:
        float32 [B, S, S, 1] in [0, 1], of the same library.

    Example:
        >>> image = normalize(np.full((2, 16, 16), 51, np.uint8))
        >>> image.shape, image.dtype, round(float(image.max()), 3)
        ((2, 16, 16, 1), dtype('float32'), 0.2)
    """
    return to_share(canvas_BxSxS)[..., None]


def to_share(coverage: Array) -> Array:
    """Scales a mask's coverage, uint8 of 0 to 255, to the share of each pixel, float32 in [0, 1].

    Example:
        >>> to_share(np.array([0, 255], np.uint8)).tolist()
        [0.0, 1.0]
    """
    return coverage.astype("float32") / np.float32(255)


def preprocess_image(
    image: np.ndarray, mask: np.ndarray | None = None, size: int = 256, *, fit: str = "letterbox"
) -> tuple[np.ndarray, np.ndarray | None]:
    """Prepares one image, and its mask, for the network: `to_canvas`, then `normalize`.

    To bring a prediction back to the image's own grid, call `to_canvas`, which returns the
    geometry too, or `Predictor.predict`, which does all of it.

    Args:
        image, mask, size, fit: as in `to_canvas`.

    Returns:
        image float32 [size, size] in [0, 1]; mask float32 [size, size], or None: the share of each
        pixel that lung covers, in [0, 1].

    Raises:
        InputError: as `to_canvas`.

    Example:
        >>> film = np.full((100, 200), 255, np.uint8)
        >>> image, mask = preprocess_image(film, film > 0)
        >>> image.shape, image.dtype, float(image.max()), float(mask.max())
        ((256, 256), dtype('float32'), 1.0, 1.0)
    """
    canvas_SxS, mask_SxS, _ = to_canvas(image, mask, size=size, fit=fit)
    image_SxS = normalize(canvas_SxS[None])[0, ..., 0]
    return image_SxS, None if mask_SxS is None else normalize(mask_SxS[None])[0, ..., 0]


def _resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages areas along an axis that shrinks, interpolates linearly along one that grows."""
    shrinks_y, shrinks_x = height < plane.shape[0], width < plane.shape[1]
    if shrinks_y == shrinks_x:
        method = cv2.INTER_AREA if shrinks_y else cv2.INTER_LINEAR
        return cv2.resize(plane, (width, height), interpolation=method)
    # OpenCV's area filter falls back to aliasing linear sampling unless both axes shrink.
    if shrinks_y:
        plane = cv2.resize(plane, (plane.shape[1], height), interpolation=cv2.INTER_AREA)
    else:
        plane = cv2.resize(plane, (width, plane.shape[0]), interpolation=cv2.INTER_AREA)
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)


def _paste(box: np.ndarray, geometry: Geometry) -> np.ndarray:
    canvas_SxS = np.zeros((geometry.size, geometry.size), box.dtype)
    geometry.box_of(canvas_SxS)[...] = box
    return canvas_SxS
