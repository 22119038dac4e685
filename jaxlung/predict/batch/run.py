"""Runs `jaxlung predict` over any number of files; each gets its outputs and a row."""

import contextlib
import errno
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError, one_line, print_error
from jaxlung.gate.image import WORDS
from jaxlung.io.ct.geometry import is_sheared, measure_voxel
from jaxlung.io.passed_over import count_in_words
from jaxlung.io.volumes import is_volume
from jaxlung.predict.batch import summary
from jaxlung.predict.batch.earlier import check_nothing_lost, read_earlier
from jaxlung.predict.batch.models import Models
from jaxlung.predict.batch.outputs import (
    Job,
    Options,
    name_model,
    plan_jobs,
    write_image,
    write_volume,
)
from jaxlung.predict.batch.shares import hold_folder, take_share
from jaxlung.predict.batch.sources import Source, on_disk
from jaxlung.predict.batch.summary import Row
from jaxlung.predict.prediction import Prepared
from jaxlung.predict.predictor import BATCH, Predictor
from jaxlung.predict.stream import Done, stream, timed
from jaxlung.predict.volumes import predict_volume
from jaxlung.structures import LUNG
from jaxlung.system.digests import digest_weights
from jaxlung.system.threads import count_workers, take_turn
from jaxlung.version import __version__

_SHOWN = 20  # images that get a line each; of more only what is odd, and a bar


def run_batch(
    models: Models,
    sources: Sequence[Source],
    options: Options,
    passed_over: Mapping[str, int] | None = None,
) -> int:
    """Writes the outputs and the summary of every source, or of a share of them.

    A bad source is reported, and the others go on.

    Args:
        passed_over: files that are no image, by kind, to be counted at the end.

    Returns:
        How many failed.

    Raises:
        InputError: before anything is written: two sources have one output, an output is an input
            or exists (unless resume or overwrite), there is a summary of other settings, or shares
            that are not joined.
    """
    share = options.share
    jobs = planned = plan_jobs(sources, options)
    settings = _settings(models, options)
    with hold_folder(options.out, share):
        if share:
            jobs, options = take_share(planned, settings, options)
        earlier = read_earlier(options.out)
        todo, kept = earlier.split(jobs, settings, options)
        check_nothing_lost(earlier, jobs, todo, settings, options)
        pending = {job.name: job.source.place for job in todo}
        journal = summary.Journal(options.out, settings, kept, pending)
        images = [job for job in todo if not job.is_volume]
        scans = [job for job in todo if job.is_volume]
        batch_size = BATCH if sum(not job.is_volume for job in planned) > 1 else 1
        results = itertools.chain(_images(models, images, batch_size), _volumes(models, scans))
        failed = _follow(results, todo, journal)
        rows = journal.close((job.name for job in jobs), passed_over or {})
    if len(planned) > 1:
        counts = f"share {share.number}/{share.of}: " if share else ""
        counts += summary.count_rows(rows, before=len(jobs) - len(todo))
        print(f"{counts}; {options.out / summary.CSV}")
        if failed and len(todo) > _SHOWN:  # of fewer the lines are still in sight
            listed = [*failed[:_SHOWN], *(["..."] if len(failed) > _SHOWN else [])]
            print("\n".join(["failed:", *(f"  {one_line(message)}" for message in listed)]))
    if words := count_in_words(passed_over or {}):
        print(words)
    return len(failed)


def _settings(models: Models, options: Options) -> Row:
    first, *_ = known = models.known
    thresholds = {model.config.train.threshold for model in known}
    return {
        "model": ", ".join(str(model.workdir) for model in known),
        "weights_sha256": ", ".join(digest_weights(model.variables) for model in known),
        "members": first.members,
        "tta": first.tta,
        "turn": first.turn,
        "threshold": first.config.train.threshold if len(thresholds) == 1 else sorted(thresholds),
        "masks": "right 1, left 2" if options.sides else options.output,
        "format": options.format,
        "resample": options.resample,
        "jaxlung": __version__,
    }


def _follow(
    results: Iterable[Done[Job, Row]], todo: Sequence[Job], journal: summary.Journal
) -> list[str]:
    """Keeps and reports each row; returns the messages of those that failed."""
    from tqdm import tqdm

    failed = []
    few = len(todo) <= _SHOWN
    before = {job for job in todo if any(map(os.path.exists, job.outputs))}
    with tqdm(results, total=len(todo), unit="image", disable=True if few else None) as bar:
        for job, row, seconds in bar:
            name = str(job.source)
            if isinstance(row, InputError):
                message = str(row) if str(row).startswith(name) else f"{name}: {row}"
                if job in before:
                    message += " (outputs of an earlier run are still there)"
                warnings = getattr(row, "warnings", [])
                journal.add(_make_row(job, status="failed", error=message, warnings=warnings))
                failed.append(message)
                with tqdm.external_write_mode():
                    print_error(message)
                continue
            journal.add({**row, "seconds": round(seconds, 3)})
            odd = "".join(f"; {warning}" for warning in row["warnings"])
            if few or odd:
                with tqdm.external_write_mode():
                    found = f"{row['share']:.1%} {job.options.output} by {row['model']}"
                    print(one_line(f"{name} -> {job.mask}, {found}{odd}"), flush=True)
    return failed


class _Ready(NamedTuple):
    """An image that has been read."""

    job: Job
    model: Predictor
    prepared: Prepared
    stamp: str  # of the file as it was before it was read


def _images(models: Models, jobs: Sequence[Job], batch_size: int) -> Iterator[Done[Job, Row]]:
    """Yields each image's row, in order, once its outputs are written.

    A picture that is surely an axial slice of CT goes to the model of CT where there is one.
    """

    def prepare(job: Job) -> _Ready:
        stamp = job.source.stamp if job.source.path.exists() else ""
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
        return _Ready(job, model, prepared, stamp)

    def compute(batch: Sequence[_Ready]) -> Iterator[np.ndarray]:
        of_each = {}
        for model in models.known:
            canvases = [one.prepared.canvas for one in batch if one.model is model]
            of_each[id(model)] = model.probabilities(canvases, batch_size)
        return (next(of_each[id(one.model)]) for one in batch)

    def finish(ready: _Ready, probability_SxS: np.ndarray) -> Row:
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

    return stream(jobs, prepare, compute, finish, batch_size=batch_size, workers=count_workers())


def _volumes(models: Models, jobs: Sequence[Job]) -> Iterator[Done[Job, Row]]:
    """Yields each CT volume's row, in order, once its outputs are written."""
    for job in jobs:
        assert models.ct is not None
        yield Done(job, *timed(_volume, models.ct, job))


def _volume(model: Predictor, job: Job) -> Row:
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
    return _make_row(
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


def _make_row(job: Job, **values: Any) -> Row:
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
