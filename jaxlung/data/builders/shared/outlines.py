"""Masks from outlines and run lengths: COCO's polygons and counts, CheXmask's 1-based runs."""

import re
from typing import Any

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.viewers.drawing import fill_polygon


def coco_mask(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    """Draws a COCO segmentation, polygons or counts of column-major runs, as bool [H, W].

    Raises:
        InputError: it is anything else, such as compressed counts.
    """
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list):
        if list(segmentation.get("size", shape)) != list(shape):
            raise InputError(f"a COCO mask is of {segmentation['size']}, its image of {shape}")
        counts = segmentation["counts"]  # alternating, background first
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        if flat.size != shape[0] * shape[1]:
            raise InputError(f"a COCO mask's counts give {flat.size} pixels, not {shape}")
        return flat.reshape(shape, order="F")
    if not isinstance(segmentation, list):
        raise InputError("a COCO segmentation is neither polygons nor a list of counts")
    mask_HxW = np.zeros(shape, bool)
    for polygon in segmentation:
        mask_HxW |= fill_polygon(np.asarray(polygon, float).reshape(-1, 2), shape)
    return mask_HxW


def decode_runs(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Decodes "start length start length ..." to bool [H, W]: row-major, the first pixel is 1.

    Raises:
        InputError: the text holds no pairs of numbers, or a run leaves the image.

    Example:
        >>> decode_runs("1 1 4 3", (2, 4)).astype(int).tolist()
        [[1, 0, 0, 1], [1, 1, 0, 0]]
    """
    try:
        numbers = np.array(text.split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError("run lengths hold something that is no whole number") from error
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    size = shape[0] * shape[1]
    if len(starts) != len(lengths) or not len(starts):
        raise InputError(f"run lengths are {len(numbers)} numbers; expected pairs")
    if (starts < 0).any() or (lengths < 1).any() or (starts + lengths > size).any():
        raise InputError(f"run lengths leave the {shape[0]}x{shape[1]} pixels of the image")
    steps = np.zeros(size + 1, np.int64)
    np.add.at(steps, starts, 1)
    np.add.at(steps, starts + lengths, -1)
    return (np.cumsum(steps[:-1]) > 0).reshape(shape)


def parse_landmarks(text: str) -> np.ndarray:
    """Parses numbers with commas, or a JSON list of pairs, to int32 [N, 2] of x and y.

    Raises:
        InputError: the text is something else.
    """
    try:
        numbers = [float(word) for word in re.split(r"[\[\],\s]+", text) if word]
        return np.array(numbers).reshape(-1, 2).astype(np.int32)
    except ValueError as error:
        raise InputError(f"landmarks are not pairs of numbers ({error})") from error
