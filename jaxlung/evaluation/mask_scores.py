"""Scores masks on disk, of any tool, against true masks. No model is needed.

Masks are pictures, each of an X-ray or a slice, or volumes, whose slices are the images of the
report; `volume_scores` scores those.
"""

import functools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxlung.data.ct_folder import holds_volumes
from jaxlung.data.metadata import is_spacing, read_metadata
from jaxlung.errors import InputError, format_shape
from jaxlung.evaluation.mask_files import Files, ScoredFiles, match_masks
from jaxlung.evaluation.report import OUTPUTS, write_report
from jaxlung.evaluation.volume_scores import score_labels, score_volumes
from jaxlung.io.images import read_image, read_size
from jaxlung.io.masks import read_labels
from jaxlung.io.page import make_report_folder
from jaxlung.metrics import image
from jaxlung.metrics.set_scores import ImageScores, Picture, Scores
from jaxlung.system.digests import digest_splits
from jaxlung.system.environment import describe_environment
from jaxlung.system.threads import count_workers


def score(
    pred: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
    sides: bool = False,
    spacing_mm: float | None = None,
    tolerance: image.Tolerance = image.DEFAULT_TOLERANCE,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Scores a folder of masks against a folder of true masks, matched by stem.

    Writes metrics.json, per_image.csv and report.html, of volumes per_volume.csv too: see
    docs/reference/evaluation.md.

    Args:
        pred, truth: folders of masks, pictures or volumes. Stems may end in _mask, and pred may
            hold the overlays of `jaxlung predict`. An image without prediction scores the worst of
            everything.
        out: folder for the report.
        images: folder of the X-rays or CT volumes, to draw outlines on; None draws them on the true
            mask.
        metadata: a CSV as in `jaxlung.data.metadata`; None: metadata.csv beside the folder of true
            masks, if it is there.
        sides: masks hold labels, 1 the patient's right lung and 2 the left one.
        spacing_mm: side of a pixel of every image, or of a voxel, whatever metadata or headers say;
            None: as metadata say, of volumes as the headers of the true masks say.
        tolerance: of NSD.
        overwrite: replace an earlier report.

    Returns:
        the content of metrics.json.

    Raises:
        InputError: a folder or file is missing or unreadable, has another size or grid than its
            truth, has an unknown id, or holds other values than a mask has.

    Example:
        >>> from jaxlung import score
        >>> report = score("predicted", "masks", "report", spacing_mm=0.2)  # doctest: +SKIP
        >>> report["results"][0]["grids"]["original"]["per_image"]["dice"]  # doctest: +SKIP
    """
    started = time.monotonic()
    image.check_tolerance(tolerance)
    pred, truth, out = Path(pred), Path(truth), Path(out)
    if spacing_mm is not None and not is_spacing(spacing_mm):
        raise InputError(f"--spacing-mm {spacing_mm}: expected millimetres between 0.0001 and 100")
    are_volumes = holds_volumes(truth)
    files = match_masks(pred, truth, Path(images) if images else None, volumes=are_volumes)
    names = tuple(file.id for file in files)
    beside = truth.resolve().parent / "metadata.csv"
    known = read_metadata(Path(metadata or beside) if metadata or beside.exists() else None, names)
    square = (spacing_mm, spacing_mm) if spacing_mm else None
    make_report_folder(out, OUTPUTS, overwrite=overwrite)

    patients = known.patients or names
    if are_volumes:
        scored = score_volumes(files, patients, spacing_mm, sides=sides, tolerance=tolerance)
    else:
        spacings = [square or spacing for spacing in known.spacings]
        scored = _score_pictures(files, spacings, sides=sides, tolerance=tolerance)
    warnings = list(scored.warnings)
    if missing := sum(file.prediction is None for file in files):
        what = "volumes" if are_volumes else "images"
        text = f"{missing} of {len(names)} {what} have no prediction: they score the worst"
        warnings.insert(0, text)
    digests = [image.digest for image in scored.images]
    scores = Scores(
        model=_name(pred),
        data=_name(truth),
        ids=scored.ids,
        patients=tuple(patients[i] for i in scored.files),
        groups={
            column: tuple(values[i] for i in scored.files)
            for column, values in known.groups.items()
        },
        images=scored.images,
        reliability=None,
        facts={
            "source": str(truth),
            "split": "all",
            "fingerprint": _digest_all(scored.ids, digests),
            "warnings": warnings,
            "seconds": round(time.monotonic() - started, 2),
        },
        pictures=scored.pictures,
        volumes=scored.volumes,
    )
    digest = _digest_all(scored.ids, scored.digests)
    models = {scores.model: {"masks": str(pred), "masks_sha256": digest}}
    environment, seconds = describe_environment(devices=False), time.monotonic() - started
    return write_report(out, [scores], models, tolerance, environment, seconds)


def _score_pictures(
    files: Sequence[Files],
    spacings: Sequence[tuple[float, float] | None],
    *,
    sides: bool,
    tolerance: image.Tolerance,
) -> ScoredFiles:
    """Scores masks of single images, several at a time."""
    score_file = functools.partial(_score, sides=sides, tolerance=tolerance)
    with ThreadPoolExecutor(count_workers()) as pool:
        results = pool.map(score_file, files, spacings)
        bar = {"desc": "scored", "unit": "image", "disable": None, "leave": False}
        scored, digests = zip(*tqdm(results, total=len(files), **bar), strict=True)

    def picture(index: int) -> Picture:
        file = files[index]
        truth_HxW, prediction_HxW = _read_pair(file, sides=sides)
        film = read_image(file.image) if file.image else None
        return Picture(film, prediction_HxW > 0, truth_HxW > 0)

    ids = tuple(file.id for file in files)
    return ScoredFiles(ids, range(len(ids)), scored, digests, functools.partial(map, picture))


def _digest_all(ids: Sequence[str], digests: Sequence[str]) -> str:
    return digest_splits({"all": dict(zip(ids, digests, strict=True))})


def _name(directory: Path) -> str:
    """Returns a folder's name, or that of the folder above it if it is just "masks"."""
    path = directory.resolve()
    return path.parent.name if path.name in ("masks", "mask") and path.parent.name else path.name


def _score(
    file: Files, spacing: tuple[float, float] | None, *, sides: bool, tolerance: image.Tolerance
) -> tuple[ImageScores, str]:
    """Returns the scores of an image, and the digest of its prediction."""
    truth_HxW, prediction_HxW = _read_pair(file, sides=sides)
    missing = file.prediction is None
    return score_labels(
        prediction_HxW, truth_HxW, spacing, sides=sides, missing=missing, tolerance=tolerance
    )


def _read_pair(file: Files, *, sides: bool) -> tuple[np.ndarray, np.ndarray]:
    """Reads the truth and the prediction, which is empty if there is none."""
    truth_HxW = read_labels(file.truth, sides=sides)
    if file.image:
        remedy = "leave --images out, or give both one size"
        _check_size(file.image, read_size(file.image), file.truth, truth_HxW.shape, remedy)
    if file.prediction is None:
        return truth_HxW, np.zeros_like(truth_HxW)
    prediction_HxW = read_labels(file.prediction, sides=sides)
    remedy = "resample it to the image's own size"
    _check_size(file.prediction, prediction_HxW.shape, file.truth, truth_HxW.shape, remedy)
    return truth_HxW, prediction_HxW


def _check_size(
    path: Path, size: tuple[int, ...], truth: Path, true_size: tuple[int, ...], remedy: str
) -> None:
    if size != true_size:
        found, expected = format_shape(size), format_shape(true_size)
        raise InputError(
            f"{path}: is {found} but the true mask {truth} is {expected} (height x width); {remedy}"
        )
