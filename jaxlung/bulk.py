"""`jaxlung predict` over any number of files: what is written, what is skipped, what failed."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxlung import summary
from jaxlung.calibration import expected_dice
from jaxlung.ct import is_volume
from jaxlung.ct_predict import predict_volume
from jaxlung.errors import InputError, one_line, print_error
from jaxlung.outputs import Job, Options, is_done, plan, write_image, write_volume
from jaxlung.predict import weights_sha256
from jaxlung.predictor import BATCH, Predictor, Prepared
from jaxlung.sides import label_sides
from jaxlung.sources import Source, on_disk
from jaxlung.stream import stream
from jaxlung.summary import Row
from jaxlung.threads import in_turn, worker_count

_TOLD = 20  # images that get a line each; of more only what is odd, and a bar


def run(model: Predictor, sources: Sequence[Source], options: Options) -> int:
    """Writes every source's outputs and the summaries; a bad one is reported, the others go on.

    Returns:
        how many failed.

    Raises:
        InputError: before anything is written: two sources with one output, an output that is an
            input or exists (unless resume or overwrite), or a summary of other settings.
    """
    volumes = model.config.modality == "ct"
    jobs = plan(sources, options, volumes=volumes)
    settings = _settings(model, options)
    before, rows = summary.earlier_rows(options.out)
    if before != settings and not any(row["status"] == "ok" for row in rows.values()):
        before, rows = None, {}  # nothing was written that could be mixed up
    if before is not None and before != settings and not options.overwrite:
        field = next(name for name in settings if before.get(name) != settings[name])
        raise InputError(
            f"{options.out}: holds predictions of another {field} ({before.get(field)}, now "
            f"{settings[field]}); name another --out folder, or pass --overwrite"
        )
    ours = before == settings
    todo = [job for job in jobs if not (options.resume and ours and is_done(job, rows))]
    if not options.overwrite and not (options.resume and ours):
        for target in (target for job in todo for target in job.outputs if os.path.exists(target)):
            raise InputError(
                f"{target} exists; name another --out folder, or pass --resume to go on with what "
                f"was interrupted, or --overwrite to replace it"
            )
    options.out.mkdir(parents=True, exist_ok=True)
    journal = summary.Journal(options.out, settings, rows if ours else {})
    results = (_volumes if volumes else _images)(model, todo, options)
    failed = _follow(results, len(todo), journal)
    journal.close(str(job.source) for job in jobs)
    odd = sum(bool(journal.rows[str(job.source)].get("warnings")) for job in jobs)
    if len(jobs) > 1:
        counts = f"{len(jobs)} in all: {len(jobs) - len(failed)} predicted"
        counts += f" ({len(jobs) - len(todo)} of them before)" if len(todo) < len(jobs) else ""
        print(f"{counts}, {odd} with warnings, {len(failed)} failed; {options.out / summary.CSV}")
    if len(failed) > 1:
        listed = [*failed[:_TOLD], *(["..."] if len(failed) > _TOLD else [])]
        print("\n".join(["failed:", *(f"  {one_line(name)}" for name in listed)]))
    return len(failed)


def _settings(model: Predictor, options: Options) -> Row:
    from jaxlung import __version__

    return {
        "model": str(model.workdir),
        "weights_sha256": weights_sha256(model.variables),
        "members": model.members,
        "tta": model.tta,
        "threshold": model.config.train.threshold,
        "masks": "right 1, left 2" if options.sides else "lung",
        "format": options.format,
        "jaxlung": __version__,
    }


def _follow(
    results: Iterator[tuple[Job, Row | InputError]], total: int, journal: summary.Journal
) -> list[str]:
    """Keeps each row and tells of it; returns the names of those that failed."""
    from tqdm import tqdm

    failed = []
    with tqdm(results, total=total, unit="image", disable=None if total > _TOLD else True) as bar:
        for job, row in bar:
            name = str(job.source)
            if isinstance(row, InputError):
                message = str(row) if str(row).startswith(name) else f"{name}: {row}"
                journal.add({"image": name, "status": "failed", "error": message})
                failed.append(name)
                with tqdm.external_write_mode():
                    print_error(message)
                continue
            journal.add(row)
            odd = "".join(f"; {warning}" for warning in row["warnings"])
            if total <= _TOLD or odd:
                with tqdm.external_write_mode():
                    told = one_line(f"{name} -> {job.mask}, {row['share']:.1%} lung{odd}")
                    print(told, flush=True)
    return failed


def _images(
    model: Predictor, jobs: Sequence[Job], options: Options
) -> Iterator[tuple[Job, Row | InputError]]:
    """Each X-ray's row, in order, once its outputs are written."""

    def prepare(job: Job) -> tuple[Job, Prepared, float]:
        start = time.perf_counter()
        if not job.source.member and is_volume(job.source.path):
            raise InputError(f"{job.source}: is a volume, but the model was trained on X-rays")
        with _any_error_named(job), on_disk(job.source) as path:
            prepared = model.prepare(path)
        _refuse(job, prepared.warnings, options)
        return job, prepared, time.perf_counter() - start

    def compute(ready: Sequence[tuple[Job, Prepared, float]]) -> list[tuple[np.ndarray, float]]:
        start = time.perf_counter()
        planes = model.compute([prepared for _, prepared, _ in ready])
        return [(plane, (time.perf_counter() - start) / len(ready)) for plane in planes]

    def finish(ready: tuple[Job, Prepared, float], computed: tuple[np.ndarray, float]) -> Row:
        start = time.perf_counter()
        job, prepared, seconds = ready
        with _any_error_named(job), in_turn(prepared.image.size):
            found = model.finish(prepared, computed[0])
            _refuse(job, found.warnings, options)
            labels = found.labels()
            write_image(job, found, labels, options)
        seconds += computed[1] + time.perf_counter() - start
        return _row(job, labels, found.spacing, found.confidence, found.warnings, seconds)

    return stream(
        jobs, prepare, compute, finish,
        batch_size=BATCH if len(jobs) > 1 else 1, workers=worker_count(),
    )  # fmt: skip


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
    start = time.perf_counter()
    if not is_volume(path):
        raise InputError(
            f"{path}: is a single image, but the model was trained on CT volumes; name a NIfTI "
            f"file or the folder of a DICOM series"
        )
    mask_ZxHxW, probability_ZxHxW, volume = predict_volume(model, path)
    warnings = () if mask_ZxHxW.any() else ("no lung found",)
    _refuse(job, warnings, options)
    # Columns run from the patient's right to left, as in the usual display of a radiograph.
    labels_ZxHxW = np.stack([label_sides(mask_HxW) for mask_HxW in mask_ZxHxW])
    write_volume(job, labels_ZxHxW, probability_ZxHxW, volume, model, options)
    confidence = expected_dice(probability_ZxHxW, mask_ZxHxW)
    seconds = time.perf_counter() - start
    return _row(job, labels_ZxHxW, volume.spacing, confidence, warnings, seconds)


def _row(
    job: Job,
    labels: np.ndarray,
    spacing: tuple[float, ...] | None,
    confidence: float,
    warnings: Sequence[str],
    seconds: float,
) -> Row:
    *slices, height, width = labels.shape
    return {
        "image": str(job.source),
        "status": "ok",
        "mask": str(job.mask),
        "height": height,
        "width": width,
        "slices": slices[0] if slices else None,
        "share": float((labels > 0).mean()),
        **summary.measure(labels, spacing),
        "confidence": round(confidence, 4),
        "warnings": list(warnings),
        "seconds": round(seconds, 3),
        "stamp": job.source.stamp,
    }


def _refuse(job: Job, warnings: Sequence[str], options: Options) -> None:
    if warnings and options.strict:
        raise InputError(f"{job.source}: refused: {'; '.join(warnings)}")


@contextlib.contextmanager
def _any_error_named(job: Job) -> Iterator[None]:
    """A damaged file may break a reader in ways of its own: the batch goes on all the same.

    What the reader says is left out: it may quote a header.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:  # a full disk ends the batch
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise InputError(
            f"{job.source}: has too long a name for its outputs'; rename it"
        ) from error
    except Exception as error:
        raise InputError(
            f"{job.source}: cannot be read ({type(error).__name__}); is it damaged?"
        ) from error
