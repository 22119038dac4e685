"""A trained model at work: from an image, or many, to masks on the image's own grid."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.config import Config
from jaxlung.errors import InputError
from jaxlung.gate.image import examine, shows_sides
from jaxlung.gate.mask import check_mask
from jaxlung.io.film import Film, check_xray
from jaxlung.io.grey import to_grey8
from jaxlung.io.images import read_film
from jaxlung.io.volumes import apply_window
from jaxlung.masks.postprocess import keep_lungs
from jaxlung.masks.sides import label_sides
from jaxlung.metrics.calibration import expected_dice
from jaxlung.model import to_mask
from jaxlung.predict.stream import stream
from jaxlung.preprocess import Geometry, from_canvas, to_canvas
from jaxlung.system.threads import count_workers, take_turn
from jaxlung.workdir.record import Digests

BATCH = 8  # canvases at once: one compiled shape for many images, beside that of a single one

_NARROWEST = 16  # pixels: the sides of images in an array [B, H, W]

ImageLike = np.ndarray | str | os.PathLike[str]


class Prepared(NamedTuple):
    """An image on its way to the network."""

    image: np.ndarray  # uint8 [H, W]: as shown, an inverted film turned over
    canvas: np.ndarray  # uint8 [S, S]
    geometry: Geometry
    warnings: tuple[str, ...]  # of the sanity gate, in words; none of a model of CT
    mirrored: bool  # the picture's left is the patient's left: see `Film`
    spacing: tuple[float, float] | None  # mm, height and width of a pixel


class Prediction(NamedTuple):
    """What a model says of one image, on the image's own grid."""

    image: np.ndarray  # uint8 [H, W], as the model saw it: an inverted film turned over
    probability: np.ndarray  # float32 [H, W] in [0, 1]: of lung
    mask: np.ndarray  # bool [H, W]
    labels: np.ndarray  # uint8 [H, W]: 1 the patient's right lung, 2 the left: `sides.label_sides`
    sides_known: bool  # False: one lung, or a turned or partial film; labels are by place alone
    confidence: float  # the Dice to expect: see `calibration.expected_dice`
    warnings: tuple[str, ...]  # what is odd about image or mask, in words
    mirrored: bool  # the picture's left is the patient's left
    spacing: tuple[float, float] | None  # mm, height and width of a pixel, where DICOM says so

    def __repr__(self) -> str:
        height, width = self.mask.shape
        odd = "".join(f"; {warning}" for warning in self.warnings)
        return (
            f"<Prediction of {height}x{width} pixels: {self.mask.mean():.1%} lung, "
            f"confidence {self.confidence:.3f}{odd}>"
        )


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A trained model with the preprocessing it was trained with. Make one with `load`."""

    workdir: Path  # of a bundled model: its name; of several members: the first one's
    bundled: bool  # it came with the package
    config: Config
    step: int  # updates behind its parameters
    data_digests: Digests  # what it was trained on: see `record.read_digests`
    variables: Any  # what `UNet.apply` takes; of several members stacked, [M, ...]
    members: int  # models whose mean probability it gives
    tta: bool  # predictions are the mean with those of the mirror image
    predict_canvases: Callable[[np.ndarray], np.ndarray]
    """Lung probabilities float32 [B, S, S] of canvases uint8 [B, S, S]; one compile for each B."""

    def __repr__(self) -> str:
        kind = f"ensemble of {self.members}" if self.members > 1 else "model"
        size = self.config.data.size
        return f"<Predictor: {kind} {self.workdir}, {self.config.modality}, {size}x{size}>"

    def predict(self, image: Any) -> Any:
        """The lungs' mask: bool, True is lung, on the image's own grid.

        An inverted film (see `image.examine`) is turned over first.

        Args and raises as `predict_proba`, and so the shape of what is returned.
        """
        return self._field("mask", image)

    def predict_proba(self, image: Any) -> Any:
        """Lung probability of each pixel.

        An inverted film (see `image.examine`) is turned over first.

        Args:
            image: a path, or an array [H, W], [H, W, 1] or [H, W, 3 or 4]. uint8 is taken as it
                is; other dtypes are scaled from their own minimum and maximum. For a model of CT
                an axial slice [H, W], uint8 in the model's window or else Hounsfield units;
                `volumes.predict_volume` reads files.
                Or several: an array [B, H, W] (H and W from 16) or [B, H, W, C], or a list of
                paths and arrays.

        Returns:
            float32 [H, W] in [0, 1], on the image's own grid; of an array of several [B, H, W],
            of a list a list.

        Raises:
            InputError: no image, a damaged one, DICOM that is no X-ray, a path for a model of
                CT, or an array of another shape.
        """
        return self._field("probability", image)

    def prediction(self, image: ImageLike) -> Prediction:
        """Mask, probability, confidence and warnings of one image.

        An inverted film (see `image.examine`) is turned over first.

        Args and raises as `predict_proba`.
        """
        prepared = self.prepare(image)
        return self.finish(prepared, self.predict_canvases(prepared.canvas[None])[0])

    def predict_many(
        self, images: Sequence[ImageLike], *, progress: bool = True
    ) -> Iterator[tuple[Any, Prediction | InputError]]:
        """Each image and its prediction, in order, read in threads while the device works.

        Args:
            images: any number of them; up to about 30 are in memory at a time (2 GB of them at
                20 megapixels each).
            progress: a bar on stderr, where that is a terminal.

        Yields:
            (image as given, its `Prediction`), or with an InputError in the prediction's place.

        Example:
            >>> for path, found in model.predict_many(sorted(Path("films").glob("*.png"))):
            ...     print(path, found if isinstance(found, InputError) else found.mask.sum())
        """
        from tqdm import tqdm

        batch_size = BATCH if len(images) > 1 else 1
        results = stream(
            images,
            self.prepare,
            lambda prepared: self.compute(prepared, batch_size),
            self.finish,
            batch_size=batch_size,
            workers=count_workers(),
        )
        yield from tqdm(
            results, total=len(images), unit="image", disable=None if progress else True
        )

    def prepare(self, image: ImageLike) -> Prepared:
        """An image read, looked over and placed on the canvas. Raises as `predict_proba`."""
        is_ct = self.config.modality == "ct"
        if isinstance(image, str | os.PathLike):
            if is_ct:
                raise InputError(
                    f"{image}: the model was trained on CT volumes; give it to jaxlung.predict."
                    f"volumes.predict_volume, or a slice in Hounsfield units to predict"
                )
            film = read_film(image)
            check_xray(film.modality, image)
        else:
            pixels = np.asarray(image)
            if is_ct and pixels.dtype != np.uint8:
                if not np.isfinite(pixels).all():
                    raise InputError("the slice holds NaN or infinite values; replace them first")
                pixels = apply_window(
                    pixels, self.config.data.window_low, self.config.data.window_high
                )
            film = Film(pixels)
        with take_turn(film.image.size):
            return self._prepare(film)

    def _prepare(self, film: Film) -> Prepared:
        is_ct = self.config.modality == "ct"
        grey_HxW = to_grey8(film.image)
        warnings: tuple[str, ...] = ()
        if not is_ct:
            # Grey values do for all but the question whether there are colours.
            verdict = examine(film.image if film.image.ndim == 3 else grey_HxW)
            warnings = verdict.warnings
            if verdict.inverted:
                grey_HxW = 255 - grey_HxW
        canvas_SxS, _, geometry = to_canvas(
            grey_HxW, size=self.config.data.size, fit=self.config.data.fit
        )
        return Prepared(grey_HxW, canvas_SxS, geometry, warnings, film.mirrored, film.spacing)

    def compute(self, prepared: Sequence[Prepared], batch_size: int = BATCH) -> np.ndarray:
        """Probabilities float32 [B, S, S] of up to batch_size images, by one compiled shape."""
        canvas_BxSxS = np.stack([one.canvas for one in prepared])
        padded = np.pad(canvas_BxSxS, ((0, batch_size - len(prepared)), (0, 0), (0, 0)))
        return self.predict_canvases(padded)[: len(prepared)]

    def finish(self, prepared: Prepared, probability_SxS: np.ndarray) -> Prediction:
        """From the canvas back to the image's own grid."""
        probability_HxW = from_canvas(probability_SxS, prepared.geometry)
        mask_HxW = self.to_mask(probability_HxW)
        labels_HxW = label_sides(mask_HxW, mirrored=prepared.mirrored)
        confidence = expected_dice(probability_HxW, mask_HxW)
        warnings = prepared.warnings
        if self.config.modality != "ct":
            warnings += check_mask(mask_HxW, confidence)
        # The left half of a film shows the right lung in the picture's right half.
        sides_known = shows_sides(warnings) and (labels_HxW == 1).any() and (labels_HxW == 2).any()
        return Prediction(
            prepared.image,
            probability_HxW,
            mask_HxW,
            labels_HxW,
            bool(sides_known),
            confidence,
            warnings,
            prepared.mirrored,
            prepared.spacing,
        )

    def to_mask(self, probability_HxW: np.ndarray) -> np.ndarray:
        """Probabilities, on any grid, to the mask that `predict` gives: bool [H, W].

        The threshold is the config's `train.threshold`; of X-rays with `train.postprocess` what
        is above it becomes at most two pieces without holes (`postprocess.keep_lungs`).
        """
        mask_HxW = to_mask(probability_HxW, self.config.train.threshold)
        return keep_lungs(mask_HxW) if self.config.keeps_lungs else mask_HxW

    def _field(self, name: str, image: Any) -> Any:
        if not _is_several(image):
            return getattr(self.prediction(image), name)
        found = []
        for _, result in self.predict_many(list(image), progress=False):
            if isinstance(result, InputError):
                raise result
            found.append(getattr(result, name))
        return np.stack(found) if hasattr(image, "ndim") and found else found


def _is_several(image: Any) -> bool:
    """Whether it is a batch: see `Predictor.predict_proba`."""
    if isinstance(image, list | tuple):
        return all(isinstance(one, str | os.PathLike) or hasattr(one, "ndim") for one in image)
    shape = getattr(image, "shape", ())
    # An image of five channels is a mistake, and no pile of narrow images.
    return len(shape) == 4 or (len(shape) == 3 and min(shape[1:]) >= _NARROWEST)
