"""The model's first mask of a film: by the package's own gate, prediction and clean-up."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.gate.image import WORDS, rotate
from jaxlung.io.ct.hounsfield import apply_window, read_scan
from jaxlung.io.images import read_film
from jaxlung.io.volumes import Grid, Volume, is_volume
from jaxlung.masks.bodies import label_lung_bodies
from jaxlung.masks.sides import label_sides
from jaxlung.predict.batch.models import Models
from jaxlung.predict.batch.sources import on_disk
from jaxlung.predict.prediction import Prepared
from jaxlung.predict.predictor import Predictor
from jaxlung.predict.volumes import predict_volume
from jaxlung.preprocess import canvas_geometry, from_canvas, to_canvas
from jaxlung.structures import LUNG
from jaxlung.view.films import Film, Row
from jaxlung.view.patients import find_patient
from jaxlung.view.pictures import Shown, show_film, show_slice


class First(NamedTuple):
    """What the model says of a film."""

    fields: dict[str, Any]  # of its row
    shown: Shown  # the film, or the scan's first slice to look at
    labels: np.ndarray  # uint8 [H, W] or [Z, H, W]: 1 the patient's right lung, 2 the left one
    probability_HxW: np.ndarray | None = None  # uint8, 255 is 1; of a scan by `probability_of`
    volume: Volume | None = None


@contextlib.contextmanager
def errors_named(film: Film) -> Iterator[None]:
    """Turns whatever a damaged file causes into an InputError with the film's name, not its path.

    The words of other errors are left out, since they may quote a header.
    """
    try:
        yield
    except InputError as error:
        raise InputError(film.about(error)) from error
    except OSError as error:
        raise InputError(f"{film.name}: cannot be read ({error.strerror})") from error
    except Exception as error:
        raise InputError(
            f"{film.name}: cannot be read ({type(error).__name__}); is it damaged?"
        ) from error


def predict_first(models: Models, film: Film, key: bytes) -> First:
    """Predicts a film or a scan.

    Args:
        key: of the patients' digests.

    Raises:
        InputError: it cannot be read.
    """
    with errors_named(film):
        stamp = film.source.stamp
        with on_disk(film.source) as path:
            found = (_scan if film.source.is_volume else _film)(models, path)
            patient = find_patient(path, film.source.name.name, key)
    found.fields.update(stamp=stamp, patient=patient, ready=True, error=None)
    return found


def _prepare(models: Models, path: Path) -> tuple[Predictor, Prepared]:
    """Prepares a film for its model; what is surely a slice of CT goes to that of CT."""
    model = models.xray or models.ct
    assert model is not None
    if is_volume(path):
        raise InputError(f"{path}: is a volume, but the model was trained on X-rays")
    prepared = model.prepare(path)
    if prepared.is_ct and models.ct and model is not models.ct:
        kept = [words for words in prepared.warnings if words not in WORDS.values()]
        model, prepared = models.ct, models.ct.prepare(path)
        prepared = prepared._replace(warnings=(*kept, *prepared.warnings))
    return model, prepared


def _film(models: Models, path: Path) -> First:
    model, prepared = _prepare(models, path)
    [probability_SxS] = model.probabilities([prepared.canvas], batch_size=1)
    found = model.finish(prepared, probability_SxS)
    height, width = found.mask.shape
    fields = {
        "height": height,
        "width": width,
        "spacing": found.spacing,
        "warnings": found.warnings,
        "confidence": round(float(found.confidence), 4),
        "inverted": prepared.inverted,
        "degrees": found.degrees,
        "mirrored": found.mirrored,
        "sides_known": found.sides_known,
        "usable": is_usable(found.mask),
    }
    probability_HxW = to_bytes(found.probability)
    shown = show_film(read_film(path).image)
    return First(fields, shown, found.labels, probability_HxW)


def _scan(models: Models, path: Path) -> First:
    assert models.ct is not None
    found = predict_volume(models.ct, path)
    slices, height, width = found.labels_ZxHxW.shape
    with_lung = np.flatnonzero(found.labels_ZxHxW.any((1, 2)))
    first_slice = int(with_lung[len(with_lung) // 2]) if len(with_lung) else slices // 2
    is_lung = models.ct.output == LUNG
    fields = {
        "height": height,
        "width": width,
        "slices": slices,
        "spacing": found.volume.spacing[1:] if found.volume.placed else None,
        "warnings": found.warnings,
        "confidence": round(float(found.confidence), 4),
        "sides_known": is_lung and found.volume.placed,
        "first_slice": first_slice,
        "usable": is_usable(found.labels_ZxHxW > 0),
    }
    shown = show_slice(found.volume.voxels_ZxHxW[first_slice])
    return First(fields, shown, found.labels_ZxHxW, volume=found.volume)


def is_usable(mask: np.ndarray) -> bool:
    """Says whether training takes a mask: it marks something, and not everything."""
    return bool(mask.any()) and not bool(mask.all())


def to_bytes(probability: np.ndarray) -> np.ndarray:
    return np.rint(255 * probability).astype(np.uint8)


@contextlib.contextmanager
def open_film(film: Film) -> Iterator[Path]:
    """Gives a film's file, unpacked if need be; errors name the film."""
    with errors_named(film), on_disk(film.source) as path:
        yield path


def read_shown(film: Film) -> Shown:
    """Reads a film's pixels for the page."""
    with open_film(film) as path:
        return show_film(read_film(path).image)


def read_volume(film: Film) -> Volume:
    """Reads a scan in Hounsfield units."""
    with open_film(film) as path:
        return read_scan(path)


def film_probability(models: Models, film: Film) -> np.ndarray:
    """Predicts a film's probabilities anew: uint8 [H, W], 255 is 1."""
    with open_film(film) as path:
        model, prepared = _prepare(models, path)
        [probability_SxS] = model.probabilities([prepared.canvas], batch_size=1)
        return to_bytes(model.finish(prepared, probability_SxS).probability)


def slice_probability(model: Predictor, hu_HxW: np.ndarray) -> np.ndarray:
    """Predicts a slice's probabilities, as `predict_volume` does: uint8 [H, W], 255 is 1."""
    data = model.config.data
    window_HxW = apply_window(hu_HxW, data.window_low, data.window_high)
    canvas_SxS = to_canvas(window_HxW, size=data.size, fit=data.fit)[0]
    [probability_SxS] = model.probabilities([canvas_SxS], batch_size=1)
    height, width = hu_HxW.shape
    geometry = canvas_geometry(height, width, data.size, data.fit)
    return to_bytes(from_canvas(probability_SxS, geometry))


def label_mask(mask: np.ndarray, row: Row, output: str) -> np.ndarray:
    """Tells a mask's lungs apart: uint8, 1 the patient's right lung, 2 the left; others are 1.

    Args:
        mask: bool [H, W] of a film, or [Z, H, W] of a scan.
    """
    if output != LUNG:
        return mask.astype(np.uint8)
    if mask.ndim == 3:
        return label_lung_bodies(mask)
    upright = rotate(mask, -row.degrees)
    return rotate(label_sides(upright, mirrored=row.mirrored and not row.degrees), row.degrees)


def label_slice(mask_HxW: np.ndarray, before_HxW: np.ndarray, output: str) -> np.ndarray:
    """Tells the lungs apart in a corrected slice of a scan: each pixel as the nearest one before.

    Args:
        mask_HxW: bool.
        before_HxW: the labels before the correction.
    """
    if output != LUNG:
        return mask_HxW.astype(np.uint8)
    if not before_HxW.any():
        return label_sides(mask_HxW)
    import cv2

    nearest = [
        cv2.distanceTransform((before_HxW != side).astype(np.uint8), cv2.DIST_L2, 5)
        if (before_HxW == side).any()
        else np.full(mask_HxW.shape, np.inf, np.float32)
        for side in (1, 2)
    ]
    return np.where(mask_HxW, np.where(nearest[0] <= nearest[1], 1, 2), 0).astype(np.uint8)


def grid_of(volume: Volume | None) -> Grid | None:
    return volume.grid if volume else None
