"""Draws docs/images/phantom_grid.png: python docs/images/make_phantom_grid.py"""

from pathlib import Path

import cv2
import jax
import numpy as np

from jaxlung.io.images import write_png
from jaxlung.io.viewers.drawing import PREDICTION
from jaxlung.phantom import radiographs

COLUMNS = 6

images, masks = radiographs(jax.random.key(0), COLUMNS, size=256)
rows = [[], []]
for image, mask in zip(images, masks, strict=True):
    film = np.repeat(image[..., None], 3, axis=-1)
    rows[0].append(film)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    rows[1].append(cv2.drawContours(film.copy(), outlines, -1, PREDICTION, 1, cv2.LINE_AA))
write_png(Path(__file__).with_name("phantom_grid.png"), np.vstack([np.hstack(r) for r in rows]))
