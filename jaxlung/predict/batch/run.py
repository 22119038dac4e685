"""Runs `jaxlung predict` over any number of files; each gets its outputs and a row."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

from jaxlung.errors import InputError, one_line, print_error
from jaxlung.io.passed_over import count_in_words
from jaxlung.predict.batch import summary
from jaxlung.predict.batch.earlier import check_nothing_lost, read_earlier
from jaxlung.predict.batch.models import Models
from jaxlung.predict.batch.outputs import (
    Job,
    Options,
    plan_jobs,
)
from jaxlung.predict.batch.shares import hold_folder, take_share
from jaxlung.predict.batch.sources import Source
from jaxlung.predict.batch.summary import Row
from jaxlung.predict.batch.work import (
    compute_batch,
    finish_image,
    make_job_row,
    predict_scan,
    prepare_image,
)
from jaxlung.predict.predictor import BATCH
from jaxlung.predict.stream import Done, stream, timed
from jaxlung.system.digests import digest_weights
from jaxlung.system.files import remove_partials
from jaxlung.system.threads import count_workers
from jaxlung.version import __version__

Results = Generator[Done[Job, Row], None, None]  # in any order; closed where the batch ends early
Engine = Callable[[Models, Sequence[Job]], Results]

_WAITING = 14  # threads more that wait for a bucket: a request takes some 20 to 50 ms
_SHOWN = 20  # images that get a line each; of more only what is odd, and a bar


class _Lost(InputError):
    """The error of a job that an engine has given nothing for."""


def run_batch(
    models: Models,
    sources: Sequence[Source],
    options: Options,
    passed_over: Mapping[str, int] | None = None,
    engine: Engine | None = None,
) -> int:
    """Writes the outputs and the summary of every source, or of a share of them.

    A bad source is reported, and the others go on.

    Args:
        passed_over: files that are no image, by kind, to be counted at the end.
        engine: does the jobs and yields their rows; None: this process. A job without a row has
            failed.

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
        begin = options.bucket.begin_journal if options.bucket else summary.Journal
        journal = begin(options.out, settings, kept, pending)
        batch_size = BATCH if sum(not job.is_volume for job in planned) > 1 else 1
        results = engine(models, todo) if engine else _here(models, todo, batch_size)
        try:
            with contextlib.closing(results):  # its threads write nothing after this
                failed, lost = _follow(results, todo, journal)
        finally:
            journal.flush()
        if engine or earlier.pending:  # of workers, or of a batch, that were killed
            remove_partials(path for job in todo for path in job.outputs)
        names = (job.name for job in jobs)
        rows = journal.close(names, passed_over or {}, parquet=options.parquet)
    if len(planned) > 1:
        counts = f"share {share.number}/{share.of}: " if share else ""
        counts += summary.count_rows(rows, before=len(jobs) - len(todo))
        counts += f" ({lost} of them without a result; pass --resume)" if lost else ""
        print(f"{counts}; {options.tell(options.out / summary.CSV)}")
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
) -> tuple[list[str], int]:
    """Keeps and reports each row.

    Returns:
        The messages of those that failed, and how many of them are jobs without any result.
    """
    from tqdm import tqdm

    failed, lost = [], 0
    few = len(todo) <= _SHOWN
    before = {job for job in todo if any(map(job.options.holds, job.outputs))}
    with tqdm(results, total=len(todo), unit="image", disable=True if few else None) as bar:
        for job, row, seconds in _with_lost(bar, todo):
            name = str(job.source)
            if isinstance(row, InputError):
                told = job.options.tell(row)
                message = told if told.startswith(name) else f"{name}: {told}"
                if job in before:
                    message += " (outputs of an earlier run are still there)"
                warnings = getattr(row, "warnings", [])
                journal.add(make_job_row(job, status="failed", error=message, warnings=warnings))
                failed.append(message)
                lost += isinstance(row, _Lost)
                with tqdm.external_write_mode():
                    print_error(message)
                continue
            journal.add({**row, "seconds": round(seconds, 3)})
            odd = "".join(f"; {warning}" for warning in row["warnings"])
            if few or odd:
                with tqdm.external_write_mode():
                    found = f"{row['share']:.1%} {job.options.output} by {row['model']}"
                    mask = job.options.tell(job.mask)
                    print(one_line(f"{name} -> {mask}, {found}{odd}"), flush=True)
    return failed, lost


def _with_lost(results: Iterable[Done[Job, Row]], todo: Sequence[Job]) -> Iterator[Done[Job, Row]]:
    """Yields the results, and then an error for each job that has none."""
    left = {job.name: job for job in todo}
    for done in results:
        left.pop(done.item.name, None)
        yield done
    for job in left.values():
        yield Done(job, _Lost("has no result, as if its worker was lost; pass --resume"), 0.0)


def _here(models: Models, jobs: Sequence[Job], batch_size: int) -> Results:
    """Does the jobs in this process: images, then scans."""
    yield from _images(models, [job for job in jobs if not job.is_volume], batch_size)
    yield from _volumes(models, [job for job in jobs if job.is_volume])


def _images(models: Models, jobs: Sequence[Job], batch_size: int) -> Iterator[Done[Job, Row]]:
    """Yields each image's row, in order, once its outputs are written."""
    workers = count_workers()
    if any(job.source.url or job.options.bucket for job in jobs):
        workers += _WAITING
    return stream(
        jobs,
        functools.partial(prepare_image, models),
        functools.partial(compute_batch, models, batch_size),
        finish_image,
        batch_size=batch_size,
        workers=workers,
    )


def _volumes(models: Models, jobs: Sequence[Job]) -> Iterator[Done[Job, Row]]:
    """Yields each CT volume's row, in order, once its outputs are written."""
    for job in jobs:
        yield Done(job, *timed(predict_scan, models, job))
