"""Predicts every image of a split by one model and scores it on both grids. None is dropped.

Training happens on the network's grid; masks are used on the image's own grid.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from jaxlung.config import DataConfig
from jaxlung.data.ct_folder import volume_name
from jaxlung.data.input_pipeline import digest_canvas
from jaxlung.data.splits import Example, Split
from jaxlung.devices import distributed
from jaxlung.errors import InputError
from jaxlung.masks import sides
from jaxlung.metrics import calibration, image
from jaxlung.metrics.calibration import Reliability
from jaxlung.metrics.image import DEFAULT_TOLERANCE, Tolerance
from jaxlung.metrics.set_scores import ImageScores, Picture, Scores
from jaxlung.predict.predictor import Predictor
from jaxlung.preprocess import Geometry, from_canvas, is_lung, to_canvas
from jaxlung.system.digests import digest_example, digest_splits, is_example_digest


class Task(NamedTuple):
    """One model on one set."""

    model: str
    predictor: Predictor
    data: str
    source: str  # where the images come from
    split: Split
    warning: str | None


_Scored = tuple[ImageScores, Reliability, str]  # the last: the digest of an image's canvas


def score_split(task: Task, tolerance: Tolerance = DEFAULT_TOLERANCE) -> Scores:
    """Predicts and scores every image of a split; each of several processes takes a share.

    Images are predicted as training saw them: the sanity gate turns no inverted film over.
    """
    started = time.monotonic()
    predictor, split = task.predictor, task.split
    own = range(jax.process_index(), len(split.ids), jax.process_count())

    place = functools.partial(_place, split, predictor.config.data)
    score = functools.partial(_score, to_mask=predictor.to_mask, tolerance=tolerance)
    scored: list[_Scored] = []
    with tqdm(
        predictor.stream(own, place, score),
        total=len(own),
        desc=f"{task.model} on {task.data}",
        unit="image",
        disable=None if distributed.is_main() else True,
        leave=False,
    ) as progress:
        for done in progress:
            if isinstance(done.result, InputError):
                raise done.result
            scored.append(done.result)
    scored = _of_all_processes(scored, len(split.ids))
    images, reliabilities, canvas_digests = zip(*scored, strict=True)
    digests = dict(zip(split.ids, (image.digest for image in images), strict=True))
    facts = {
        "source": task.source,
        "split": split.name,
        "fingerprint": digest_splits({split.name: digests}),
        "warnings": [
            *([task.warning] if task.warning else []),
            *_seen_in_training(predictor, canvas_digests),
        ],
        "seconds": round(time.monotonic() - started, 2),
    }

    def pictures(indices: Iterable[int]) -> Iterator[Picture]:
        placed, again = itertools.tee(map(place, indices))  # a batch of them is in memory
        probabilities = predictor.probabilities(one.canvas for one in placed)
        for one, probability_SxS in zip(again, probabilities, strict=True):
            prediction_HxW = predictor.to_mask(from_canvas(probability_SxS, one.geometry))
            yield Picture(one.example.image, prediction_HxW, one.example.mask)

    return Scores(
        model=task.model,
        data=task.data,
        ids=split.ids,
        patients=split.patients or split.ids,
        groups=split.groups,
        images=images,
        reliability=calibration.sum_reliability(reliabilities),
        facts=facts,
        pictures=pictures,
        volumes=tuple(map(volume_name, split.ids)) if predictor.config.modality == "ct" else None,
    )


def _of_all_processes(scored: list[_Scored], count: int) -> list[_Scored]:
    """Gathers the images that each process has scored, in order."""
    if jax.process_count() == 1:
        return scored
    rows = [(image, [part.tolist() for part in sums], digest) for image, sums, digest in scored]
    found: dict[int, _Scored] = {}
    for process, theirs in enumerate(distributed.gather(rows)):
        for index, row in zip(range(process, count, jax.process_count()), theirs, strict=True):
            image, sums, digest = row
            found[index] = ImageScores(*image), Reliability(*map(np.array, sums)), digest
    return [found[index] for index in range(count)]


class _Placed(NamedTuple):
    """One image and its true mask on both grids."""

    example: Example
    canvas: np.ndarray  # uint8 [S, S]
    mask_SxS: np.ndarray  # uint8, as `to_canvas` returns it
    geometry: Geometry


def _place(split: Split, data: DataConfig, index: int) -> _Placed:
    example = split.read(index)
    try:
        canvas_SxS, mask_SxS, geometry = to_canvas(
            example.image, example.mask, size=data.size, fit=data.fit
        )
    except InputError as error:
        raise InputError(f"{split.sources[index]}: {error}") from error
    assert mask_SxS is not None
    return _Placed(example, canvas_SxS, mask_SxS, geometry)


def _score(
    placed: _Placed,
    probability_SxS: np.ndarray,
    to_mask: Callable[[np.ndarray], np.ndarray],
    tolerance: Tolerance,
) -> _Scored:
    example, canvas_SxS, mask_SxS, geometry = placed
    truth_SxS, truth_HxW = is_lung(mask_SxS), example.mask
    prediction_HxW = to_mask(from_canvas(probability_SxS, geometry))
    prediction_SxS = to_mask(probability_SxS)
    lungs = sides.split_lungs(prediction_HxW, truth_HxW)
    box = np.s_[
        geometry.top : geometry.top + geometry.box_height,
        geometry.left : geometry.left + geometry.box_width,
    ]
    spacing = example.spacing
    canvas_spacing = spacing and (
        spacing[0] * geometry.height / geometry.box_height,
        spacing[1] * geometry.width / geometry.box_width,
    )
    grids = {
        "original": image.score_masks(
            prediction_HxW, truth_HxW, lungs=lungs, spacing=spacing, tolerance=tolerance
        ),
        "network": image.score_masks(
            prediction_SxS,
            truth_SxS,
            lungs=sides.split_lungs(prediction_SxS, truth_SxS),
            spacing=canvas_spacing,
            tolerance=tolerance,
        ),
    }
    flags = image.flag_failures(prediction_HxW, truth_HxW, lungs)
    stray = image.count_stray_pieces(prediction_HxW, truth_HxW)
    digest = digest_example(example.image, example.mask)
    # Not the letterbox's bars: they are no part of the image.
    reliability = calibration.count_reliability(probability_SxS[box], truth_SxS[box])
    scores = ImageScores(grids, flags, stray, truth_HxW.shape, digest)
    return scores, reliability, digest_canvas(canvas_SxS, mask_SxS)


def _seen_in_training(predictor: Predictor, digests: Sequence[str]) -> list[str]:
    """Warns of images whose content the run trained on, or used to choose its epoch."""
    if not predictor.data_digests:
        return ["the run has no data.json: images that it was trained on cannot be recognised"]
    warnings = []
    if source := predictor.config.train.init_from:
        warnings.append(
            f"training started from the parameters of {source}: images that those were trained on "
            f"are not recognised"
        )
    for name, verb in (("train", "trained on"), ("validation", "used to choose the epoch")):
        recorded = predictor.data_digests.get(name, {}).values()
        if not all(map(is_example_digest, recorded)):  # a large split: `check_canvases`
            warnings.append(
                f"the run knows its {len(recorded)} {name} images by their files alone: those that "
                f"were {verb} cannot be recognised by content"
            )
            continue
        seen = {digest.split(":")[0] for digest in recorded}
        count = sum(digest.split(":")[0] in seen for digest in digests)
        if count:
            warnings.append(f"{count} of these {len(digests)} images were {verb}, by content")
    return warnings
