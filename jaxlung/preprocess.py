"""From an image of any size to the network's square canvas, and exactly back.

Training, evaluation and prediction all come through `to_canvas` on the host and `normalize` on
the device, so that a file gives the network the same numbers wherever it is read.

Coordinates are continuous with pixel (i, j) covering [i, i+1) x [j, j+1); every resize maps the
edges of one grid to the edges of the other (half-pixel centres), so nothing shifts.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.grey import to_grey8

Array = Any  # numpy.ndarray or jax.Array


class Geometry(NamedTuple):
    """Where the original image lies on the canvas. All in pixels."""

    height: int  # of the original
    width: int
    size: int  # of the canvas, S
    top: int  # the box on the canvas that holds the resized image
    left: int
    box_height: int
    box_width: int


def canvas_geometry(height: int, width: int, size: int, fit: str = "letterbox") -> Geometry:
    """The box that an image of height x width fills on a size x size canvas.

    fit "letterbox" keeps the aspect ratio (to the nearest canvas pixel) and centres the image;
    "stretch" fills the canvas.
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
        image: [H, W], [H, W, 1] or [H, W, 3 or 4] (RGB, RGBA). uint8 is taken as it is; any other
            dtype is scaled from its own minimum and maximum to 0..255, since 10- to 14-bit films
            in 16-bit files use an unknown part of the range.
        mask: [H, W], non-zero is lung; or None.
        size: S, the canvas's side.
        fit: "letterbox" or "stretch".

    Returns:
        image uint8 [S, S]; mask uint8 [S, S] of 0 and 1, or None; the geometry for `from_canvas`.

    Raises:
        InputError: an empty image, a shape that is no image, values that are not finite, or a
            mask of another size.
    """
    grey_HxW = to_grey8(image)
    height, width = grey_HxW.shape
    geometry = canvas_geometry(height, width, size, fit)
    canvas_SxS = _paste(_resize(grey_HxW, geometry.box_height, geometry.box_width), geometry)
    if mask is None:
        return canvas_SxS, None, geometry
    if mask.shape != (height, width):
        raise InputError(
            f"mask is {_by(mask.shape)} but its image is {_by(grey_HxW.shape)} (height x width)"
        )
    coverage_HxW = (np.asarray(mask) != 0).astype(np.float32)
    box = _resize(coverage_HxW, geometry.box_height, geometry.box_width) >= 0.5
    return canvas_SxS, _paste(box.astype(np.uint8), geometry), geometry


def from_canvas(plane_SxS: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Brings a plane of the canvas, such as lung probabilities, back to the original grid.

    Args:
        plane_SxS: float [S, S].
        geometry: as `to_canvas` returned it.

    Returns:
        float32 [height, width], interpolated linearly. Threshold it afterwards, not before: that
        keeps edges smooth where the original is larger than the canvas.
    """
    if plane_SxS.shape != (geometry.size, geometry.size):
        raise InputError(f"plane is {_by(plane_SxS.shape)}, the canvas is {geometry.size} wide")
    rows = slice(geometry.top, geometry.top + geometry.box_height)
    columns = slice(geometry.left, geometry.left + geometry.box_width)
    box = np.ascontiguousarray(plane_SxS[rows, columns], np.float32)
    # Linear weights may sum to a rounding more than 1: stay within the plane's own range.
    plane_HxW = _resize(box, geometry.height, geometry.width)
    return np.clip(plane_HxW, box.min(), box.max(), out=plane_HxW)


def normalize(canvas_BxSxS: Array) -> Array:
    """uint8 [B, S, S] to the network's input: float32 [B, S, S, 1] in [0, 1].

    Takes JAX arrays, under jit too, or numpy arrays.
    """
    return canvas_BxSxS.astype("float32")[..., None] / np.float32(255)


def preprocess_image(
    image: np.ndarray, mask: np.ndarray | None = None, size: int = 256, *, fit: str = "letterbox"
) -> tuple[np.ndarray, np.ndarray | None, Geometry]:
    """`to_canvas` and `normalize` in one call, in numpy, for one image.

    Returns:
        image float32 [size, size] in [0, 1]; mask float32 [size, size] of 0 and 1, or None; the
        geometry with which `from_canvas` brings a prediction back to the image's own grid.

    Raises: as `to_canvas`.
    """
    canvas_SxS, mask_SxS, geometry = to_canvas(image, mask, size=size, fit=fit)
    image_SxS = normalize(canvas_SxS[None])[0, ..., 0]
    return image_SxS, None if mask_SxS is None else mask_SxS.astype(np.float32), geometry


def _resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area average along an axis that shrinks, linear interpolation along one that grows."""
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
    rows = slice(geometry.top, geometry.top + geometry.box_height)
    columns = slice(geometry.left, geometry.left + geometry.box_width)
    canvas_SxS[rows, columns] = box
    return canvas_SxS


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
