"""Reads masks from files, for training and for scoring."""

import os

import cv2
import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.film import Film
from jaxlung.io.images import read_film

BORDER = 0.5  # a mask that marks more of the picture's frame than this marks what is no lung
_FULL = 0.9  # of the highest value: JPEG's noise in a mask that marks everything
# A second label among soft edges: this share of what is marked, within so many of 255 levels, away
# from both ends. An edge's values are spread, so that a tenth of them lies as near at most.
_LABEL, _NEAR, _INNER = 0.08, 4, (13, 243)
# A piece of more than this share of what is marked is no crumb of resampling or JPEG; it is lung
# for certain where one value is above this one of 255.
_PIECE, _CERTAIN = 0.01, 153


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a mask, of labels or with soft edges.

    Labels (up to four distinct values, or none above 15) mean that all but 0 is lung: 0/1, 0/255,
    right and left as 1 and 2. More values are the soft edges of resampling, and JPEG always has
    them: there lung is the upper half of the range.

    Returns:
        bool [H, W], True is lung.

    Raises: as `read_image`; also for a mask that is drawn otherwise: with mostly values in between,
        in its alpha channel, in colour on a light background, in two greys with soft edges,
        without a background of 0, or without a value above it.

    Example:
        >>> import pathlib, tempfile
        >>> from jaxlung.io.images import write_png
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "mask.png"
        >>> write_png(path, np.array([[0, 1], [2, 0]], np.uint8))
        >>> read_mask(path).tolist()
        [[False, True], [True, False]]
    """
    return to_lung(read_film(path), path)


def to_lung(film: Film, path: str | os.PathLike[str]) -> np.ndarray:
    """Makes bool [H, W] of a mask's film; `read_mask` has the rules. Errors name the path."""
    _refuse_alpha(film, path)
    pixels, is_coloured = film.image, False
    if pixels.ndim == 3:
        is_coloured = bool((pixels[..., :3] != pixels[..., :1]).any())
        pixels = pixels[..., :3].max(axis=-1)
    lung = _cut(pixels, path, lossy=film.lossy)
    if is_coloured and measure_frame(lung) > BORDER:
        raise InputError(
            f"{path}: is drawn in colour on a background that is not black; write a mask of 0 and "
            f"255, 255 for what it marks"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if lung.all() and low < _FULL * high:
        raise InputError(
            f"{path}: has no background of 0 (its values go from {low:g} to {high:g}); write a "
            f"mask of 0 and 255, 255 for what it marks"
        )
    return lung


def _cut(pixels: np.ndarray, path: str | os.PathLike[str], *, lossy: bool) -> np.ndarray:
    """Cuts grey [H, W] into background and lung: labels at 0, soft edges at half their range."""
    highest = float(pixels.max())
    if highest <= 0 and pixels.min() < 0:
        raise InputError(
            f"{path}: has no value above 0 (they go from {pixels.min():g} to {highest:g}); write a "
            f"mask of 0 and 255, 255 for what it marks"
        )
    is_integer = pixels.dtype.kind != "f"
    if not lossy and ((is_integer and highest <= 15) or len(np.unique(pixels)) <= 4):
        return pixels > 0
    marked = pixels[pixels > 0]
    between = marked[marked < highest]
    if len(between) > 0.5 * len(marked):
        raise InputError(
            f"{path}: is neither labels nor an outline with soft edges (most values lie between 0 "
            f"and the highest, {highest:g}); write a mask of 0 and 255"
        )
    if highest == 0:
        return pixels > 0
    lesser = _find_label(between * (255 / highest), len(marked)) or _find_piece(
        pixels * (255 / highest), len(marked)
    )
    if lesser:
        raise InputError(
            f"{path}: holds two greys with soft edges (about {lesser * highest / 255:.0f} and "
            f"{highest:g}), of which one would be lost; write a mask of 0 and 255"
        )
    return pixels > highest / 2


def _find_label(between: np.ndarray, marked: int) -> int:
    """Finds a second label of the values of 255, where an edge passes through all; 0 if none."""
    counts = np.bincount(np.rint(between).astype(np.int64), minlength=256)
    near = np.convolve(counts, np.ones(2 * _NEAR + 1, int), "same")
    near[: _INNER[0]] = near[_INNER[1] :] = 0
    return int(near.argmax()) if near.max() > _LABEL * marked else 0


def _find_piece(scaled_HxW: np.ndarray, marked: int) -> float:
    """Finds the highest of 255 of a piece that a cut at half would lose or halve; 0 if none."""
    _, pieces_HxW = cv2.connectedComponents((scaled_HxW > _INNER[0]).astype(np.uint8))
    areas = np.bincount(pieces_HxW.ravel())
    areas[0] = areas[np.unique(pieces_HxW[scaled_HxW > _CERTAIN])] = 0
    if areas.max() <= _PIECE * marked:
        return 0
    return float(scaled_HxW[pieces_HxW == areas.argmax()].max())


def measure_frame(mask_HxW: np.ndarray) -> float:
    """Returns the share of a mask's outermost pixels that it marks."""
    frame = (mask_HxW[0], mask_HxW[-1], mask_HxW[:, 0], mask_HxW[:, -1])
    return float(np.concatenate(frame).mean())


def _refuse_alpha(film: Film, path: str | os.PathLike[str]) -> None:
    if film.in_alpha:
        raise InputError(f"{path}: is drawn in its alpha channel; write a mask of 0 and 255")


def read_labels(path: str | os.PathLike[str], *, sides: bool = False) -> np.ndarray:
    """Reads a mask that is to be scored, strictly, since a guess would change the score.

    Args:
        sides: the mask holds labels, 1 for the patient's right lung and 2 for the left one.

    Returns:
        uint8 [H, W] of 0 and 1; with sides of 0, 1 and 2.

    Raises: as `read_image`; also for a mask of more than two values, or of two without 0.
    """
    film = read_film(path)
    _refuse_alpha(film, path)
    pixels = film.image
    if pixels.ndim == 3:
        if (pixels[..., :3] != pixels[..., :1]).any():
            raise InputError(f"{path}: is a colour image; write a mask of 0 and 255, one channel")
        pixels = pixels[..., 0]
    values = np.unique(pixels)
    if sides:
        if not np.isin(values, (0, 1, 2)).all():
            raise InputError(
                f"{path}: holds {_listed(values)}; with --sides a mask holds 0, 1 (the patient's "
                f"right lung) and 2 (left) alone"
            )
        return pixels.astype(np.uint8)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0) or values[0] < 0:
        remedy = (
            (
                "; for 1 right lung and 2 left lung pass --sides, if true masks have them too; "
                "else predict without --sides"
            )
            if values.max() == 2
            else ""
        )
        raise InputError(
            f"{path}: holds {_listed(values)}; a mask has two values, 0 and one other{remedy}"
        )
    return (pixels > 0).astype(np.uint8)


def _listed(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:4])
    return f"the values {shown}{', ...' if len(values) > 4 else ''} ({len(values)} in all)"
