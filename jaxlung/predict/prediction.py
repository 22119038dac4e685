"""An image before and after the network."""

from typing import NamedTuple

import numpy as np

from jaxlung.preprocess import Geometry
from jaxlung.structures import LUNG


class Prepared(NamedTuple):
    """An image on its way to the network."""

    image: np.ndarray  # uint8 [H, W], as the model sees it: an inverted film is turned over
    canvas: np.ndarray  # uint8 [S, S]
    geometry: Geometry
    warnings: tuple[str, ...]  # of the sanity gate, in words
    inverted: bool  # the gate took the film for a negative, and `image` is its positive
    degrees: int  # by which the film was rotated clockwise; the canvas holds it upright
    is_ct: bool  # a model of X-rays was given what is surely an axial slice of CT
    mirrored: bool  # the picture's left is the patient's left: see `Film`
    spacing: tuple[float, float] | None  # mm, height and width of a pixel


class Prediction(NamedTuple):
    """A structure of one image, on the image's own grid."""

    image: np.ndarray  # uint8 [H, W], as the model saw it: an inverted film is turned over
    probability: np.ndarray  # float32 [H, W] in [0, 1], of the structure
    mask: np.ndarray  # bool [H, W]
    labels: np.ndarray  # uint8 [H, W], 1 the patient's right lung, 2 the left: `sides.label_sides`
    sides_known: bool  # False: one lung, or a turned or partial film; labels are by place alone
    confidence: float  # the Dice to expect: see `calibration.expected_dice`
    warnings: tuple[str, ...]  # what is odd about image or mask, in words
    degrees: int  # by which the film was rotated clockwise, and was turned back: 0, 90, 180, 270
    mirrored: bool  # the picture's left is the patient's left
    spacing: tuple[float, float] | None  # mm, height and width of a pixel, where DICOM has it
    output: str = LUNG  # the structure that the mask marks

    def __repr__(self) -> str:
        height, width = self.mask.shape
        odd = "".join(f"; {warning}" for warning in self.warnings)
        return (
            f"<Prediction of {height}x{width} pixels: {self.mask.mean():.1%} {self.output}, "
            f"confidence {self.confidence:.3f}{odd}>"
        )
