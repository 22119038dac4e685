"""Any image array to grey."""

import numpy as np
from numpy.typing import DTypeLike

from jaxlung.errors import InputError

# Share of the values at either end that may be a marker or dead pixels. Large markers and plates
# with a name hold 2 to 4 %, the smaller lung of a child's film 5 % or more.
OUTLIERS = 0.05
_FEW = 0.005  # share of the values that are the soft edges of a marker, next to the film's end
_SAMPLE = 2**16  # values that tell the inner range
BLANK = 2.0  # grey levels of 255, of `measure_spread`: noise is more, a film some 150


def to_grey8(image: np.ndarray) -> np.ndarray:
    """Turns any image array into 8-bit grey.

    Args:
        image: [H, W], [H, W, 1] or [H, W, 3 or 4] (RGB, RGBA) of integers or floats. uint8 is taken
            as it is; any other dtype is scaled from its own minimum and maximum to 0..255, but for
            outliers (`find_range`).

    Returns:
        uint8 [H, W].

    Raises:
        InputError: another dtype or shape, no pixel, or values that are not finite.

    Example:
        >>> to_grey8(np.array([[0, 1000], [2000, 4000]], np.uint16)).tolist()
        [[0, 64], [128, 255]]
    """
    image = np.asarray(image)
    if image.dtype == bool or image.dtype.kind not in "uif":
        raise InputError(f"image has dtype {image.dtype}; expected integers or floats")
    image = drop_colour(image, np.uint8 if image.dtype == np.uint8 else np.float64)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim != 2 or 0 in image.shape:
        raise InputError(f"image has shape {image.shape}; expected HxW, HxWx1, HxWx3 or HxWx4")
    if image.dtype == np.uint8:
        return image
    with np.errstate(over="ignore"):  # floats of more than 64 bits
        low, high = (float(end) for end in (image.min(), image.max()))
    if not np.isfinite((low, high)).all():  # an array that holds NaN has it as its least and most
        raise InputError("image holds NaN or infinite values; replace them first")
    low, high = find_range(image)
    grey_HxW = np.zeros(image.shape, np.uint8)
    for rows in row_blocks(grey_HxW) if high > low else ():
        values = image[rows].astype(np.float64)
        np.clip(values, low, high, out=values)
        # Halved before subtracting, so that no finite range overflows.
        values /= 2
        values -= low / 2
        values /= high / 2 - low / 2
        values *= 255.0
        grey_HxW[rows] = np.rint(values, out=values)
    return grey_HxW


def find_range(image: np.ndarray) -> tuple[float, float]:
    """Finds the lowest and highest value to show: minimum and maximum, but for outliers.

    A marker burned in at 65535 beside a film of 12 bits, or a dead pixel, would squeeze the film
    into a few greys. Outliers are at most OUTLIERS of the values at either end, and lie behind a
    gap as wide as the film, or behind twice that width with few values, as the soft edges of a
    marker are. No tail of a film's own values leaves such a gap: a film whose ends lie no further
    out than its inner values are wide keeps its minimum and maximum exactly.

    Args:
        image: finite numbers, of any shape.

    Example:
        >>> film = np.arange(100, 4100, dtype=np.uint16)
        >>> find_range(film), find_range(np.append(film, [0, 65535]))
        ((100.0, 4099.0), (0.0, 4099.0))
    """
    values_N = image.reshape(-1)
    low, high = float(values_N.min()), float(values_N.max())
    # An odd step: columns of an image are mostly even in number.
    sample_M = values_N[:: len(values_N) // _SAMPLE | 1]
    count = int(OUTLIERS * len(sample_M))
    order_M = np.partition(sample_M, (count, len(sample_M) - 1 - count))
    inner_low, inner_high = float(order_M[count]), float(order_M[-1 - count])
    if not 0 < inner_high - inner_low < max(high - inner_high, inner_low - low):
        return low, high
    few = int(_FEW * len(values_N))
    below, below_counts = np.unique(values_N[values_N <= inner_low], return_counts=True)
    above, above_counts = np.unique(values_N[values_N >= inner_high], return_counts=True)
    below, below_counts = -below[::-1].astype(np.float64), below_counts[::-1]
    # First beside the inner values, then beside all that these leave on the other side.
    first_low = -_end_of_film(below, below_counts, -inner_high, few)
    first_high = _end_of_film(above, above_counts, inner_low, few)
    return (
        -_end_of_film(below, below_counts, -first_high, few),
        _end_of_film(above, above_counts, first_low, few),
    )


def _end_of_film(rising_N: np.ndarray, counts_N: np.ndarray, other: float, few: int) -> float:
    """Returns the last value of a film that begins at `other` and ends in the tail.

    Args:
        rising_N: the values of the tail, each once.
        counts_N: how many pixels have each.
        few: pixels that may lie behind the film's end.
    """
    rising_N = rising_N.astype(np.float64)
    with np.errstate(over="ignore"):
        ends_2xN = rising_N + np.multiply.outer((1, 2), rising_N - other)
    up_to_N = np.cumsum(counts_N)
    between_2xN = up_to_N[np.searchsorted(rising_N, ends_2xN, "right") - 1] - up_to_N
    is_beyond_2xN = ends_2xN < rising_N[-1]
    is_end_N = is_beyond_2xN[0] & (between_2xN[0] == 0)
    least = between_2xN[1][is_beyond_2xN[1]].min(initial=few + 1)
    if least <= few:  # the film's last values are few as well, and should not be lost
        is_end_N |= is_beyond_2xN[1] & (between_2xN[1] <= 2 * least)
    return float(rising_N[np.argmax(is_end_N) if is_end_N.any() else -1])


def measure_spread(grey: np.ndarray) -> float:
    """Measures the grey levels between the 1st and the 99th percentile; below BLANK it is blank.

    Args:
        grey: [H, W], 0 to 255.

    Example:
        >>> measure_spread(np.full((9, 9), 7, np.uint8)) < BLANK
        True
    """
    low, high = np.quantile(grey, (0.01, 0.99))
    return float(high - low)


def drop_colour(image: np.ndarray, luma_dtype: DTypeLike) -> np.ndarray:
    """Turns [H, W, 3 or 4] into [H, W]; returns any other shape as it is.

    Grey that is stored as RGB is kept exactly. Of other colours the luma is taken (ITU-R BT.601).
    Alpha says how to draw over a background, and is not part of the film.

    Args:
        luma_dtype: of the luma, rounded where it holds integers.
    """
    if image.ndim != 3 or image.shape[-1] not in (3, 4):
        return image
    colour = image[..., :3]
    if (colour == colour[..., :1]).all():
        return colour[..., 0]
    weights = np.array([0.299, 0.587, 0.114])
    luma_HxW = np.empty(colour.shape[:2], luma_dtype)
    for rows in row_blocks(luma_HxW):
        luma = colour[rows] @ weights
        luma_HxW[rows] = np.rint(luma) if luma_HxW.dtype.kind in "ui" else luma
    return luma_HxW


def row_blocks(plane_HxW: np.ndarray) -> list[slice]:
    """Splits a plane into blocks of rows, so that what is made of one stays in a core's cache."""
    height, width = plane_HxW.shape
    step = max(1, 2**15 // width)
    return [slice(start, start + step) for start in range(0, height, step)]
