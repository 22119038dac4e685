"""Scores masks on disk, of any tool, against true masks. No model is needed."""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxlung.data.folder import list_images
from jaxlung.data.metadata import is_spacing, read_metadata
from jaxlung.errors import InputError, format_shape
from jaxlung.evaluation.report import OUTPUTS, write_report
from jaxlung.io.images import is_image, read_image, read_size
from jaxlung.io.masks import read_labels
from jaxlung.io.page import make_report_folder
from jaxlung.masks.sides import Lungs, lungs_from_labels, split_lungs
from jaxlung.metrics import image
from jaxlung.metrics.set_scores import ImageScores, Picture, Scores
from jaxlung.system.digests import digest_array, digest_splits
from jaxlung.system.environment import describe_environment
from jaxlung.system.threads import count_workers

PICTURES = ("_overlay", "_probability")  # ends of the names of what `predict` writes beside masks


class Files(NamedTuple):
    """The files of an image."""

    id: str
    truth: Path
    prediction: Path | None  # None: there is none, which counts as a failure
    image: Path | None  # to draw on


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

    Writes metrics.json, per_image.csv and report.html: see docs/evaluation.md.

    Args:
        pred, truth: folders of masks. Stems may end in _mask, and pred may hold the overlays of
            `jaxlung predict`. An image without prediction scores the worst of everything.
        out: folder for the report.
        images: folder of the X-rays, to draw outlines on; None draws them on the true mask.
        metadata: a CSV as in `jaxlung.data.metadata`; None: metadata.csv beside the folder of true
            masks, if it is there.
        sides: masks hold labels, 1 the patient's right lung and 2 the left one.
        spacing_mm: side of a pixel of every image, whatever metadata say; None: as metadata say.
        tolerance: of NSD.
        overwrite: replace an earlier report.

    Returns:
        the content of metrics.json.

    Raises:
        InputError: a folder or file is missing or unreadable, has another size than its truth, has
            an unknown id, or holds other values than a mask has.

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
    files = match_masks(pred, truth, Path(images) if images else None)
    ids = tuple(file.id for file in files)
    beside = truth.resolve().parent / "metadata.csv"
    known = read_metadata(Path(metadata or beside) if metadata or beside.exists() else None, ids)
    square = (spacing_mm, spacing_mm) if spacing_mm else None
    spacings = [square or spacing for spacing in known.spacings]
    make_report_folder(out, OUTPUTS, overwrite=overwrite)

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

    warnings = []
    if missing := sum(file.prediction is None for file in files):
        warnings.append(f"{missing} of {len(ids)} images have no prediction: they score the worst")
    scores = Scores(
        model=_name(pred),
        data=_name(truth),
        ids=ids,
        patients=known.patients or ids,
        groups=known.groups,
        images=scored,
        reliability=None,
        facts={
            "source": str(truth),
            "split": "all",
            "fingerprint": _digest_all(ids, [row.digest for row in scored]),
            "warnings": warnings,
            "seconds": round(time.monotonic() - started, 2),
        },
        pictures=functools.partial(map, picture),
    )
    digest = _digest_all(ids, digests)
    models = {scores.model: {"masks": str(pred), "masks_sha256": digest}}
    environment, seconds = describe_environment(devices=False), time.monotonic() - started
    return write_report(out, [scores], models, tolerance, environment, seconds)


def _digest_all(ids: Sequence[str], digests: Sequence[str]) -> str:
    return digest_splits({"all": dict(zip(ids, digests, strict=True))})


def match_masks(pred: Path, truth: Path, images: Path | None) -> list[Files]:
    """Finds each true mask's prediction and image by stem.

    Raises:
        InputError: a prediction has an unknown id, there is none at all, or images are given and
            a true mask has none.
    """
    truths = _by_id(truth, {})
    predictions = _by_id(pred, truths)
    for folder in sorted(path for path in pred.iterdir() if path.is_dir()):
        if any(is_image(path) for path in folder.rglob("*") if path.is_file()):
            raise InputError(
                f"{folder}: holds masks in a folder below; score compares two folders without: "
                f"score each in its turn"
            )
    for image_id, path in predictions.items():
        if image_id not in truths:
            raise InputError(
                f"{path}: there is no true mask {image_id}.png or {image_id}_mask.png in {truth}; "
                f"rename it or move it away"
            )
    if not predictions:
        raise InputError(f"{pred}: holds no mask of an image in {truth}")
    pictures = list_images(images) if images else {}
    for image_id, path in truths.items():
        if images and image_id not in pictures:
            raise InputError(f"{path}: has no image {image_id}.png in {images}")
    return [
        Files(image_id, path, predictions.get(image_id), pictures.get(image_id))
        for image_id, path in truths.items()
    ]


def _name(directory: Path) -> str:
    """Returns a folder's name, or that of the folder above it if it is just "masks"."""
    path = directory.resolve()
    return path.parent.name if path.name in ("masks", "mask") and path.parent.name else path.name


def _by_id(directory: Path, known: Mapping[str, Path]) -> dict[str, Path]:
    """Lists the masks of a folder by stem, without _mask and the pictures of `predict`."""
    masks: dict[str, Path] = {}
    for stem, path in list_images(directory).items():
        image_id = stem if stem in known else stem.removesuffix("_mask")
        if image_id not in known and any(stem.removesuffix(end) in known for end in PICTURES):
            continue
        if image_id in masks:
            raise InputError(f"{path}: and {masks[image_id].name} are of one image; keep one")
        masks[image_id] = path
    return masks


def _score(
    file: Files, spacing: tuple[float, float] | None, *, sides: bool, tolerance: image.Tolerance
) -> tuple[ImageScores, str]:
    """Returns the scores of an image, and the digest of its prediction."""
    truth_HxW, prediction_HxW = _read_pair(file, sides=sides)
    truth, prediction, missing = truth_HxW > 0, prediction_HxW > 0, file.prediction is None
    lungs: Lungs | None = (
        lungs_from_labels(prediction_HxW, truth_HxW) if sides else split_lungs(prediction, truth)
    )
    if missing:
        scores = image.score_missing(truth, lungs=lungs, spacing=spacing)
    else:
        scores = image.score_masks(
            prediction, truth, lungs=lungs, spacing=spacing, tolerance=tolerance
        )
    flags = image.flag_failures(prediction, truth, lungs, missing=missing)
    stray, digest = image.count_stray_pieces(prediction, truth), digest_array(truth_HxW)
    scored = ImageScores({"original": scores}, flags, stray, truth.shape, digest)
    return scored, digest_array(prediction_HxW)


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
