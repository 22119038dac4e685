"""Draws outlines: filled as masks, on images, and on sheets of pictures."""

from collections.abc import Sequence

import cv2
import numpy as np

from jaxlung.io.grey import to_grey8

TRUTH = (0, 200, 255)  # RGB, cyan: colour-blind eyes can tell it from orange
PREDICTION = (255, 130, 0)


def fill_polygon(points_Nx2: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Draws a polygon as bool [H, W]: pixels whose centre lies inside, by the even-odd rule.

    Args:
        points_Nx2: x and y, where pixel (row i, column j) covers [j, j+1) x [i, i+1).

    Example:
        >>> triangle_Nx2 = np.array([[0, 0], [3, 0], [0, 3]])
        >>> fill_polygon(triangle_Nx2, (2, 3)).astype(int).tolist()
        [[1, 1, 0], [1, 0, 0]]
    """
    mask_HxW = np.zeros(shape, bool)
    x0_N, y0_N = points_Nx2.T
    x1_N, y1_N = np.roll(points_Nx2, -1, axis=0).T
    centres_W = np.arange(shape[1]) + 0.5
    first = max(0, int(np.floor(y0_N.min())))
    last = min(shape[0], int(np.ceil(y0_N.max())))
    for row in range(first, last):
        y = row + 0.5
        crosses = (y0_N <= y) != (y1_N <= y)
        share = (y - y0_N[crosses]) / (y1_N - y0_N)[crosses]
        at = np.sort(x0_N[crosses] + share * (x1_N - x0_N)[crosses])
        mask_HxW[row] = np.searchsorted(at, centres_W, side="right") % 2 == 1
    return mask_HxW


def draw_overlay(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None = None
) -> np.ndarray:
    """Draws the outlines of the prediction (orange) and of the truth (cyan) on an image.

    Args:
        image: as `to_canvas` takes it, H x W.
        prediction: bool [H, W].
        truth: bool [H, W]; None draws no truth.

    Returns:
        RGB uint8 [H, W, 3].
    """
    picture_HxWx3 = cv2.cvtColor(to_grey8(image), cv2.COLOR_GRAY2RGB)
    thickness = max(1, round(max(picture_HxWx3.shape[:2]) / 400))
    for mask, colour in ((truth, TRUTH), (prediction, PREDICTION)):
        if mask is not None:
            cv2.drawContours(picture_HxWx3, _find_outlines(mask), -1, colour, thickness)
    return picture_HxWx3


def _find_outlines(mask: np.ndarray) -> Sequence[np.ndarray]:
    mask = np.asarray(mask, bool).view(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    boxed = np.ascontiguousarray(mask[top : top + height, left : left + width])
    outlines, _ = cv2.findContours(boxed, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(left, top))
    return outlines


def draw_thumbnail(
    image: np.ndarray | None, prediction: np.ndarray, truth: np.ndarray, side: int = 448
) -> np.ndarray:
    """Draws outlines as `draw_overlay` does, on a picture of another size.

    The outlines are drawn after scaling, so that they stay fine.

    Args:
        image: as `to_canvas` takes it, H x W; None draws on the truth, filled with grey.
        prediction: bool [H, W].
        truth: bool [H, W].
        side: the longer side of the picture, in pixels.

    Returns:
        RGB uint8 [h, w, 3].
    """
    grey_HxW = to_grey8(image) if image is not None else np.where(truth, 96, 24).astype(np.uint8)
    scale = side / max(truth.shape)
    height, width = (max(1, round(n * scale)) for n in truth.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(grey_HxW, (width, height), interpolation=method)
    picture_hxwx3 = np.repeat(small[..., None], 3, axis=-1)
    for mask, colour in ((truth, TRUTH), (prediction, PREDICTION)):
        # Centres of pixels, in 1/16 pixel of the picture.
        scaled = [
            np.rint(((line + 0.5) * scale - 0.5) * 16).astype(np.int32)
            for line in _find_outlines(mask)
        ]
        cv2.polylines(picture_hxwx3, scaled, True, colour, 1, cv2.LINE_AA, shift=4)
    return picture_hxwx3


def draw_sheet(
    pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 4
) -> np.ndarray:
    """Draws RGB pictures in a grid, each fitted into 320 x 320 pixels, with a caption under it."""
    side, strip = 320, 24
    rows = -(-len(pictures) // columns)
    page = np.full((rows * (side + strip), columns * side, 3), 255, np.uint8)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        scale = side / max(picture.shape[:2])
        height, width = (max(1, round(n * scale)) for n in picture.shape[:2])
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        y, x = (i // columns) * (side + strip), (i % columns) * side
        page[y : y + height, x : x + width] = small
        cv2.putText(
            page,
            caption[:44],
            (x + 4, y + side + 16),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.42,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    return page
