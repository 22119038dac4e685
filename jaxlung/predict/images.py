"""What `Predictor.predict` takes: one image or several, with a channel axis or without."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.config import Config
from jaxlung.errors import InputError
from jaxlung.io.ct.hounsfield import apply_window
from jaxlung.io.film import XRAY, Film, check_xray
from jaxlung.io.images import read_film
from jaxlung.io.volumes import is_volume

ImageLike = np.ndarray | str | os.PathLike[str]

_NARROWEST = 16  # pixels: the least side of the images in an array [B, H, W]


def is_several(image: Any) -> bool:
    """Tells whether it is a batch: see `Predictor.predict_proba`."""
    if isinstance(image, list | tuple):
        return all(isinstance(one, str | os.PathLike) or hasattr(one, "ndim") for one in image)
    shape = getattr(image, "shape", ())
    # An image of five channels is a mistake, and no pile of narrow images.
    return len(shape) == 4 or (len(shape) == 3 and min(shape[1:]) >= _NARROWEST)


def like_image(image: Any, plane_HxW: np.ndarray) -> np.ndarray:
    """Adds a channel axis where the image is an array that has one."""
    return plane_HxW[..., None] if getattr(image, "ndim", 2) == 3 else plane_HxW


def read_image(image: ImageLike, config: Config) -> Film:
    """Reads an X-ray, or for a model of CT an axial slice, from a file or an array.

    Slices in Hounsfield units are seen in the model's window. Pictures of slices, uint8 or files,
    stay in the window in which they come.

    Raises:
        InputError: what cannot be read, or is of another modality than the model.
    """
    is_ct = config.modality == "ct"
    if isinstance(image, str | os.PathLike):
        if is_ct and is_volume(Path(image)):
            raise InputError(
                f"{image}: is a volume; give it to jaxlung.predict.volumes.predict_volume"
            )
        film = read_film(image)
        if not is_ct:
            check_xray(film.modality, image)
        elif film.modality in XRAY:
            raise InputError(f"{image}: is an X-ray, but the model was trained on CT")
        return film
    pixels = np.asarray(image)
    if not is_ct or pixels.dtype == np.uint8:
        return Film(pixels)
    if not np.isfinite(pixels).all():
        raise InputError("the slice holds NaN or infinite values; replace them first")
    window = config.data.window_low, config.data.window_high
    return Film(apply_window(pixels, *window), modality="CT")
