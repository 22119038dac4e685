"""Where the outputs of `jaxlung predict` go, and writing them: each file appears whole."""

import contextlib
import dataclasses
import functools
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.drawing import draw_overlay
from jaxlung.io.images import write_png
from jaxlung.io.volumes import Volume, write_mask
from jaxlung.predict.batch.sources import Source, on_disk
from jaxlung.predict.batch.summary import Earlier, Row, list_shares
from jaxlung.predict.predictor import Prediction, Predictor
from jaxlung.predict.volumes import picture
from jaxlung.system import files
from jaxlung.system.processes import Share


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `jaxlung predict` writes."""

    out: Path
    sides: bool = False  # labels 1 (right lung) and 2 (left), not one mask
    overlay: bool = True
    probabilities: bool = False
    model: str = "cxr"  # whose masks they are, for dicom-seg
    format: str = "png"  # of masks: "png" (NIfTI of volumes) or "dicom-seg"
    strict: bool = False  # what the sanity gate warns of is refused
    resume: bool = False  # what is done is passed over
    overwrite: bool = False  # what is there is replaced
    share: Share | None = None  # of the files, which processes work on side by side; None: all


class Job(NamedTuple):
    """A source and where its outputs go."""

    source: Source
    mask: Path
    overlay: Path | None
    probability: Path | None

    @property
    def outputs(self) -> list[Path]:
        return [path for path in (self.mask, self.overlay, self.probability) if path]


def plan_jobs(sources: Sequence[Source], options: Options, *, volumes: bool) -> list[Job]:
    """Where each source's outputs go.

    Raises:
        InputError: two sources would write one file, or an output is an input.
    """
    suffix = ".nii.gz" if volumes else ".png"
    mask_suffix = ".dcm" if options.format == "dicom-seg" else suffix
    inputs = {source.path.resolve() for source in sources}
    owner: dict[str, Source] = {}
    jobs = []
    for source in sources:
        stem = options.out / source.name

        def named(end: str, stem: Path = stem) -> Path:
            return stem.with_name(stem.name + end)

        job = Job(
            source,
            named(mask_suffix),
            named("_overlay.png") if options.overlay else None,
            named(f"_probability{suffix}") if options.probabilities else None,
        )
        for target in job.outputs:
            # Some file systems tell neither case nor the forms of an accented letter apart.
            alike = unicodedata.normalize("NFC", str(target)).casefold()
            if alike in owner:
                raise InputError(
                    f"{source} and {owner[alike]} would both write {target}; "
                    f"rename one, or give them in two commands with two --out folders"
                )
            owner[alike] = source
            if target.resolve() in inputs:
                raise InputError(f"{target} is an input image; name another --out folder")
        jobs.append(job)
    return jobs


def check_out(out: Path) -> None:
    """Refuses a folder that cannot be written to; makes none.

    Raises:
        InputError: that, or a file stands in its place.
    """
    there = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise InputError(f"--out {out}: {there} is no folder; name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: {there} cannot be written to; name another folder")


def is_done(job: Job, rows: Mapping[str, Row], options: Options) -> bool:
    """Whether its row and all its outputs are there, and its file is still the same."""
    row = rows.get(str(job.source.name))
    if row is None or row["status"] != "ok" or row["source"] != job.source.place:
        return False
    if options.strict and row["warnings"] or not all(map(os.path.isfile, job.outputs)):
        return False
    try:
        return row["stamp"] == job.source.stamp
    except InputError:
        return False


def check_nothing_replaced(jobs: Sequence[Job], earlier: Earlier | None) -> None:
    """Refuses to write over what is there.

    Args:
        earlier: what a batch that goes on has done or was about to do, whose own outputs are
            replaced; None: nothing is.

    Raises:
        InputError: an output that exists, unless it is of the same source in such a batch.
    """
    owners: dict[str, str] = {}
    if earlier is not None:
        owners = {name: row["source"] for name, row in earlier.rows.items()} | {**earlier.pending}
    for job in jobs:
        owner = owners.get(str(job.source.name))
        if owner == job.source.place:
            continue
        for target in job.outputs:
            if os.path.exists(target):
                of = f", of {owner}," if owner else ""
                raise InputError(
                    f"{target} exists{of} and is not replaced; name another --out folder, or pass "
                    f"--resume to go on with what was interrupted, or --overwrite"
                )


def check_same_run(earlier: Earlier, settings: Row, jobs: Sequence[Job], options: Options) -> None:
    """Refuses to mix predictions of two models, or of other settings, in one folder.

    Raises:
        InputError: some are there that are not to be replaced.
    """
    if earlier.settings is None:
        return
    kept = {name for name, row in earlier.rows.items() if row["status"] == "ok"}
    if options.overwrite and options.share is None:  # another share would find the rest
        kept -= {str(job.source.name) for job in jobs}
    if not kept:
        return
    before = earlier.settings
    field = next((f for f in settings if f != "model" and before.get(f) != settings[f]), "settings")
    remedy = "" if options.overwrite else ", or pass --overwrite to replace them all"
    raise InputError(
        f"{options.out}: holds {len(kept)} predictions made otherwise ({field}: "
        f"{before.get(field)} then, {settings.get(field)} now); give the same flags as then, name "
        f"another --out folder{remedy}"
    )


@contextlib.contextmanager
def alone_in(folder: Path, share: Share | None = None) -> Iterator[None]:
    """Raises InputError where another process writes the same files into the folder.

    Shares of one batch work side by side; a batch of all files has the folder to itself.
    """
    held = functools.partial(
        files.lock_folder,
        folder,
        "another jaxlung predict writes there; wait, or name another --out folder",
    )
    if share is None:
        with held():
            for path in sorted(folder.glob(".jaxlung.*-of-*.lock")):
                with held(name=path.name):
                    pass
            yield
        return
    with held(name=f".jaxlung.{share}.lock"):
        # After its own lock is held: of a share and a batch of all files one sees the other. Shares
        # that start together take turns.
        with held(wait=10, keep=True):
            pass
        for path in sorted(folder.glob(".jaxlung.*-of-*.lock")):
            if path.name.split("-of-")[-1] != f"{share.of:04}.lock":  # too new to have a journal
                with held(name=path.name, wait=10, keep=True):
                    pass
        other = next((one for one in list_shares(folder) if one.of != share.of), None)
        if other:
            raise InputError(
                f"{folder}: holds share {other.number}/{other.of}, and this is "
                f"{share.number}/{share.of}; join those first, by the command without --share, "
                f"with --resume"
            )
        yield


def write_image(job: Job, found: Prediction, options: Options) -> None:
    """Writes an X-ray's outputs; the mask first, as it alone may be refused."""
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    if options.format == "dicom-seg":
        _write_segmentation(job, found.labels, options)
    else:
        write_png(job.mask, found.labels if options.sides else found.mask.astype(np.uint8) * 255)
    if job.overlay and options.sides:  # the right lung orange, the left one cyan
        write_png(job.overlay, draw_overlay(found.image, found.labels == 1, found.labels == 2))
    elif job.overlay:
        write_png(job.overlay, draw_overlay(found.image, found.mask))
    if job.probability:  # 65535 is 1
        write_png(job.probability, np.rint(found.probability * 65535).astype(np.uint16))


def write_volume(
    job: Job,
    labels_ZxHxW: np.ndarray,
    probability_ZxHxW: np.ndarray,
    volume: Volume,
    model: Predictor,
    options: Options,
) -> None:
    """Writes a CT volume's outputs."""
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    if job.overlay:
        write_png(job.overlay, picture(model, labels_ZxHxW > 0, volume))
    if job.probability:
        write_mask(job.probability, probability_ZxHxW, volume.grid)
    if options.format == "dicom-seg":
        _write_segmentation(job, labels_ZxHxW, options)
    else:
        write_mask(job.mask, labels_ZxHxW if options.sides else labels_ZxHxW > 0, volume.grid)


def _write_segmentation(job: Job, labels: np.ndarray, options: Options) -> None:
    from jaxlung.io.dicom.segmentation import write_segmentation

    label = labels if options.sides else (labels > 0).astype(np.uint8)
    with on_disk(job.source) as path:
        write_segmentation(job.mask, path, label, sides=options.sides, model=options.model)
