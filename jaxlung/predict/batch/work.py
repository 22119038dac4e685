"""What is done to one image or scan of a batch: read, predicted, written and told in a row."""

import contextlib
import errno
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.gate.image import WORDS
from jaxlung.io.ct.geometry import is_sheared, measure_voxel
from jaxlung.io.volumes import is_volume
from jaxlung.predict.batch import summary
from jaxlung.predict.batch.models import Models
from jaxlung.predict.batch.outputs import Job, name_model, write_image, write_volume
from jaxlung.predict.batch.sources import on_disk
from jaxlung.predict.batch.summary import Row
from jaxlung.predict.prediction import Prepared
from jaxlung.predict.predictor import Predictor
from jaxlung.predict.volumes import predict_volume
from jaxlung.structures import LUNG
from jaxlung.system.threads import take_turn


class Ready(NamedTuple):
    """An image that has been read."""

    job: Job
    model: Predictor
    prepared: Prepared
    stamp: str  # of the file as it was before it was read


def prepare_image(models: Models, job: Job) -> Ready:
    """Reads an image and places it on the canvas of its model.

    A picture that is surely an axial slice of CT goes to the model of CT where there is one.
    """
    is_there = job.source.url or job.source.path.exists()
    stamp = job.source.stamp if is_there else ""
    if not job.source.member and is_volume(job.source.path):
        raise InputError(f"{job.source}: is a volume, but the model was trained on X-rays")
    with _any_error_named(job), on_disk(job.source) as path:
        job.format.check_source(path)
        model = models.xray or models.ct
        assert model is not None
        prepared = model.prepare(path)
        if prepared.is_ct and models.ct:
            kept = [words for words in prepared.warnings if words not in WORDS.values()]
            model, prepared = models.ct, models.ct.prepare(path)
            prepared = prepared._replace(warnings=(*kept, *prepared.warnings))
    _refuse(job, prepared.warnings)
    return Ready(job, model, prepared, stamp)


def compute_batch(models: Models, batch_size: int, batch: Sequence[Ready]) -> Iterator[np.ndarray]:
    """Yields the probabilities of images, float32 [S, S] of each."""
    of_each = {}
    for model in models.known:
        canvases = [one.prepared.canvas for one in batch if one.model is model]
        of_each[id(model)] = model.probabilities(canvases, batch_size)
    return (next(of_each[id(one.model)]) for one in batch)


def finish_image(ready: Ready, probability_SxS: np.ndarray) -> Row:
    """Writes an image's outputs and returns its row."""
    job = ready.job
    with _any_error_named(job), take_turn(ready.prepared.image.size):
        found = ready.model.finish(ready.prepared, probability_SxS)
        _refuse(job, found.warnings)
        write_image(job, found, ready.model)
    sizes = summary.measure_lungs(found.labels, found.spacing and math.prod(found.spacing))
    if not found.sides_known:
        sizes |= {field: None for field in sizes if not field.startswith("lung")}
    sizes |= {"turned": found.degrees, "model": name_model(ready.model, job.options)}
    return _describe(job, ready.stamp, found.labels, sizes, found.confidence, found.warnings)


def predict_scan(models: Models, job: Job) -> Row:
    """Writes the outputs of a CT volume and returns its row."""
    model = models.ct
    assert model is not None
    with _any_error_named(job), on_disk(job.source) as path:
        stamp = job.source.stamp
        job.format.check_source(path)
        options = job.options
        found = predict_volume(
            model, path, probabilities=options.probabilities, resample=options.resample
        )
        volume, warnings = found.volume, list(found.warnings)
        if is_sheared(volume.grid) and job.format.suffix == ".nii.gz":
            way_out = "pass --resample"
            if volume.grid.header is None:
                way_out += " or --format dicom-seg"
            warnings.append(
                f"tilted gantry: ITK and its viewers may refuse a sheared NIfTI; {way_out}"
            )
        _refuse(job, warnings)
        write_volume(job, found, model)
    sizes = summary.measure_lungs(found.labels_ZxHxW, measure_voxel(volume))
    if not volume.placed:
        sizes |= {field: None for field in sizes if field != "lung_px"}
    mean_hu, laa950 = found.density
    if model.output != LUNG:
        sizes |= {field: None for field in sizes if not field.startswith("lung")}
    sizes |= {
        "model": name_model(model, job.options),
        "mean_hu": None if mean_hu is None else round(mean_hu, 1),
        "laa950": None if laa950 is None else round(laa950, 4),
    }
    sizes["resampled"] = found.resampled
    return _describe(job, stamp, found.labels_ZxHxW, sizes, found.confidence, warnings)


def _describe(
    job: Job, stamp: str, labels: np.ndarray, sizes: Row, confidence: float, warnings: Sequence[str]
) -> Row:
    """Makes the row of an image whose outputs are written."""
    *slices, height, width = labels.shape
    return make_job_row(
        job,
        status="ok",
        mask=str(job.source.name.with_name(job.mask.name)),
        height=height,
        width=width,
        slices=slices[0] if slices else None,
        **sizes,
        confidence=round(confidence, 4),
        warnings=list(warnings),
        share=np.count_nonzero(labels) / labels.size,
        stamp=stamp,
    )


def make_job_row(job: Job, **values: Any) -> Row:
    source = job.source
    return summary.make_row(name=job.name, image=str(source), source=source.place, **values)


class _Refused(InputError):
    """The error that `--strict` makes of warnings."""

    def __init__(self, job: Job, warnings: Sequence[str]):
        super().__init__(f"{job.source}: refused: {'; '.join(warnings)}")
        self.warnings = list(warnings)


def _refuse(job: Job, warnings: Sequence[str]) -> None:
    if warnings and job.options.strict:
        raise _Refused(job, warnings)


@contextlib.contextmanager
def _any_error_named(job: Job) -> Iterator[None]:
    """Turns any error that a damaged file causes in a reader or writer into an InputError.

    The error's own words are left out, since they may quote a header.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"{job.source}: has too long a name for those of its outputs; rename it"
            ) from error
        raise  # a full disk: no other image would do better
    except Exception as error:
        raise InputError(
            f"{job.source}: cannot be read ({type(error).__name__}); is it damaged?"
        ) from error
