"""Predicts masks on the image's own grid, of one image or of many."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxlung.config import Config
from jaxlung.errors import InputError
from jaxlung.gate import check_mask
from jaxlung.gate.image import (
    Verdict,
    examine_grey,
    is_coloured,
    rotate,
    show_slice,
    shows_sides,
)
from jaxlung.io.grey import to_grey8
from jaxlung.masks.bodies import keep_lung_bodies
from jaxlung.masks.postprocess import clean_up
from jaxlung.masks.sides import label_sides
from jaxlung.metrics.calibration import Confidence, expected_dice
from jaxlung.model import to_mask
from jaxlung.predict.images import ImageLike, is_several, like_image, read_image
from jaxlung.predict.prediction import Prediction, Prepared
from jaxlung.predict.stream import Done, stream
from jaxlung.preprocess import from_canvas, to_canvas
from jaxlung.structures import LUNG
from jaxlung.system.threads import count_workers, take_turn
from jaxlung.workdir.record import Contents

BATCH = 8  # canvases at once: many images use one compiled shape, a single image another

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A trained model with the preprocessing of its training. `load` makes one."""

    workdir: Path  # a bundled model's name; the first one of several members
    bundled: bool  # it came with the package
    config: Config
    step: int  # updates behind its parameters
    data: Contents  # of its training
    variables: Any  # what `UNet.apply` takes; several members are stacked, [M, ...]
    members: int  # models whose mean probability it predicts
    tta: bool  # predictions are the mean with those of the mirror image
    confidences: Mapping[str, Confidence]  # of its outputs where it is known
    turn: bool  # films that are surely rotated by 90, 180 or 270 degrees are turned upright first
    predict_canvases: Callable[[np.ndarray], np.ndarray]
    """Probabilities float32 [B, S, S, C] of canvases uint8 [B, S, S]; one compile for each B."""
    output: str = LUNG  # the structure that it marks, one of config.model.outputs

    def __repr__(self) -> str:
        kind = f"ensemble of {self.members}" if self.members > 1 else "model"
        size = self.config.data.size
        return f"<Predictor: {kind} {self.workdir}, {self.config.modality}, {size}x{size}>"

    def for_output(self, output: str | None) -> "Predictor":
        """Returns the same model marking another structure; None: the one that it marks now.

        Raises:
            InputError: the model has no such output.

        Example:
            >>> from jaxlung import load
            >>> model = load("cxr").for_output("lung")
        """
        if output is None or output == self.output:
            return self
        if output not in self.config.model.outputs:
            listed = ", ".join(self.config.model.outputs)
            raise InputError(f"{self.workdir}: has no output {output!r}; it marks {listed}")
        return dataclasses.replace(self, output=output)

    def predict(self, image: Any, *, output: str | None = None) -> Any:
        """Predicts a structure's mask on the image's own grid: bool, True is the structure.

        Args and Raises: as `predict_proba`. Returns: of the same shape.

        Example:
            >>> from jaxlung import load
            >>> films_BxHxWxC = np.zeros((1, 64, 64, 1), np.uint8)
            >>> load("cxr").predict(films_BxHxWxC).shape
            (1, 64, 64, 1)
        """
        return self.for_output(output)._field("mask", image)

    def predict_proba(self, image: Any, *, output: str | None = None) -> Any:
        """Predicts each pixel's probability of a structure on the image's own grid.

        An inverted film is turned over first, and a rotated one turned upright where `gate.examine`
        is sure; the result lies on the given grid all the same.

        Args:
            image: a path, or an array [H, W], [H, W, 1] or [H, W, 3 or 4]. uint8 is taken as it
                is; other dtypes are scaled from their own minimum and maximum. A model of CT takes
                an axial slice [H, W], uint8 in the model's window or else in Hounsfield units;
                `volumes.predict_volume` reads scans, and pictures of slices have any window.
                Or several: an array [B, H, W] (H and W from 16) or [B, H, W, C], or a list of
                paths and arrays.
            output: the structure to mark, one of the model's outputs; None: `self.output`, which
                is "lung" where the model has it.

        Returns:
            float32 [H, W] in [0, 1]; [B, H, W] for an array of several images, and a list for a
            list. An array with a channel axis gives a result with a channel axis of 1.

        Raises:
            InputError: no image, a damaged one, DICOM that is no X-ray, a path for a model of
                CT, an array of another shape, or an output that the model has not.

        Example:
            >>> from jaxlung import load
            >>> probability = load("cxr").predict_proba(np.zeros((64, 80), np.uint8))
            >>> probability.shape, bool((probability <= 1).all())
            ((64, 80), True)
        """
        return self.for_output(output)._field("probability", image)

    def prediction(self, image: ImageLike) -> Prediction:
        """Predicts mask, probability, lungs, confidence and warnings of one image.

        Args and Raises: as `predict_proba`.

        Example:
            >>> from jaxlung import load
            >>> load("cxr").prediction(np.zeros((64, 64), np.uint8)).warnings[0]
            'is blank or almost so: check that it is the right picture'
        """
        prepared = self.prepare(image)
        [probability_SxS] = self.probabilities([prepared.canvas], batch_size=1)
        return self.finish(prepared, probability_SxS)

    def predict_many(
        self, images: Sequence[ImageLike], *, progress: bool = True
    ) -> Iterator[tuple[Any, Prediction | InputError]]:
        """Predicts many images in order; threads read while the device works.

        Args:
            images: any number of them; up to about 30 are in memory at a time (2 GB of them at
                20 megapixels each).
            progress: show a bar on stderr, where that is a terminal.

        Yields:
            (image as given, its `Prediction`), or with an InputError in the prediction's place.

        Example:
            >>> from jaxlung import load
            >>> films = [np.zeros((64, 64), np.uint8), np.zeros((64, 80), np.uint8)]
            >>> [found.mask.shape for _, found in load("cxr").predict_many(films)]
            [(64, 64), (64, 80)]
        """
        from tqdm import tqdm

        results = self.stream(
            images, self.prepare, self.finish, batch_size=BATCH if len(images) > 1 else 1
        )
        with tqdm(
            results, total=len(images), unit="image", disable=None if progress else True
        ) as bar:
            for done in bar:
                yield done.item, done.result

    def stream(
        self,
        items: Iterable[T],
        prepare: Callable[[T], Any],
        finish: Callable[[Any, np.ndarray], R],
        *,
        batch_size: int = BATCH,
    ) -> Iterator[Done[T, R]]:
        """Predicts many items in order; threads prepare and finish them while the device works.

        Args:
            items: any number of them.
            prepare: makes of an item what has a `canvas`, uint8 [S, S].
            finish: makes the result of that and of its probability, float32 [S, S].
            batch_size: canvases that the device works on at once.

        Yields:
            each item, its result and its seconds; an InputError takes the result's place.
        """
        return stream(
            items,
            prepare,
            lambda batch: self.probabilities((one.canvas for one in batch), batch_size),
            finish,
            batch_size=batch_size,
            workers=count_workers(),
        )

    def probabilities(
        self, canvases: Iterable[np.ndarray], batch_size: int = BATCH
    ) -> Iterator[np.ndarray]:
        """Yields the output's probabilities, float32 [S, S], of each canvas, uint8 [S, S].

        The last batch is filled up with black canvases, so that there is one compiled shape.
        """
        canvases = iter(canvases)
        while batch := list(itertools.islice(canvases, batch_size)):
            canvas_BxSxS = np.stack(batch)
            padded = np.pad(canvas_BxSxS, ((0, batch_size - len(batch)), (0, 0), (0, 0)))
            channel = self.config.model.outputs.index(self.output)
            yield from self.predict_canvases(padded)[: len(batch), ..., channel]

    def prepare(self, image: ImageLike) -> Prepared:
        """Reads an image, examines it and places it on the canvas. Raises as `predict_proba`."""
        film = read_image(image, self.config)
        with take_turn(film.image.size):
            grey_HxW = to_grey8(film.image)
            verdict = Verdict(False, ())
            if self.config.modality != "ct":
                verdict = examine_grey(grey_HxW, coloured=is_coloured(film.image), turn=self.turn)
                if verdict.inverted:
                    grey_HxW = 255 - grey_HxW
            elif film.modality != "CT":  # Hounsfield units, and what a header says, need no look
                grey_HxW, verdict = show_slice(grey_HxW)
            data = self.config.data
            upright_HxW = rotate(grey_HxW, -verdict.degrees)
            canvas_SxS, _, geometry = to_canvas(upright_HxW, size=data.size, fit=data.fit)
        return Prepared(
            image=grey_HxW,
            canvas=canvas_SxS,
            geometry=geometry,
            warnings=verdict.warnings,
            inverted=verdict.inverted,
            degrees=verdict.degrees,
            is_ct=verdict.is_ct,
            mirrored=film.mirrored,
            spacing=film.spacing,
        )

    def finish(self, prepared: Prepared, probability_SxS: np.ndarray) -> Prediction:
        """Brings a prediction from the canvas back to the image's own grid."""
        probability_HxW = from_canvas(probability_SxS, prepared.geometry)
        mask_HxW = self.to_mask(probability_HxW)
        labels_HxW = mask_HxW.astype(np.uint8)
        if self.output == LUNG:
            # A header that says that rows run to the patient's right tells of a film rotated by 180
            # degrees, and not of a mirrored one, where its lungs stand on their heads.
            labels_HxW = label_sides(mask_HxW, mirrored=prepared.mirrored and not prepared.degrees)
        is_ct = self.config.modality == "ct"  # of which whole scans are what is known
        known = Confidence() if is_ct else self.confidences.get(self.output, Confidence())
        confidence = known.calibrate(expected_dice(probability_HxW, mask_HxW))
        warnings = prepared.warnings
        if not is_ct:
            warnings += check_mask(mask_HxW, confidence, known.least, self.output)
        # The left half of a film shows the right lung in the picture's right half.
        has_sides = self.output == LUNG and shows_sides(warnings)
        sides_known = has_sides and (labels_HxW == 1).any() and (labels_HxW == 2).any()
        return Prediction(
            image=prepared.image,
            probability=rotate(probability_HxW, prepared.degrees),
            mask=rotate(mask_HxW, prepared.degrees),
            labels=rotate(labels_HxW, prepared.degrees),
            sides_known=bool(sides_known),
            confidence=confidence,
            warnings=warnings,
            degrees=prepared.degrees,
            mirrored=prepared.mirrored,
            spacing=prepared.spacing,
            output=self.output,
        )

    def to_mask(self, probability_HxW: np.ndarray) -> np.ndarray:
        """Makes the mask that `predict` returns, bool [H, W], of probabilities on any grid.

        The threshold is the config's `train.threshold`. On X-rays with `train.postprocess` at most
        two lungs are kept, and their holes filled (`postprocess.clean_up`).
        """
        mask_HxW = to_mask(probability_HxW, self.config.train.threshold)
        return clean_up(mask_HxW, self.output) if self.config.keeps_lungs else mask_HxW

    def clean_up_scan(self, mask_ZxHxW: np.ndarray) -> np.ndarray:
        """Cleans up the masks of a whole scan's slices, bool [Z, H, W].

        With the config's `train.postprocess` two lungs are kept, and their holes filled
        (`bodies.keep_lung_bodies`); a mask of another structure stays as it is.
        """
        keeps = self.config.train.postprocess and self.output == LUNG
        return keep_lung_bodies(mask_ZxHxW) if keeps else mask_ZxHxW

    def _field(self, name: str, image: Any) -> Any:
        if not is_several(image):
            return like_image(image, getattr(self.prediction(image), name))
        planes = []
        for given, found in self.predict_many(list(image), progress=False):
            if isinstance(found, InputError):
                raise found
            planes.append(like_image(given, getattr(found, name)))
        return np.stack(planes) if hasattr(image, "ndim") and planes else planes
