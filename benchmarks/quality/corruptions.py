"""Corrupts films as those of other hospitals may look, by code that training does not use.

Each takes a grey image uint8 [H, W], its mask bool [H, W] and a NumPy generator, and returns both
as they are then. Strengths are those that docs/results.md names.
"""

from collections.abc import Callable

import cv2
import numpy as np

Pair = tuple[np.ndarray, np.ndarray]
Corruption = Callable[[np.ndarray, np.ndarray, np.random.Generator], Pair]


def _tone(change: Callable[[np.ndarray], np.ndarray]) -> Corruption:
    """Makes a corruption of a change of values in [0, 1]; the mask stays."""

    def corrupt(image: np.ndarray, mask: np.ndarray, _: np.random.Generator) -> Pair:
        return _to_uint8(change(image / 255.0)), mask

    return corrupt


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def noise(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    """Adds Gaussian noise with a standard deviation of 5 % of the range."""
    return _to_uint8(image / 255.0 + rng.normal(0, 0.05, image.shape)), mask


def jpeg(image: np.ndarray, mask: np.ndarray, _: np.random.Generator) -> Pair:
    """Compresses as JPEG of quality 20."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), mask


def rotation(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    """Rotates by 15 degrees, either way, about the centre; black comes in."""
    height, width = image.shape
    angle = 15.0 if rng.random() < 0.5 else -15.0
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    turned = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    turned_mask = cv2.warpAffine(
        mask.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST
    )
    return turned, turned_mask > 0


def opacity(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    """Covers a fifth of one lung's area with a soft white disc, at 80 % of full cover.

    Its formula is much like that of training's opacities: kinder than the other corruptions.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    sizes = stats[1:, cv2.CC_STAT_AREA]
    lungs = 1 + np.argsort(-sizes)[:2]
    lung = labels == rng.choice(lungs)
    inside = np.argwhere(lung)
    row, column = inside[rng.integers(len(inside))]
    radius = np.sqrt(0.2 * len(inside) / np.pi)
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - row, columns - column)
    cover = 0.8 / (1 + np.exp((distance - radius) / (0.1 * radius)))
    level = np.percentile(image, 80) / 255.0
    values = image / 255.0
    return _to_uint8(values + cover * np.maximum(level - values, 0)), mask


def letterbox(image: np.ndarray, mask: np.ndarray, _: np.random.Generator) -> Pair:
    """Adds black bars left and right, a quarter of the width each."""
    bar = image.shape[1] // 4
    return (
        np.pad(image, ((0, 0), (bar, bar))),
        np.pad(mask, ((0, 0), (bar, bar))),
    )


def stretch(image: np.ndarray, mask: np.ndarray, _: np.random.Generator) -> Pair:
    """Stretches by a fifth in width."""
    size = (round(1.2 * image.shape[1]), image.shape[0])
    wider = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return wider, cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


CORRUPTIONS: dict[str, Corruption] = {
    "none": lambda image, mask, _: (image, mask),
    "contrast 0.5": _tone(lambda v: (v - v.mean()) * 0.5 + v.mean()),
    "gamma 0.5": _tone(lambda v: v**0.5),
    "gamma 2": _tone(lambda v: v**2.0),
    "blur 2 px": _tone(lambda v: cv2.GaussianBlur(v, (0, 0), 2.0)),
    "noise 5 %": noise,
    "JPEG 20": jpeg,
    "rotation 15": rotation,
    "opacity 20 %": opacity,
    "letterbox": letterbox,
    "stretch": stretch,
}
