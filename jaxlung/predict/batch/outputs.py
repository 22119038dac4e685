"""Plans and writes the outputs of `jaxlung predict`; each file appears whole or not at all."""

import dataclasses
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io import images
from jaxlung.io.drawing import draw_overlay
from jaxlung.io.volumes import Volume, write_mask
from jaxlung.predict.batch.formats import IMAGE_FORMATS, VOLUME_FORMATS, Format, MaskFile
from jaxlung.predict.batch.sources import Source
from jaxlung.predict.batch.summary import Row
from jaxlung.predict.prediction import Prediction
from jaxlung.predict.predictor import Predictor
from jaxlung.predict.volumes import picture
from jaxlung.system.processes import Share

_OVERLAY = "_overlay.png"
_PROBABILITIES = ("_probability.png", "_probability.nii.gz")  # of an image, of a volume
_MASKS = [format.suffix for format in (*IMAGE_FORMATS.values(), *VOLUME_FORMATS.values())]
ENDS = (*_MASKS, _OVERLAY, *_PROBABILITIES)  # that follow the stem in an output's name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `jaxlung predict` writes."""

    out: Path
    sides: bool = False  # labels 1 (right lung) and 2 (left lung) instead of one mask
    overlay: bool = True
    probabilities: bool = False
    model: str = "cxr"  # whose masks they are, for dicom-seg
    format: str = "png"  # of masks: a key of the tables in formats.py
    strict: bool = False  # refuse what the sanity gate warns of
    resume: bool = False  # pass over what is done
    overwrite: bool = False  # replace what is there
    share: Share | None = None  # of the files, where processes divide them; None: all


class Job(NamedTuple):
    """A source and where its outputs go."""

    source: Source
    format: Format
    mask: Path
    overlay: Path | None
    probability: Path | None

    @property
    def name(self) -> str:
        return str(self.source.name)

    @property
    def outputs(self) -> list[Path]:
        return [path for path in (self.mask, self.overlay, self.probability) if path]

    def is_done(self, row: Row | None, *, strict: bool) -> bool:
        """Tells whether this row is its result, its outputs exist and its file has not changed."""
        if row is None or row["status"] != "ok" or row["source"] != self.source.place:
            return False
        if strict and row["warnings"] or not all(map(os.path.isfile, self.outputs)):
            return False
        try:
            return row["stamp"] == self.source.stamp
        except InputError:
            return False


def plan_jobs(sources: Sequence[Source], options: Options, *, volumes: bool) -> list[Job]:
    """Decides where each source's outputs go.

    Raises:
        InputError: two sources would write one file, or an output is an input.
    """
    format = (VOLUME_FORMATS if volumes else IMAGE_FORMATS)[options.format]
    probability = _PROBABILITIES[volumes]
    inputs = {source.path.resolve() for source in sources}
    owner: dict[str, Source] = {}
    jobs = []
    for source in sources:
        stem = options.out / source.name
        job = Job(
            source,
            format,
            mask=stem.with_name(stem.name + format.suffix),
            overlay=stem.with_name(stem.name + _OVERLAY) if options.overlay else None,
            probability=stem.with_name(stem.name + probability) if options.probabilities else None,
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


def write_image(job: Job, found: Prediction, options: Options) -> None:
    """Writes an X-ray's outputs; the mask first, as it alone may be refused."""
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    job.format.write(MaskFile(job.mask, found.labels, options.sides, job.source, options.model))
    if job.overlay and options.sides:  # the right lung orange, the left one cyan
        lungs = (found.labels == 1, found.labels == 2)
        images.write_png(job.overlay, draw_overlay(found.image, *lungs))
    elif job.overlay:
        images.write_png(job.overlay, draw_overlay(found.image, found.mask))
    if job.probability:  # 65535 is 1
        images.write_png(job.probability, np.rint(found.probability * 65535).astype(np.uint16))


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
        images.write_png(job.overlay, picture(model, labels_ZxHxW > 0, volume))
    if job.probability:
        write_mask(job.probability, probability_ZxHxW, volume.grid)
    job.format.write(
        MaskFile(job.mask, labels_ZxHxW, options.sides, job.source, options.model, volume.grid)
    )
