"""Reads masks from files, for training and for scoring."""

import os

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.film import Film
from jaxlung.io.images import read_film, read_image


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a mask, of labels or with soft edges.

    Labels (up to four distinct values, or none above 15) mean that all but 0 is lung: 0/1, 0/255,
    right and left as 1 and 2. More values are the soft edges of resampling, and JPEG always has
    them: there lung is the upper half of the range.

    Returns:
        bool [H, W], True is lung.

    Raises: as `read_image`; also for a mask with mostly values in between.

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
    pixels = film.image
    if pixels.ndim == 3:
        pixels = pixels[..., :3].max(axis=-1)
    highest = float(pixels.max())
    is_integer = pixels.dtype.kind != "f"
    if not film.lossy and ((is_integer and highest <= 15) or len(np.unique(pixels)) <= 4):
        return pixels > 0
    if ((pixels > 0) & (pixels < highest)).sum() > 0.5 * (pixels > 0).sum():
        raise InputError(
            f"{path}: is neither labels nor an outline with soft edges (most values lie between 0 "
            f"and the highest, {highest:g}); write a mask of 0 and 255"
        )
    return pixels > highest / 2


def read_labels(path: str | os.PathLike[str], *, sides: bool = False) -> np.ndarray:
    """Reads a mask that is to be scored, strictly, since a guess would change the score.

    Args:
        sides: the mask holds labels, 1 for the patient's right lung and 2 for the left one.

    Returns:
        uint8 [H, W] of 0 and 1; with sides of 0, 1 and 2.

    Raises: as `read_image`; also for a mask of more than two values, or of two without 0.
    """
    pixels = read_image(path)
    if pixels.ndim == 3:
        blank = (pixels[..., :3] == pixels[:1, :1, :3]).all()
        if blank and pixels.shape[-1] == 4 and len(np.unique(pixels[..., 3])) > 1:
            raise InputError(f"{path}: is drawn in its alpha channel; write a mask of 0 and 255")
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
