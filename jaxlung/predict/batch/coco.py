"""Writes the masks of a batch as COCO annotations, for label tools."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxlung.errors import InputError, format_shape
from jaxlung.io.masks import read_labels
from jaxlung.io.viewers.rle import encode_runs
from jaxlung.predict.batch.earlier import read_earlier
from jaxlung.predict.batch.shares import list_shares
from jaxlung.predict.batch.summary import Row
from jaxlung.structures import LEFT_LUNG, RIGHT_LUNG
from jaxlung.system.files import check_file, write_text
from jaxlung.version import __version__

_SIDES = "right 1, left 2"  # in the settings of a summary


def write_coco(folder: Path, out: Path, *, overwrite: bool = False) -> str:
    """Writes the masks in a folder of `jaxlung predict`, as they are now, into one COCO file.

    A mask that was corrected since is taken as it is. An image without a mask that marks anything
    is listed, without an annotation.

    Returns:
        What was written, in words.

    Raises:
        InputError: the folder holds no predictions as PNG, or shares that are not joined; a mask
            is missing, damaged or of another size than its image; or the file exists.
    """
    check_file(out, overwrite=overwrite)
    if list_shares(folder):
        raise InputError(f"{folder}: holds shares; unite them first, by: jaxlung join {folder}")
    earlier = read_earlier(folder)
    settings = earlier.settings
    if settings is None:
        raise InputError(f"{folder}: holds no predictions; name the --out of `jaxlung predict`")
    if settings["format"] != "png":
        raise InputError(
            f"{folder}: holds masks of --format {settings['format']}; predict them as png"
        )
    sides = settings["masks"] == _SIDES
    structures = (RIGHT_LUNG, LEFT_LUNG) if sides else (settings["masks"],)
    done = [row for row in earlier.rows.values() if row["status"] == "ok"]
    films = [row for row in done if row["slices"] is None]
    annotations: list[dict[str, Any]] = []
    for i, row in enumerate(films, 1):
        for category, mask_HxW in _read_masks(folder, row, sides):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": category,
                    "segmentation": encode_runs(mask_HxW),
                    "area": int(mask_HxW.sum()),
                    "bbox": _find_box(mask_HxW),
                    "iscrowd": 1,  # so COCO marks run lengths; with 0 tools expect polygons
                    "score": row["confidence"],
                }
            )
    content = {
        "info": {"description": f"Masks by jaxlung {__version__}"},
        "licenses": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(structures, 1)],
        "images": [
            {
                "id": i,
                "file_name": _name_image(row),
                "height": row["height"],
                "width": row["width"],
            }
            for i, row in enumerate(films, 1)
        ],
        "annotations": annotations,
    }
    write_text(out, json.dumps(content))  # a number a line, as summaries are, would be long
    passed_over = f", {len(done) - len(films)} scans passed over" if len(films) < len(done) else ""
    return f"{out}: {len(films)} images, {len(annotations)} masks{passed_over}"


def _read_masks(folder: Path, row: Row, sides: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the category and the mask, bool [H, W], of each structure that an image shows."""
    path = folder / row["mask"]
    labels_HxW = read_labels(path, sides=sides)
    if labels_HxW.shape != (row["height"], row["width"]):
        own, image = format_shape(labels_HxW.shape), f"{row['height']}x{row['width']}"
        raise InputError(f"{path}: is {own}, but its image {image}; predict it again")
    for label in (1, 2):
        if (mask_HxW := labels_HxW == label).any():
            yield label, mask_HxW


def _find_box(mask_HxW: np.ndarray) -> list[int]:
    """Returns left, top, width and height of what a mask marks."""
    rows, columns = (np.flatnonzero(mask_HxW.any(axis)) for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _name_image(row: Row) -> str:
    """Returns the image's file below the folder that was predicted, as "a/1.png"."""
    return str(PurePosixPath(row["name"]).with_name(Path(row["image"]).name))
