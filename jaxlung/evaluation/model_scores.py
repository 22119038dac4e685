"""Predicts every image of a split by one model and scores it on both grids. None is dropped.

Training happens on the network's grid; masks are used on the image's own grid.
"""

import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from jaxlung.data.ct_folder import volume_name
from jaxlung.data.duplicates import digest_canvas, hash_image
from jaxlung.data.splits import Example, Split
from jaxlung.devices import distributed
from jaxlung.errors import InputError
from jaxlung.evaluation.own_data import describe_seen
from jaxlung.evaluation.volume_scores import SliceMasks, score_scan
from jaxlung.gate.image import rotate
from jaxlung.masks import sides
from jaxlung.metrics import calibration, image
from jaxlung.metrics.calibration import Reliability
from jaxlung.metrics.image import DEFAULT_TOLERANCE, Tolerance
from jaxlung.metrics.set_scores import ImageScores, Picture, Scores, VolumeScores
from jaxlung.predict.prediction import Prepared
from jaxlung.predict.predictor import Predictor
from jaxlung.preprocess import is_lung, to_canvas
from jaxlung.structures import LUNG, LUNG_AND_HEART
from jaxlung.system.digests import digest_example, digest_splits


class Task(NamedTuple):
    """One model on one set."""

    model: str
    predictor: Predictor
    data: str
    source: str  # where the images come from
    split: Split
    warning: str | None
    truth: str = LUNG  # the structure that the true masks mark: what the model marks, mostly

    @property
    def label(self) -> str:
        """The set's name in a report, with the structure where that is not the lung."""
        return self.data if self.truth == LUNG else f"{self.data} ({self.truth})"

    def of(
        self, output: str, split: Split, truth: str | None = None, warning: str | None = None
    ) -> "Task":
        """Returns a task that scores one output on some of the images."""
        texts = [text for text in (self.warning, warning) if text]
        return self._replace(
            predictor=self.predictor.for_output(output),
            split=split,
            warning="; ".join(texts) or None,
            truth=truth or output,
        )


class _Scored(NamedTuple):
    """What is known of one image once it is scored."""

    scores: ImageScores
    reliability: Reliability
    canvas_digest: str  # of the canvas that training would see: an inverted film stays so
    hash: str  # `duplicates.hash_image`, where the run has hashes to compare it with; or ""
    inverted: bool  # the gate took the film for a negative, and turned it over
    degrees: int  # by which it was rotated, and was turned back
    masks: SliceMasks | None = None  # of CT, until the scan is scored


def score_split(task: Task, tolerance: Tolerance = DEFAULT_TOLERANCE) -> Scores:
    """Predicts and scores every image of a split; each of several processes takes a share.

    What is scored and drawn is what `jaxlung predict` would write: an inverted film is turned over
    first, a rotated one upright, and the mask is cleaned up.
    """
    started = time.monotonic()
    predictor, split = task.predictor, task.split
    patients = split.patients or split.ids
    is_ct = predictor.config.modality == "ct"
    scan_of = [volume_name(name) if is_ct else "" for name in split.ids]
    own = _share(scan_of, jax.process_index(), jax.process_count())

    place = functools.partial(_place, split, predictor, task.truth)
    score = functools.partial(_score, predictor=predictor, tolerance=tolerance)
    scored: dict[int, _Scored] = {}
    scans: list[VolumeScores] = []
    with tqdm(
        predictor.stream(own, place, score),
        total=len(own),
        desc=f"{task.model} on {task.label}",
        unit="image",
        disable=None if distributed.is_main() else True,
        leave=False,
    ) as progress:
        for scan, slices in itertools.groupby(progress, key=lambda done: scan_of[done.item]):
            masks: list[SliceMasks] = []
            for done in slices:
                if isinstance(done.result, InputError):
                    raise done.result
                if done.result.masks:
                    masks.append(done.result.masks)
                scored[done.item] = done.result._replace(masks=None)
            if masks:
                patient = patients[done.item]
                scans.append(
                    score_scan(scan, patient, masks, tolerance, clean_up=predictor.clean_up_scan)
                )
    scored, scans = _of_all_processes(scored, scans)
    images, reliabilities, canvas_digests, hashes, inverted, degrees = zip(
        *(scored[i][:-1] for i in range(len(split.ids))), strict=True
    )
    digests = dict(zip(split.ids, (image.digest for image in images), strict=True))
    facts = {
        "source": task.source,
        "split": split.name,
        "output": predictor.output,
        "truth": task.truth,
        "fingerprint": digest_splits({split.name: digests}),
        "warnings": [
            *([task.warning] if task.warning else []),
            *_say_turned(sum(inverted), len(split.ids), "looked inverted (air is bright)", "over"),
            *_say_turned(sum(map(bool, degrees)), len(split.ids), "looked rotated", "upright"),
            *describe_seen(
                predictor.data, predictor.config.train.init_from, canvas_digests, hashes
            ),
        ],
        "seconds": round(time.monotonic() - started, 2),
    }

    def pictures(indices: Iterable[int]) -> Iterator[Picture]:
        placed, again = itertools.tee(map(place, indices))  # a batch of them is in memory
        probabilities = predictor.probabilities(one.canvas for one in placed)
        for one, probability_SxS in zip(again, probabilities, strict=True):
            found = predictor.finish(one.prepared, probability_SxS)
            yield Picture(found.image, found.mask, one.truth_HxW)

    return Scores(
        model=task.model,
        data=task.label,
        output=predictor.output,
        ids=split.ids,
        patients=patients,
        groups=split.groups,
        images=images,
        reliability=calibration.sum_reliability(reliabilities),
        facts=facts,
        pictures=pictures,
        volumes=scans if is_ct else None,
    )


def _share(scan_of: Sequence[str], process: int, count: int) -> list[int]:
    """Returns the images that a process scores: every count-th one, or the slices of such scans."""
    if not any(scan_of):
        return list(range(process, len(scan_of), count))
    number = {scan: i for i, scan in enumerate(dict.fromkeys(scan_of))}
    return [i for i, scan in enumerate(scan_of) if number[scan] % count == process]


def _of_all_processes(
    scored: dict[int, _Scored], scans: list[VolumeScores]
) -> tuple[dict[int, _Scored], list[VolumeScores]]:
    """Gathers the images and scans that each process has scored; scans in order of their names."""
    if jax.process_count() == 1:
        return scored, scans
    rows = [
        (index, one.scores, [part.tolist() for part in one.reliability], *one[2:])
        for index, one in scored.items()
    ]
    found: dict[int, _Scored] = {}
    found_scans: list[VolumeScores] = []
    for theirs, their_scans in distributed.gather((rows, scans)):
        for index, own, sums, *rest in theirs:
            found[index] = _Scored(ImageScores(*own), Reliability(*map(np.array, sums)), *rest)
        found_scans += [VolumeScores(*scan) for scan in their_scans]
    return found, sorted(found_scans, key=lambda scan: scan.id)


class _Placed(NamedTuple):
    """One image and its true mask on both grids."""

    example: Example
    truth_HxW: np.ndarray  # bool
    prepared: Prepared  # for the network, as `jaxlung predict` prepares it
    mask_SxS: np.ndarray  # of the truth, as `to_canvas` returns it; upright as the canvas
    digest: str  # of the canvas and the mask, as training records it
    hash: str

    @property
    def canvas(self) -> np.ndarray:
        """What the network sees, uint8 [S, S]."""
        return self.prepared.canvas


def _place(split: Split, predictor: Predictor, structure: str, index: int) -> _Placed:
    example, data = split.read(index), predictor.config.data
    truth_HxW = example.mask_of(structure)
    if truth_HxW is None:
        raise InputError(f"{split.sources[index]}: has no mask of {structure}")
    try:
        prepared = predictor.prepare(example.image)
        grey_HxW = 255 - prepared.image if prepared.inverted else prepared.image  # as in training
        canvas_SxS, mask_SxS, _ = to_canvas(grey_HxW, truth_HxW, size=data.size, fit=data.fit)
    except InputError as error:
        raise InputError(f"{split.sources[index]}: {error}") from error
    assert mask_SxS is not None
    digest = digest_canvas(canvas_SxS, mask_SxS[..., None])
    hashed = hash_image(grey_HxW) if predictor.data.hashes else ""
    if prepared.degrees:
        grey_HxW, mask_HxW = (rotate(p, -prepared.degrees) for p in (grey_HxW, truth_HxW))
        _, mask_SxS, _ = to_canvas(grey_HxW, mask_HxW, size=data.size, fit=data.fit)
        assert mask_SxS is not None
    return _Placed(example, truth_HxW, prepared, mask_SxS, digest, hashed)


def _score(
    placed: _Placed, probability_SxS: np.ndarray, predictor: Predictor, tolerance: Tolerance
) -> _Scored:
    example, truth_HxW, prepared, mask_SxS, canvas_digest, hashed = placed
    geometry, truth_SxS = prepared.geometry, is_lung(mask_SxS)
    found = predictor.finish(prepared, probability_SxS)
    prediction_HxW = found.mask
    prediction_SxS = predictor.to_mask(probability_SxS)
    splits = predictor.output in (LUNG, LUNG_AND_HEART)  # other structures are no two lungs
    lungs = sides.split_lungs(prediction_HxW, truth_HxW) if splits else None
    spacing = example.spacing
    canvas_spacing = spacing[::-1] if spacing and prepared.degrees % 180 else spacing
    canvas_spacing = canvas_spacing and (
        canvas_spacing[0] * geometry.height / geometry.box_height,
        canvas_spacing[1] * geometry.width / geometry.box_width,
    )
    grids = {
        "original": image.score_masks(
            prediction_HxW, truth_HxW, lungs=lungs, spacing=spacing, tolerance=tolerance
        ),
        "network": image.score_masks(
            prediction_SxS,
            truth_SxS,
            lungs=sides.split_lungs(prediction_SxS, truth_SxS) if splits else None,
            spacing=canvas_spacing,
            tolerance=tolerance,
        ),
    }
    flags = image.flag_failures(prediction_HxW, truth_HxW, lungs)
    stray = image.count_stray_pieces(prediction_HxW, truth_HxW)
    digest = digest_example(example.image, truth_HxW)
    # Not the letterbox's bars: they are no part of the image.
    reliability = calibration.count_reliability(
        geometry.box_of(probability_SxS), geometry.box_of(truth_SxS)
    )
    scores = ImageScores(grids, flags, stray, truth_HxW.shape, digest, found.confidence)
    facts = scores, reliability, canvas_digest, hashed, prepared.inverted, prepared.degrees
    if predictor.config.modality != "ct":
        return _Scored(*facts)
    side = (example.slice_mm, *spacing) if spacing and example.slice_mm else None
    return _Scored(*facts, SliceMasks.pack(prediction_HxW, truth_HxW, side))


def _say_turned(turned: int, count: int, looked: str, how: str) -> list[str]:
    if not turned:
        return []
    return [
        f"{turned} of these {count} films {looked} and were turned {how}, as `jaxlung predict` does"
    ]
