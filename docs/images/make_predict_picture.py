"""Draws predict.png: what `jaxlung predict` makes of two simulated radiographs.

python docs/images/make_predict_picture.py
"""

from pathlib import Path

import cv2
import jax
import numpy as np

import jaxlung
from jaxlung.io.images import write_png
from jaxlung.io.viewers.drawing import draw_overlay, draw_sheet

SIDES = {1: (0, 114, 178), 2: (230, 159, 0)}  # RGB, told apart by colour-blind eyes too


def main() -> None:
    model = jaxlung.load("cxr")
    images, _ = jaxlung.phantom.radiographs(jax.random.key(3), 2)
    pictures = []
    for image in np.asarray(images):
        found = model.prediction(image)
        grey_HxWx3 = np.repeat(found.image[..., None], 3, axis=-1)
        labels_HxWx3 = grey_HxWx3.astype(np.float32)
        for label, colour in SIDES.items():
            inside = found.labels == label
            labels_HxWx3[inside] = 0.55 * labels_HxWx3[inside] + 0.45 * np.array(colour)
        probability = np.rint(found.probability * 255).astype(np.uint8)
        pictures += [
            grey_HxWx3,
            draw_overlay(found.image, found.mask),
            labels_HxWx3.astype(np.uint8),
            cv2.applyColorMap(probability, cv2.COLORMAP_VIRIDIS)[..., ::-1].copy(),
        ]
        print(f"confidence {found.confidence:.3f}", *found.warnings)
    captions = ["image", "NAME_overlay.png", "--sides: 1 right, 2 left", "--probabilities"]
    write_png(Path(__file__).with_name("predict.png"), draw_sheet(pictures, captions * 2))


if __name__ == "__main__":
    main()
