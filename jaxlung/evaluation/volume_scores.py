"""Scores masks of CT volumes: each scan as a whole, in mm; of masks on disk each slice, too.

One scan's masks are in memory at a time, with a byte for each voxel.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from jaxlung.config import DataConfig
from jaxlung.errors import InputError
from jaxlung.evaluation.mask_files import Files, ScoredFiles
from jaxlung.io.ct.hounsfield import apply_window, read_scan
from jaxlung.io.ct.labels import check_same_grid, read_label_volume
from jaxlung.io.volumes import Volume, read_grid
from jaxlung.masks.sides import Lungs, lungs_from_labels, split_lungs
from jaxlung.metrics import image
from jaxlung.metrics.set_scores import ImageScores, Picture, VolumeScores
from jaxlung.system.digests import digest_array
from jaxlung.system.threads import count_workers


def score_volumes(
    files: Sequence[Files],
    patients: Sequence[str],
    spacing_mm: float | None,
    *,
    sides: bool,
    tolerance: image.Tolerance,
) -> ScoredFiles:
    """Scores the masks of scans, one scan after the other.

    Args:
        files: of each scan.
        patients: of each scan.
        spacing_mm: side of every voxel; None: as the headers of the true masks say.
        sides: masks hold labels, 1 the patient's right lung and 2 the left one.
        tolerance: of NSD.

    Raises:
        InputError: a mask is unreadable, holds no labels or lies on another grid than its truth.
    """
    ids: list[str] = []
    file_of: list[int] = []
    slices: list[ImageScores] = []
    digests: list[str] = []
    scans: list[VolumeScores] = []
    unplaced = 0
    bar = {"desc": "scored", "unit": "volume", "disable": None, "leave": False}
    for i, file in enumerate(tqdm(files, **bar)):
        pair = _read_pair(file, sides=sides)
        spacing = (spacing_mm,) * 3 if spacing_mm else pair.spacing
        unplaced += spacing is None
        score = functools.partial(
            score_labels,
            spacing=spacing and spacing[1:],
            sides=sides,
            missing=file.prediction is None,
            tolerance=tolerance,
        )
        with ThreadPoolExecutor(count_workers()) as pool:
            scored = list(pool.map(score, pair.prediction_ZxHxW, pair.truth_ZxHxW))
        ids += [f"{file.id}_z{z:04d}" for z in range(len(scored))]
        file_of += [i] * len(scored)
        slices += [scores for scores, _ in scored]
        digests += [digest for _, digest in scored]
        scores = _score_whole(pair, spacing, file.prediction is None, sides, tolerance)
        scans.append(VolumeScores(file.id, patients[i], pair.truth_ZxHxW.shape, scores))
    warnings = [
        f"{unplaced} of {len(files)} volumes do not tell their spacing (default header): they have "
        f"no distances in mm; mend the headers, or pass --spacing-mm if voxels are cubes"
    ]
    return ScoredFiles(
        tuple(ids),
        file_of,
        slices,
        digests,
        functools.partial(_draw, files, file_of),
        scans,
        tuple(warnings if unplaced else ()),
    )


def score_labels(
    prediction_HxW: np.ndarray,
    truth_HxW: np.ndarray,
    spacing: tuple[float, ...] | None,
    *,
    sides: bool,
    missing: bool,
    tolerance: image.Tolerance,
) -> tuple[ImageScores, str]:
    """Scores an image, and returns its scores and the digest of its prediction.

    Args:
        prediction_HxW, truth_HxW: labels, 0 is background.
        spacing: height and width of a pixel in mm; None: not known.
        sides: the labels are 1 for the patient's right lung and 2 for the left one.
        missing: there is no prediction, and prediction_HxW is empty.
        tolerance: of NSD.
    """
    truth, prediction = truth_HxW > 0, prediction_HxW > 0
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


class SliceMasks(NamedTuple):
    """The masks of a slice, a bit for each pixel, until all of its scan are there."""

    prediction: np.ndarray
    truth: np.ndarray
    shape: tuple[int, ...]
    spacing: tuple[float, float, float] | None  # mm to the next slice, height and width of a pixel

    @classmethod
    def pack(
        cls,
        prediction_HxW: np.ndarray,
        truth_HxW: np.ndarray,
        spacing: tuple[float, float, float] | None,
    ) -> "SliceMasks":
        """Packs bool [H, W]."""
        packed = np.packbits(prediction_HxW), np.packbits(truth_HxW)
        return cls(*packed, truth_HxW.shape, spacing)


def score_scan(
    name: str,
    patient: str,
    slices: Sequence[SliceMasks],
    tolerance: image.Tolerance,
    *,
    clean_up: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> VolumeScores:
    """Scores a scan as one body.

    Args:
        name: of the scan.
        patient: whose scan it is.
        slices: all of its slices, in order.
        tolerance: of NSD.
        clean_up: what a prediction does with the mask of a whole scan, bool [Z, H, W].

    Example:
        >>> mask = np.eye(4, dtype=bool)
        >>> slices = [SliceMasks.pack(mask, mask, (3.0, 0.7, 0.7))] * 2
        >>> scan = score_scan("a", "p", slices, image.DEFAULT_TOLERANCE)
        >>> scan.size, scan.scores["dice"], scan.scores["hd95_mm"]
        ((2, 4, 4), 1.0, 0.0)
    """
    shape = (len(slices), *slices[0].shape)
    prediction, truth = np.empty(shape, bool), np.empty(shape, bool)
    for z, masks in enumerate(slices):
        for volume, bits in ((prediction, masks.prediction), (truth, masks.truth)):
            volume[z] = np.unpackbits(bits, count=volume[z].size).reshape(masks.shape)
    spacing = slices[0].spacing
    scores = image.score_masks(clean_up(prediction), truth, spacing=spacing, tolerance=tolerance)
    return VolumeScores(name, patient, shape, scores)


class _Pair(NamedTuple):
    """The masks of a scan, in the order of axial slices."""

    prediction_ZxHxW: np.ndarray  # labels, uint8; empty if there is no prediction
    truth_ZxHxW: np.ndarray
    spacing: tuple[float, float, float] | None  # None: the header does not tell it


def _read_pair(file: Files, *, sides: bool) -> _Pair:
    truth = _read_labels(file.truth, sides=sides)
    spacing = truth.spacing if truth.placed else None
    if file.image:
        check_same_grid(truth.grid, file.truth, read_grid(file.image), file.image)
    if file.prediction is None:
        return _Pair(np.zeros_like(truth.voxels_ZxHxW), truth.voxels_ZxHxW, spacing)
    prediction = _read_labels(file.prediction, sides=sides)
    check_same_grid(prediction.grid, file.prediction, truth.grid, file.truth)
    return _Pair(prediction.voxels_ZxHxW, truth.voxels_ZxHxW, spacing)


def _read_labels(path: Path, *, sides: bool) -> Volume:
    volume = read_label_volume(path)
    if sides and (highest := volume.voxels_ZxHxW.max()) > 2:
        raise InputError(
            f"{path}: holds labels up to {highest}; --sides takes 0, 1 (the patient's right lung) "
            f"and 2 (the left one)"
        )
    return volume


def _score_whole(
    pair: _Pair,
    spacing: tuple[float, ...] | None,
    missing: bool,
    sides: bool,
    tolerance: image.Tolerance,
) -> dict[str, float]:
    """Scores a scan as one body."""
    prediction, truth, _ = pair
    lungs = lungs_from_labels(prediction, truth) if sides else None
    if missing:
        return image.score_missing(truth > 0, lungs=lungs, spacing=spacing)
    return image.score_masks(
        prediction > 0, truth > 0, lungs=lungs, spacing=spacing, tolerance=tolerance
    )


def _draw(
    files: Sequence[Files], file_of: Sequence[int], indices: Sequence[int]
) -> Iterator[Picture]:
    """Makes the pictures of slices; reads each scan that has some of them once."""
    pictures: dict[int, Picture] = {}
    for i in sorted({file_of[index] for index in indices}):
        pair, scan, first = _read_pair(files[i], sides=False), files[i].image, file_of.index(i)
        own = [index for index in indices if file_of[index] == i]
        volume = read_scan(scan) if scan else None
        for index in own:
            z = index - first
            drawn = volume and apply_window(
                volume.voxels_ZxHxW[z], DataConfig.window_low, DataConfig.window_high
            )
            masks = pair.prediction_ZxHxW[z] > 0, pair.truth_ZxHxW[z] > 0
            pictures[index] = Picture(drawn, *masks)
    return (pictures[index] for index in indices)
