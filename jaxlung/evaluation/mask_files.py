"""The files that `jaxlung score` compares: masks of two folders, matched by stem."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxlung.data.ct_folder import is_volume_file, list_volumes
from jaxlung.data.folder import list_images
from jaxlung.errors import InputError
from jaxlung.io.images import is_image
from jaxlung.metrics.set_scores import ImageScores, Picture, VolumeScores

PICTURES = ("_overlay", "_probability")  # ends of the names of what `predict` writes beside masks


class Files(NamedTuple):
    """The files of an image or a volume."""

    id: str
    truth: Path
    prediction: Path | None  # None: there is none, which counts as a failure
    image: Path | None  # to draw on


class ScoredFiles(NamedTuple):
    """What scoring the files of two folders gives, for N images: single ones, or slices."""

    ids: tuple[str, ...]
    files: Sequence[int]  # which of the files each image is in
    images: Sequence[ImageScores]
    digests: Sequence[str]  # of the predictions
    pictures: Callable[[Sequence[int]], Iterator[Picture]]
    volumes: Sequence[VolumeScores] | None = None
    warnings: tuple[str, ...] = ()


def match_masks(
    pred: Path, truth: Path, images: Path | None, *, volumes: bool = False
) -> list[Files]:
    """Finds each true mask's prediction and image by stem.

    Args:
        volumes: the masks are volumes, and other files are passed over.

    Raises:
        InputError: a prediction has an unknown id, there is none at all, or images are given and
            a true mask has none.
    """
    list_files = list_volumes if volumes else list_images
    suffix = ".nii.gz" if volumes else ".png"
    truths = _by_id(list_files(truth), {})
    predictions = _by_id(list_files(pred), truths)
    for folder in sorted(path for path in pred.iterdir() if path.is_dir()):
        below = (path for path in folder.rglob("*") if path.is_file())
        if any(map(is_volume_file if volumes else is_image, below)):
            raise InputError(
                f"{folder}: holds masks in a folder below; score compares two folders without: "
                f"score each in its turn"
            )
    for image_id, path in predictions.items():
        if image_id not in truths:
            raise InputError(
                f"{path}: there is no true mask {image_id}{suffix} or {image_id}_mask{suffix} in "
                f"{truth}; rename it or move it away"
            )
    if not predictions:
        raise InputError(f"{pred}: holds no mask of an image in {truth}")
    pictures = list_files(images) if images else {}
    for image_id, path in truths.items():
        if images and image_id not in pictures:
            raise InputError(f"{path}: has no image {image_id}{suffix} in {images}")
    return [
        Files(image_id, path, predictions.get(image_id), pictures.get(image_id))
        for image_id, path in truths.items()
    ]


def _by_id(listed: Mapping[str, Path], known: Mapping[str, Path]) -> dict[str, Path]:
    """Names the masks of a folder by stem, without _mask and the pictures of `predict`."""
    masks: dict[str, Path] = {}
    for stem, path in listed.items():
        image_id = stem if stem in known else stem.removesuffix("_mask")
        if image_id not in known and any(stem.removesuffix(end) in known for end in PICTURES):
            continue
        if image_id in masks:
            raise InputError(f"{path}: and {masks[image_id].name} are of one image; keep one")
        masks[image_id] = path
    return masks
