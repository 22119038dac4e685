"""Computes the features that the gate classifies: oriented gradients and a thumbnail."""

import functools

import cv2
import numpy as np

SIDE, CELLS, BINS, THUMB = 64, 8, 12, 16  # pixels, cells a side, directions, thumbnail's pixels
_SMALL = 128  # side at which plain borders are found
_PLAIN = 0.08  # of the image's range: the spread of a line of a plain border


def small_square(grey_HxW: np.ndarray) -> tuple[np.ndarray, float]:
    """Cuts plain borders away, such as letterbox bars, and resizes the rest to a small square.

    Args:
        grey_HxW: uint8 [H, W].

    Returns:
        The square, float32 [SIDE, SIDE], 0 to 255, stretched as the training films were; and the
        width over the height of the part that was kept.
    """
    height, width = grey_HxW.shape
    size = (min(width, _SMALL), min(height, _SMALL))
    small = cv2.resize(grey_HxW, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    low, high = np.quantile(small[::2, ::2], (0.01, 0.99))
    kept = small
    for _ in range(2):  # a band below the film shows once the bars beside both are gone
        top, bottom = _inner(kept, _PLAIN * (high - low))
        left, right = _inner(kept[top:bottom].T, _PLAIN * (high - low))
        kept = kept[top:bottom, left:right]
    aspect = kept.shape[1] / small.shape[1] * width / (kept.shape[0] / small.shape[0] * height)
    shrinks = min(kept.shape) >= SIDE
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(kept, (SIDE, SIDE), interpolation=method), aspect


def _inner(plane: np.ndarray, limit: float) -> tuple[int, int]:
    """Returns the first row that is not plain and the last plus one; all rows where all are plain.

    A row's range is taken between quantiles, so that a marker does not keep a border.
    """
    order = np.sort(plane, axis=1)
    last = plane.shape[1] - 1
    spread = order[:, round(0.95 * last)] - order[:, round(0.05 * last)]
    rows = np.flatnonzero(spread > limit)
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, len(plane))


def features(square_SxS: np.ndarray) -> np.ndarray:
    """Computes the classifier's input.

    Args:
        square_SxS: float32 [SIDE, SIDE], as `small_square` returns it.

    Returns:
        float32 [D]: for each cell a histogram of the gradients' directions, divided by the energy
        around it, and a standardised thumbnail. Directions are signed, since an inverted film has
        the opposite ones.
    """
    deviation = float(square_SxS.std())
    plane = (square_SxS - square_SxS.mean()) / (deviation + 1e-3)
    dx = cv2.Sobel(plane, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(plane, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REPLICATE)
    magnitude, angle = cv2.cartToPolar(dx, dy)
    place = angle.ravel() * (BINS / (2 * np.pi))
    below = np.floor(place)
    share, below = place - below, below.astype(int) % BINS
    weight = np.sqrt(magnitude).ravel()
    cell = _cell_of_pixel() * BINS
    count = CELLS * CELLS * BINS
    energy = np.bincount(cell + below, weight * (1 - share), count)
    energy += np.bincount(cell + (below + 1) % BINS, weight * share, count)
    cells = energy.reshape(CELLS, CELLS, BINS).astype(np.float32)
    norm = cv2.GaussianBlur(np.linalg.norm(cells, axis=-1), (0, 0), 1.0)
    cells /= (norm + 0.1 * norm.mean() + 1e-3)[..., None]
    thumb = cv2.resize(plane, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    return np.concatenate([cells.ravel(), 0.5 * thumb.ravel()])


@functools.cache
def _cell_of_pixel() -> np.ndarray:
    line = np.arange(SIDE) * CELLS // SIDE
    return (line[:, None] * CELLS + line[None, :]).ravel()
