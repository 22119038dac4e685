"""Any image array to 8-bit grey."""

import numpy as np

from jaxlung.errors import InputError


def to_grey8(image: np.ndarray) -> np.ndarray:
    """Any image array to grey uint8 [H, W]; see `to_canvas` for the rules."""
    image = np.asarray(image)
    if image.dtype == bool or image.dtype.kind not in "uif":
        raise InputError(f"image has dtype {image.dtype}; expected integers or floats")
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        colour = image[..., :3]  # alpha says how to draw over a background: not part of the film
        if (colour == colour[..., :1]).all():
            image = colour[..., 0]  # grey stored as RGB: keep it exactly
        else:
            weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
            is_8_bit = colour.dtype == np.uint8
            image = np.empty(colour.shape[:2], np.uint8 if is_8_bit else np.float64)
            for rows in row_blocks(image):
                luma = colour[rows] @ weights
                image[rows] = np.rint(luma) if is_8_bit else luma
    elif image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim != 2 or 0 in image.shape:
        raise InputError(f"image has shape {image.shape}; expected HxW, HxWx1, HxWx3 or HxWx4")
    if image.dtype == np.uint8:
        return image
    with np.errstate(over="ignore"):  # floats of more than 64 bits
        low, high = (float(end) for end in (image.min(), image.max()))
    if not np.isfinite((low, high)).all():  # NaN is the least and the most of whatever holds it
        raise InputError("image holds NaN or infinite values; replace them first")
    grey_HxW = np.zeros(image.shape, np.uint8)
    for rows in row_blocks(grey_HxW) if high > low else ():
        values = image[rows].astype(np.float64)
        # Halved before subtracting, so that no finite range overflows.
        grey_HxW[rows] = np.rint((values / 2 - low / 2) / (high / 2 - low / 2) * 255.0)
    return grey_HxW


def row_blocks(plane_HxW: np.ndarray) -> list[slice]:
    """Rows, some at a time: what is made of a large image on the way stays small."""
    height, width = plane_HxW.shape
    step = max(1, 2**20 // width)
    return [slice(start, start + step) for start in range(0, height, step)]
