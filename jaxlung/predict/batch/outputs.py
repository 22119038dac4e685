"""Plans and writes the outputs of `jaxlung predict`; each file appears whole or not at all."""

import dataclasses
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io import images
from jaxlung.io.ct.raw_volumes import SUFFIXES as RAW
from jaxlung.io.ct.resampling import write_scan
from jaxlung.io.viewers.drawing import draw_overlay
from jaxlung.io.volumes import Grid, write_mask
from jaxlung.predict.batch.formats import IMAGE_FORMATS, VOLUME_FORMATS, Format, MaskFile
from jaxlung.predict.batch.sources import Source
from jaxlung.predict.batch.summary import Row
from jaxlung.predict.prediction import Prediction
from jaxlung.predict.predictor import Predictor
from jaxlung.predict.slices import to_csv
from jaxlung.predict.volumes import VolumePrediction, picture
from jaxlung.structures import LUNG
from jaxlung.system.files import write_text
from jaxlung.system.processes import Share

if TYPE_CHECKING:
    from jaxlung.predict.buckets.output import Bucket

_OVERLAY = "_overlay.png"
_PROBABILITIES = ("_probability.png", "_probability.nii.gz")  # of an image, of a volume
_SLICES, _RESAMPLED = "_slices.csv", "_resampled.nii.gz"  # of a volume
_MASKS = [format.suffix for format in (*IMAGE_FORMATS.values(), *VOLUME_FORMATS.values())]
# What follows the stem in an output's name.
ENDS = (*_MASKS, _OVERLAY, *_PROBABILITIES, _SLICES, _RESAMPLED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `jaxlung predict` writes."""

    out: Path
    sides: bool = False  # labels 1 (right lung) and 2 (left lung) instead of one mask
    overlay: bool = True
    probabilities: bool = False
    slices: bool = False  # a table of the lungs in each slice of a scan
    resample: bool = False  # scans of a tilted gantry on a grid at right angles
    model: str = ""  # the name of an ensemble, for dicom-seg; "": that of the model itself
    output: str = LUNG  # the structure that they mark
    format: str = "png"  # of masks: a key of the tables in formats.py
    strict: bool = False  # refuse what the sanity gate warns of
    resume: bool = False  # pass over what is done
    overwrite: bool = False  # replace what is there
    share: Share | None = None  # of the files, where processes divide them; None: all
    parquet: bool = False  # the summary also as summary.parquet
    bucket: "Bucket | None" = None  # where the files of `out` go; None: they stay

    def tell(self, text: object) -> str:
        """Names the bucket where a message names `out`."""
        return self.bucket.tell(str(text)) if self.bucket else str(text)

    def holds(self, path: Path) -> bool:
        """Says whether an output is there."""
        # Not Path.exists, which raises where a name is too long.
        return self.bucket.holds(path) if self.bucket else os.path.exists(path)


class Job(NamedTuple):
    """A source and where its outputs go."""

    source: Source
    options: Options

    @property
    def is_volume(self) -> bool:
        return self.source.is_volume

    @property
    def name(self) -> str:
        return str(self.source.name)

    @property
    def format(self) -> Format:
        return (VOLUME_FORMATS if self.is_volume else IMAGE_FORMATS)[self.options.format]

    @property
    def mask(self) -> Path:
        return self._path(self.format.suffix)

    @property
    def overlay(self) -> Path | None:
        return self._path(_OVERLAY) if self.options.overlay else None

    @property
    def probability(self) -> Path | None:
        return self._path(_PROBABILITIES[self.is_volume]) if self.options.probabilities else None

    @property
    def slices(self) -> Path | None:
        return self._path(_SLICES) if self.is_volume and self.options.slices else None

    @property
    def resampled(self) -> Path | None:
        """The scan itself, where `resample` moved its slices."""
        return self._path(_RESAMPLED) if self.is_volume and self.options.resample else None

    def _path(self, end: str) -> Path:
        return self.options.out / f"{self.source.name}{end}"

    @property
    def outputs(self) -> list[Path]:
        """The files that it may write: all but `resampled` it writes for sure."""
        paths = (self.mask, self.overlay, self.probability, self.slices, self.resampled)
        return [path for path in paths if path]

    def publish(self) -> None:
        """Moves what has been written to where it belongs, if that is a bucket."""
        if bucket := self.options.bucket:
            bucket.publish(path for path in self.outputs if path.exists())

    def is_done(self, row: Row | None, *, strict: bool) -> bool:
        """Tells whether this row is its result, its outputs exist and its file has not changed."""
        if row is None or row["status"] != "ok" or row["source"] != self.source.place:
            return False
        written = [p for p in self.outputs if p != self.resampled or row["resampled"]]
        is_there = self.options.bucket.holds if self.options.bucket else os.path.isfile
        if strict and row["warnings"] or not all(map(is_there, written)):
            return False
        try:
            return row["stamp"] == self.source.stamp
        except InputError:
            return False


def name_model(model: Predictor, options: Options) -> str:
    """Returns the name of the model, or of the ensemble, that makes a mask."""
    return options.model or model.workdir.name


def plan_jobs(sources: Sequence[Source], options: Options) -> list[Job]:
    """Decides where each source's outputs go; scans of one name in several formats keep theirs.

    Raises:
        InputError: two sources would write one file, or an output is an input.
    """
    inputs = {source.path.resolve() for source in sources if not source.url}
    urls = {source.url for source in sources if source.url}
    sources = _tell_apart(sources)
    owner: dict[str, Source] = {}
    jobs = [Job(source, options) for source in sources]
    for job in jobs:
        for target in job.outputs:
            # Some file systems tell neither case nor the forms of an accented letter apart.
            alike = unicodedata.normalize("NFC", str(target)).casefold()
            if alike in owner:
                raise InputError(
                    f"{job.source} and {owner[alike]} would both write {target}; "
                    f"rename one, or give them in two commands with two --out folders"
                )
            owner[alike] = job.source
            shown = options.tell(target)
            if target.resolve() in inputs or shown in urls:
                raise InputError(f"{shown} is an input image; name another --out folder")
    return jobs


def _tell_apart(sources: Sequence[Source]) -> list[Source]:
    """Gives scans of one name in several formats their whole file names: a.nii, a.mha, a.nrrd."""
    counts = Counter(source.name for source in sources if source.is_volume)
    files = [PurePosixPath(source.member or source.path.as_posix()) for source in sources]
    return [
        source._replace(name=source.name.with_name(file.name))
        if source.is_volume and counts[source.name] > 1 and file.suffix.lower() in RAW
        else source
        for source, file in zip(sources, files, strict=True)
    ]


def write_image(job: Job, found: Prediction, model: Predictor) -> None:
    """Writes an image's outputs; the mask first, as it alone may be refused."""
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    _write_mask(job, found.labels, model)
    if job.overlay:  # of sides the right lung is orange, the left one cyan
        lungs = [found.labels == 1, found.labels == 2] if job.options.sides else [found.mask]
        images.write_png(job.overlay, draw_overlay(found.image, *lungs))
    if job.probability:  # 65535 is 1
        images.write_png(job.probability, np.rint(found.probability * 65535).astype(np.uint16))
    job.publish()


def write_volume(
    job: Job,
    found: VolumePrediction,
    model: Predictor,
) -> None:
    """Writes a CT volume's outputs; the mask first, as it alone may be refused."""
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    grid = found.volume.grid
    _write_mask(job, found.labels_ZxHxW, model, grid)
    if job.overlay:
        images.write_png(job.overlay, picture(model, found.mask_ZxHxW, found.volume))
    if job.probability:
        assert found.probability_ZxHxW is not None
        write_mask(job.probability, found.probability_ZxHxW, grid, unit=1 / 255)
    if job.slices:
        write_text(job.slices, to_csv(found))
    if job.resampled and found.resampled:
        write_scan(job.resampled, found.volume)
    job.publish()


def _write_mask(job: Job, labels: np.ndarray, model: Predictor, grid: Grid | None = None) -> None:
    options = job.options
    name = name_model(model, options)
    job.format.write(
        MaskFile(*(job.mask, labels, options.sides, job.source, name, grid, options.output))
    )
