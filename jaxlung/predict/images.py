"""What `Predictor.predict` takes: one image or several, with a channel axis or without."""

import os
from typing import Any

import numpy as np

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
