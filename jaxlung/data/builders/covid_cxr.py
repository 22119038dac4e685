"""General Blockchain's outlines on 100 radiographs of COVID-19, as a TFDS data set."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.data.builders.shared import radiographs
from jaxlung.data.builders.shared.outlines import coco_mask
from jaxlung.errors import InputError

ORGANS = {"right lung": "mask_right", "left lung": "mask_left", "cardiomediastinum": "heart"}
Masks = dict[str, np.ndarray]
Records = Mapping[str, list[Any]]  # image file name to its annotations


class JaxlungCovidCxr(radiographs.Builder):
    """COVID-19 chest radiographs with outlines of lungs and cardiomediastinum.

    Radiographs of COVID-19 and other pneumonias, of many sources and sizes, with radiologists'
    outlines of the lungs and the cardiomediastinum. `mask` is both lungs without the
    cardiomediastinum (lung); its union with `heart` counts heart and mediastinum as lung
    (lung_and_heart). An empty `heart` was not outlined. Images with only one lung outlined, or
    annotated at another size, are left out (metadata: left_out).
    """

    MASK_NAMES = tuple(ORGANS.values())
    TEXT_NAMES = ("license",)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root = radiographs.manual_folder(dl_manager, "covid_cxr")
        radiographs.first_folder(root, "images")
        return {"train": self._generate_examples(root)}

    def _generate_examples(self, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        left_out: Counter[str] = Counter()
        unknown = 0  # images that metadata.csv does not name: each its own patient, no finding
        metadata = read_metadata(root / "metadata.csv")
        coco = root / "annotation" / "results.json"
        records: Records
        if coco.is_file():
            records, draw = read_coco(coco), draw_coco
        else:
            records, draw = read_structure(root / "structure.csv"), draw_crops
        stems = Counter(Path(file_name).stem for file_name in records)
        for file_name in sorted(records):
            path = root / "images" / file_name
            if not path.is_file():
                raise InputError(f"{path}: is missing, though it is annotated; clone again")
            image_HxW = radiographs.read_grey(path)
            if of_another_size(records[file_name], image_HxW.shape):
                left_out["annotated at another size"] += 1
                continue
            masks = draw(root, records[file_name], image_HxW.shape)
            if not {"mask_right", "mask_left"} <= masks.keys():
                left_out["with one lung outlined or none"] += 1
                continue
            heart_HxW = masks.setdefault("heart", np.zeros(image_HxW.shape, bool))
            masks["mask"] = (masks["mask_right"] | masks["mask_left"]) & ~heart_HxW
            row = metadata.get(file_name, {})
            unknown += not row
            stem = Path(file_name).stem
            example_id = stem if stems[stem] == 1 else file_name
            names = ("finding", "view", "sex", "license")
            texts: dict[str, Any] = {name: row.get(name, "") for name in names}
            example = radiographs.example(
                example_id,
                image_HxW,
                masks,
                depth=8,
                patient=row.get("patientid", "") or example_id,
                age=_number(row.get("age", "")),
                **texts,
            )
            yield file_name, example
        self.info.metadata["left_out"] = dict(left_out)
        self.info.metadata["unknown to metadata.csv"] = unknown


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_metadata(path: Path) -> dict[str, dict[str, str]]:
    """Reads file name to row: patient, finding, view, sex, age and licence."""
    rows = radiographs.read_table(path, ("filename", "patientid"), "clone again")
    return {row["filename"]: {k: v or "" for k, v in row.items() if k} for row in rows}


def read_structure(path: Path) -> dict[str, list[dict[str, str]]]:
    """Reads structure.csv: a row for each crop, with its organ, its file and its place."""
    columns = ("Filename", "Template Name", "Mask", "Top", "Left")
    records: dict[str, list[dict[str, str]]] = {}
    for row in radiographs.read_table(path, columns, "clone again"):
        records.setdefault(row["Filename"], []).append(row)
    return records


def of_another_size(annotations: list[Any], shape: tuple[int, int]) -> bool:
    """Says whether, by structure.csv, the image had another size when its crops were placed."""
    stated = {row.get("Resolution") or "" for row in annotations if isinstance(row, dict)}
    return bool(stated - {"", f"{shape[1]}x{shape[0]}"})


def draw_crops(root: Path, annotations: list[Any], shape: tuple[int, int]) -> Masks:
    """Draws an image's crops at their places; several crops of one organ are joined.

    A crop that reaches over the image's edge is cut there.
    """
    masks: Masks = {}
    for row in annotations:
        name = ORGANS.get(row["Template Name"].strip().lower())
        if name is None or not row["Mask"]:
            continue
        path = root / row["Mask"]
        if not path.is_file():
            raise InputError(f"{path}: is missing, though structure.csv names it; clone again")
        crop = radiographs.read_mask(path)
        try:
            top, left = int(row["Top"]), int(row["Left"])
        except ValueError as error:
            raise InputError(f"{path}: has no whole Top and Left in structure.csv") from error
        if not crop.any() or top < 0 or left < 0 or top >= shape[0] or left >= shape[1]:
            raise InputError(f"{path}: is empty or lies outside of its image; clone again")
        crop = crop[: shape[0] - top, : shape[1] - left]
        plane = masks.setdefault(name, np.zeros(shape, bool))
        plane[top : top + crop.shape[0], left : left + crop.shape[1]] |= crop
    return masks


def read_coco(path: Path) -> dict[str, list[tuple[str, Any]]]:
    """Reads COCO annotations: image file name to (organ, segmentation)."""
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        names = {entry["id"]: str(entry["name"]).strip().lower() for entry in coco["categories"]}
        files = {entry["id"]: Path(entry["file_name"]).name for entry in coco["images"]}
        records: dict[str, list[tuple[str, Any]]] = {name: [] for name in files.values()}
        for entry in coco["annotations"]:
            file_name = files[entry["image_id"]]
            records[file_name].append((names[entry["category_id"]], entry["segmentation"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no COCO annotation ({error!r}); clone again") from error
    return records


def draw_coco(root: Path, annotations: list[Any], shape: tuple[int, int]) -> Masks:
    """Draws the segmentations of an image, joined by organ."""
    masks: Masks = {}
    for organ, segmentation in annotations:
        if organ in ORGANS:
            plane = masks.setdefault(ORGANS[organ], np.zeros(shape, bool))
            plane |= coco_mask(segmentation, shape)
    return {name: plane for name, plane in masks.items() if plane.any()}
