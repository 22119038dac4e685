"""Runs `jaxlung predict` over any number of files; each gets its outputs and a row."""

import contextlib
import errno
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError, one_line, print_error
from jaxlung.io.dicom.signature import is_dicom
from jaxlung.io.passed_over import count_in_words
from jaxlung.io.volumes import is_sheared, is_volume, measure_voxel
from jaxlung.masks.sides import label_sides
from jaxlung.metrics.calibration import expected_dice
from jaxlung.predict.batch import summary
from jaxlung.predict.batch.earlier import check_nothing_lost, read_earlier
from jaxlung.predict.batch.outputs import Job, Options, plan_jobs, write_image, write_volume
from jaxlung.predict.batch.shares import hold_folder, take_share
from jaxlung.predict.batch.sources import Source, on_disk
from jaxlung.predict.batch.summary import Row
from jaxlung.predict.prediction import Prepared
from jaxlung.predict.predictor import BATCH, Predictor
from jaxlung.predict.stream import Done, timed
from jaxlung.predict.volumes import check_lungs, predict_volume
from jaxlung.system.digests import digest_weights
from jaxlung.system.threads import take_turn
from jaxlung.version import __version__

_SHOWN = 20  # images that get a line each; of more only what is odd, and a bar


def run_batch(
    model: Predictor,
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
    volumes, share = model.config.modality == "ct", options.share
    jobs = planned = plan_jobs(sources, options, volumes=volumes)
    settings = _settings(model, options)
    with hold_folder(options.out, share):
        if share:
            jobs, options = take_share(planned, settings, options, volumes=volumes)
        earlier = read_earlier(options.out)
        todo, kept = earlier.split(jobs, settings, options)
        check_nothing_lost(earlier, jobs, todo, settings, options)
        pending = {job.name: job.source.place for job in todo}
        journal = summary.Journal(options.out, settings, kept, pending)
        if volumes:
            results = _volumes(model, todo)
        else:
            results = _images(model, todo, BATCH if len(planned) > 1 else 1)
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


def _settings(model: Predictor, options: Options) -> Row:
    return {
        "model": str(model.workdir),
        "weights_sha256": digest_weights(model.variables),
        "members": model.members,
        "tta": model.tta,
        "turn": model.turn,
        "threshold": model.config.train.threshold,
        "masks": "right 1, left 2" if options.sides else model.output,
        "format": options.format,
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
                    found = f"{row['share']:.1%} {job.options.output}"
                    print(one_line(f"{name} -> {job.mask}, {found}{odd}"), flush=True)
    return failed


class _Ready(NamedTuple):
    """An X-ray that has been read."""

    job: Job
    prepared: Prepared
    stamp: str  # of the file as it was before it was read

    @property
    def canvas(self) -> np.ndarray:
        return self.prepared.canvas


def _images(model: Predictor, jobs: Sequence[Job], batch_size: int) -> Iterator[Done[Job, Row]]:
    """Yields each X-ray's row, in order, once its outputs are written."""

    def prepare(job: Job) -> _Ready:
        stamp = job.source.stamp if job.source.path.exists() else ""
        if not job.source.member and is_volume(job.source.path):
            raise InputError(f"{job.source}: is a volume, but the model was trained on X-rays")
        with _any_error_named(job), on_disk(job.source) as path:
            job.format.check_source(path)
            prepared = model.prepare(path)
        _refuse(job, prepared.warnings)
        return _Ready(job, prepared, stamp)

    def finish(ready: _Ready, probability_SxS: np.ndarray) -> Row:
        job = ready.job
        with _any_error_named(job), take_turn(ready.prepared.image.size):
            found = model.finish(ready.prepared, probability_SxS)
            _refuse(job, found.warnings)
            write_image(job, found)
        sizes = summary.measure_lungs(found.labels, found.spacing and math.prod(found.spacing))
        if not found.sides_known:
            sizes |= {field: None for field in sizes if not field.startswith("lung")}
        sizes |= {"turned": found.degrees}
        return _describe(job, ready.stamp, found.labels, sizes, found.confidence, found.warnings)

    return model.stream(jobs, prepare, finish, batch_size=batch_size)


def _volumes(model: Predictor, jobs: Sequence[Job]) -> Iterator[Done[Job, Row]]:
    """Yields each CT volume's row, in order, once its outputs are written."""
    for job in jobs:
        yield Done(job, *timed(_volume, model, job))


def _volume(model: Predictor, job: Job) -> Row:
    with _any_error_named(job), on_disk(job.source) as path:
        stamp = job.source.stamp
        if not (is_volume(path) or is_dicom(path)):
            raise InputError(
                f"{path}: is no volume, but the model was trained on CT volumes; name a NIfTI, "
                f"MetaImage or NRRD file, or the folder of a DICOM series"
            )
        job.format.check_source(path)
        mask_ZxHxW, probability_ZxHxW, volume = predict_volume(model, path)
        warnings = [*volume.warnings, *check_lungs(mask_ZxHxW, volume)]
        if is_sheared(volume.grid) and job.format.suffix == ".nii.gz":
            way_out = "resample the scan"
            if volume.grid.header is None:
                way_out += " or take --format dicom-seg"
            warnings.append(
                f"tilted gantry: ITK and its viewers may refuse a sheared NIfTI; {way_out}"
            )
        _refuse(job, warnings)
        # Columns run from the patient's right to left, as in the usual display of a radiograph.
        labels_ZxHxW = np.stack([label_sides(mask_HxW) for mask_HxW in mask_ZxHxW])
        write_volume(job, labels_ZxHxW, probability_ZxHxW, volume, model)
    sizes = summary.measure_lungs(labels_ZxHxW, measure_voxel(volume))
    if not volume.placed:
        sizes |= {field: None for field in sizes if field != "lung_px"}
    confidence = expected_dice(probability_ZxHxW, mask_ZxHxW)
    return _describe(job, stamp, labels_ZxHxW, sizes, confidence, warnings)


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
        share=float((labels > 0).mean()),
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
