"""`jaxlung predict` over any number of files: what is written, what is skipped, what failed."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError, one_line, print_error
from jaxlung.io.volumes import is_volume, measure_voxel
from jaxlung.masks.sides import label_sides
from jaxlung.metrics.calibration import expected_dice
from jaxlung.predict.batch import summary
from jaxlung.predict.batch.outputs import (
    Job,
    Options,
    alone_in,
    check_nothing_replaced,
    check_same_run,
    is_done,
    plan_jobs,
    write_image,
    write_volume,
)
from jaxlung.predict.batch.sources import Source, on_disk
from jaxlung.predict.batch.summary import Row
from jaxlung.predict.predictor import BATCH, Predictor, Prepared
from jaxlung.predict.stream import stream
from jaxlung.predict.volumes import predict_volume
from jaxlung.system.digests import digest_weights
from jaxlung.system.threads import count_workers, take_turn
from jaxlung.version import __version__

_TOLD = 20  # images that get a line each; of more only what is odd, and a bar


def run_batch(model: Predictor, sources: Sequence[Source], options: Options) -> int:
    """Writes the outputs and the summaries of every source, or of a share of them.

    A bad one is reported, the others go on.

    Returns:
        how many failed.

    Raises:
        InputError: before anything is written: two sources with one output, an output that is an
            input or exists (unless resume or overwrite), or a summary of other settings.
    """
    volumes, share = model.config.modality == "ct", options.share
    jobs = planned = plan_jobs(sources, options, volumes=volumes)
    if share:
        jobs = planned[share.number - 1 :: share.of]
    settings = _settings(model, options)
    options.out.mkdir(parents=True, exist_ok=True)
    with alone_in(options.out, share):
        earlier = summary.read_all(options.out)
        same = summary.same_settings(earlier.settings, settings)
        if not same:
            check_same_run(earlier, settings, jobs, options)
        resume = options.resume and same
        todo = [job for job in jobs if not (resume and is_done(job, earlier.rows, options))]
        if not options.overwrite:
            check_nothing_replaced(todo, earlier if resume else None)
        pending = {str(job.source.name): job.source.place for job in todo}
        kept = earlier.rows if same else {}
        if share:  # of what others have done, what is this one's by now: there may be new files
            own = set(summary.read_earlier(options.out, share).rows)
            own |= {str(job.source.name) for job in jobs}
            kept = {name: row for name, row in kept.items() if name in own}
        journal = summary.Journal(options.out, settings, kept, pending, share)
        if volumes:
            results = _volumes(model, todo, options)
        else:
            results = _images(model, todo, options, BATCH if len(planned) > 1 else 1)
        failed = _follow(results, todo, journal)
        journal.close(str(job.source.name) for job in jobs)
    rows = [journal.rows[str(job.source.name)] for job in jobs]
    if len(planned) > 1:
        odd = sum(bool(row["warnings"]) for row in rows)
        counts = f"share {share.number}/{share.of}: " if share else ""
        counts += f"{len(jobs)} in all: {len(jobs) - len(failed)} predicted"
        counts += f" ({len(jobs) - len(todo)} of them before)" if len(todo) < len(jobs) else ""
        table = summary.summary_path(options.out, summary.CSV, share)
        print(f"{counts}, {odd} with warnings, {len(failed)} failed; {table}")
        if failed and len(todo) > _TOLD:  # of fewer the lines are still in sight
            listed = [*failed[:_TOLD], *(["..."] if len(failed) > _TOLD else [])]
            print("\n".join(["failed:", *(f"  {one_line(message)}" for message in listed)]))
    return len(failed)


def _settings(model: Predictor, options: Options) -> Row:
    return {
        "model": str(model.workdir),
        "weights_sha256": digest_weights(model.variables),
        "members": model.members,
        "tta": model.tta,
        "threshold": model.config.train.threshold,
        "masks": "right 1, left 2" if options.sides else "lung",
        "format": options.format,
        "jaxlung": __version__,
    }


def _follow(
    results: Iterator[tuple[Job, Row | InputError]], todo: Sequence[Job], journal: summary.Journal
) -> list[str]:
    """Keeps each row and tells of it; returns what was told of those that failed."""
    from tqdm import tqdm

    failed = []
    few = len(todo) <= _TOLD
    before = {job for job in todo if any(map(os.path.exists, job.outputs))}
    with tqdm(results, total=len(todo), unit="image", disable=True if few else None) as bar:
        for job, row in bar:
            name = str(job.source)
            if isinstance(row, InputError):
                message = str(row) if str(row).startswith(name) else f"{name}: {row}"
                if job in before:
                    message += " (outputs of an earlier run are still there)"
                journal.add(
                    summary.make_row(
                        name=str(job.source.name),
                        image=name,
                        status="failed",
                        error=message,
                        source=job.source.place,
                        warnings=getattr(row, "warnings", []),
                    )
                )
                failed.append(message)
                with tqdm.external_write_mode():
                    print_error(message)
                continue
            journal.add(row)
            odd = "".join(f"; {warning}" for warning in row["warnings"])
            if few or odd:
                with tqdm.external_write_mode():
                    told = one_line(f"{name} -> {job.mask}, {row['share']:.1%} lung{odd}")
                    print(told, flush=True)
    return failed


class _Ready(NamedTuple):
    """An X-ray that has been read."""

    job: Job
    prepared: Prepared
    stamp: str  # of the file as it was before it was read
    seconds: float


def _images(
    model: Predictor, jobs: Sequence[Job], options: Options, batch_size: int
) -> Iterator[tuple[Job, Row | InputError]]:
    """Each X-ray's row, in order, once its outputs are written."""

    def prepare(job: Job) -> _Ready:
        start = time.perf_counter()
        stamp = job.source.stamp if job.source.path.exists() else ""
        if not job.source.member and is_volume(job.source.path):
            raise InputError(f"{job.source}: is a volume, but the model was trained on X-rays")
        with _any_error_named(job), on_disk(job.source) as path:
            _check_source(path, options)
            prepared = model.prepare(path)
        _refuse(job, prepared.warnings, options)
        return _Ready(job, prepared, stamp, time.perf_counter() - start)

    def compute(ready: Sequence[_Ready]) -> list[tuple[np.ndarray, float]]:
        start = time.perf_counter()
        planes = model.compute([one.prepared for one in ready], batch_size)
        return [(plane, (time.perf_counter() - start) / len(ready)) for plane in planes]

    def finish(ready: _Ready, computed: tuple[np.ndarray, float]) -> Row:
        start = time.perf_counter()
        job = ready.job
        with _any_error_named(job), take_turn(ready.prepared.image.size):
            found = model.finish(ready.prepared, computed[0])
            _refuse(job, found.warnings, options)
            write_image(job, found, options)
        seconds = ready.seconds + computed[1] + time.perf_counter() - start
        unit = None if found.spacing is None else found.spacing[0] * found.spacing[1]
        return _row(
            job,
            found.labels,
            unit,
            ready.stamp,
            seconds,
            sides_known=found.sides_known,
            confidence=found.confidence,
            warnings=found.warnings,
        )

    return stream(jobs, prepare, compute, finish, batch_size=batch_size, workers=count_workers())


def _volumes(
    model: Predictor, jobs: Sequence[Job], options: Options
) -> Iterator[tuple[Job, Row | InputError]]:
    """Each CT volume's row, in order, once its outputs are written."""
    for job in jobs:
        try:
            with _any_error_named(job), on_disk(job.source) as path:
                yield job, _volume(model, job, path, options)
        except InputError as error:
            yield job, error


def _volume(model: Predictor, job: Job, path: Path, options: Options) -> Row:
    start, stamp = time.perf_counter(), job.source.stamp
    if not is_volume(path):
        raise InputError(
            f"{path}: is a single image, but the model was trained on CT volumes; name a NIfTI "
            f"file or the folder of a DICOM series"
        )
    _check_source(path, options)
    mask_ZxHxW, probability_ZxHxW, volume = predict_volume(model, path)
    warnings = () if mask_ZxHxW.any() else ("no lung found",)
    _refuse(job, warnings, options)
    # Columns run from the patient's right to left, as in the usual display of a radiograph.
    labels_ZxHxW = np.stack([label_sides(mask_HxW) for mask_HxW in mask_ZxHxW])
    write_volume(job, labels_ZxHxW, probability_ZxHxW, volume, model, options)
    return _row(
        job,
        labels_ZxHxW,
        measure_voxel(volume),
        stamp,
        time.perf_counter() - start,
        sides_known=True,
        confidence=expected_dice(probability_ZxHxW, mask_ZxHxW),
        warnings=warnings,
    )


def _row(
    job: Job,
    labels: np.ndarray,
    unit: float | None,
    stamp: str,
    seconds: float,
    *,
    sides_known: bool,
    confidence: float,
    warnings: Sequence[str],
) -> Row:
    *slices, height, width = labels.shape
    sizes = summary.measure_lungs(labels, unit)
    if not sides_known:
        sizes |= {field: None for field in sizes if not field.startswith("lung")}
    return summary.make_row(
        name=str(job.source.name),
        image=str(job.source),
        status="ok",
        mask=str(job.source.name.with_name(job.mask.name)),
        height=height,
        width=width,
        slices=slices[0] if slices else None,
        **sizes,
        confidence=round(confidence, 4),
        warnings=list(warnings),
        seconds=round(seconds, 3),
        share=float((labels > 0).mean()),
        source=job.source.place,
        stamp=stamp,
    )


def _check_source(path: Path, options: Options) -> None:
    if options.format == "dicom-seg":
        from jaxlung.io.dicom.segmentation import check_source

        check_source(path)


class _Refused(InputError):
    """What `--strict` makes of warnings."""

    warnings: list[str]


def _refuse(job: Job, warnings: Sequence[str], options: Options) -> None:
    if warnings and options.strict:
        refusal = _Refused(f"{job.source}: refused: {'; '.join(warnings)}")
        refusal.warnings = list(warnings)
        raise refusal


@contextlib.contextmanager
def _any_error_named(job: Job) -> Iterator[None]:
    """A damaged file may break a reader or writer in ways of its own: the batch goes on.

    What these say is left out: it may quote a header.
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
