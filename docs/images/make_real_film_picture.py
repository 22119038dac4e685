"""Draws real_films.jpg: what `jaxlung predict --sides` makes of two films of children.

python docs/images/make_real_film_picture.py ../shared/data/children

The films are of the test split of cxr-open: neither they nor their patients taught the model.
README.md beside this file names their source and terms. They hold markers "R" and "A-P"
and no other text.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import jaxlung
from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits

FILMS = ("IM-0684-0001", "person544_virus_1074")  # normal, pneumonia
SIDE, GAP = 400, 8  # pixels
COLOURS = {1: (230, 159, 0), 2: (86, 180, 233)}  # RGB: the patient's right and left lung
OPAQUE = 0.18
QUALITY = 88  # of the JPEG, which stays below 150 KB


def main(folder: Path) -> None:
    test = load_splits(DataConfig(name="folder", dir=str(folder)))["test"].ids
    model, panels = jaxlung.load("cxr-open"), []
    for stem in FILMS:
        assert stem in test, f"{stem} is no test film: a picture of it would flatter the model"
        [path] = (folder / "images").glob(f"{stem}.*")
        found = model.prediction(path)
        panels += [fit(found.image), draw(fit(found.image), found.labels)]
        print(stem, f"expected Dice {found.confidence:.3f}", *found.warnings)
    height = max(panel.shape[0] for panel in panels)
    gap = np.full((height, GAP, 3), 255, np.uint8)
    row = [part for panel in panels for part in (centre(panel, height), gap)][:-1]
    out = Path(__file__).with_name("real_films.jpg")
    Image.fromarray(np.hstack(row)).save(out, quality=QUALITY, optimize=True)
    print(out, out.stat().st_size, "bytes")


def fit(grey_HxW: np.ndarray) -> np.ndarray:
    """Returns the film as RGB, SIDE pixels wide."""
    height, width = grey_HxW.shape
    size = (SIDE, round(SIDE * height / width))
    small = cv2.resize(grey_HxW, size, interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], 3, axis=-1)


def draw(film_HxWx3: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tints both lungs and draws their outlines."""
    height, width = film_HxWx3.shape[:2]
    picture = film_HxWx3.copy()
    for label, colour in COLOURS.items():
        share = cv2.resize((labels == label).astype(np.float32), (width, height))
        inside = share > 0.5
        tinted = (1 - OPAQUE) * picture[inside] + OPAQUE * np.array(colour)
        picture[inside] = np.rint(tinted).astype(np.uint8)
        outlines, _ = cv2.findContours(
            inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outlines, -1, colour, 2, cv2.LINE_AA)
    return picture


def centre(panel: np.ndarray, height: int) -> np.ndarray:
    above = (height - panel.shape[0]) // 2
    below = height - panel.shape[0] - above
    return np.pad(panel, ((above, below), (0, 0), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
