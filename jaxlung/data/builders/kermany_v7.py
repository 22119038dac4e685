"""Kermany's radiographs of children with V7's outlines of the lungs, as a TFDS data set.

V7's release has a Darwin JSON file for each image, and names the image as it was uploaded. Darwin
JSON 1.0 is described at https://docs.v7labs.com/reference/legacy-darwin-json-10, 2.0 at
https://docs.v7labs.com/reference/darwin-json.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.data.builders.shared import radiographs
from jaxlung.data.folder import list_images
from jaxlung.errors import InputError
from jaxlung.io.viewers.drawing import fill_polygon
from jaxlung.system.digests import digest_file

# person1_bacteria_2, person1_virus_6, IM-0115-0001, NORMAL2-IM-0439-0001-0002
_NAME = re.compile(r"(person\d+)_(bacteria|virus)_\d+|((?:NORMAL2-)?IM-\d+)-\d+(?:-\d+)?")
_FINDINGS = {"bacteria": "bacterial pneumonia", "virus": "viral pneumonia", None: "normal"}
_COPY = (224, 224)  # the size of copies that are among V7's images
_MISSING = 0.05  # a greater share of V7's images without a film means that films are missing
Polygon = list[np.ndarray]  # the [N, 2] paths of an annotation: a second one is a hole or a piece


class JaxlungKermanyV7(radiographs.Builder):
    """Kermany's chest radiographs of children with V7's lung masks.

    Anterior-posterior chest radiographs of children of one to five years, Guangzhou Women and
    Children's Medical Center, normal or with bacterial or viral pneumonia (Kermany et al. 2018).
    The lungs were outlined with a tool and reviewed by people (V7 Labs, CloudFactory): the lung
    behind heart and diaphragm is lung, the strip of the spine is not. `ignore_px` counts the pixels
    that V7 marks as devices or markings; those on lung stay lung. V7's images of other collections
    are passed over; images without two outlines, or outlined on a copy of another size, are left
    out (metadata: left_out).
    """

    OTHERS = {"ignore_px": tfds.features.Scalar(np.int32)}

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = radiographs.manual_folder(dl_manager, "kermany_v7")
        root = _find_folder(dl_manager, manual, "ChestXRay2017.zip", "chest_xray")
        folder = _find_folder(
            dl_manager,
            manual,
            "covid-19-xray-dataset/annotations/all-images.zip",
            "covid-19-xray-dataset/annotations/all-images",
            "covid-19-chest-x-ray-dataset/releases/all-images/annotations",  # `darwin dataset pull`
        )
        left_out: Counter[str] = Counter()
        outlined = match_films(read_outlines(folder), list_films(root), root, left_out)
        return {"train": self._generate_examples(outlined, left_out)}

    def _generate_examples(
        self, outlined: list[tuple[Path, "Outlines"]], left_out: Counter[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        done: set[str] = set()
        for path, outlines in outlined:
            stem, image_HxW = path.stem, radiographs.read_grey(path)
            if outlines.shape != image_HxW.shape:
                left_out["outlined at another size"] += 1
            elif sum(map(len, outlines.lungs)) < 2:
                left_out["with one lung outlined or none"] += 1
            elif stem in done:
                left_out["outlined a second time"] += 1
            else:
                done.add(stem)
                patient, finding = patient_and_finding(stem)
                masks = {"mask": draw(outlines.lungs, image_HxW.shape)}
                example = radiographs.example(
                    stem, image_HxW, masks, depth=8, patient=patient, finding=finding, view="AP"
                )
                ignored = draw(outlines.ignored, image_HxW.shape).sum()
                yield stem, {**example, "ignore_px": np.int32(ignored)}
        self.info.metadata["left_out"] = dict(left_out)


def _find_folder(dl_manager: Any, root: Path, archive: str, *folders: str) -> Path:
    """Finds the first of some folders; unpacks the archive where none of them is there."""
    if (root / archive).is_file() and not any((root / folder).is_dir() for folder in folders):
        unpacked = Path(os.fspath(dl_manager.extract(root / archive)))
        inner = unpacked / Path(folders[0]).name
        return inner if inner.is_dir() else unpacked
    return radiographs.first_folder(root, *folders)


def list_films(root: Path) -> dict[str, list[Path]]:
    """Lists Kermany's images: stem to the different images of that name, usually one.

    Args:
        root: chest_xray/ of train/ and test/, as Mendeley has it, and val/, as Kaggle has.

    Raises:
        InputError: a folder is missing or empty.
    """
    splits = ("train", "test", *(("val",) if (root / "val").is_dir() else ()))
    found: dict[str, dict[str, Path]] = {}  # stem to content to path
    for folder in (f"{split}/{kind}" for split in splits for kind in ("NORMAL", "PNEUMONIA")):
        for stem, path in list_images(radiographs.first_folder(root, folder)).items():
            found.setdefault(stem, {})[digest_file(path)] = path
    return {stem: list(paths.values()) for stem, paths in found.items()}


class Outlines(NamedTuple):
    """What V7's release says of an image."""

    stems: tuple[str, ...]  # of its file: as uploaded, and as V7 calls it
    shape: tuple[int, int]  # height and width of the image that was outlined
    lungs: list[Polygon]
    ignored: list[Polygon]  # devices and markings


def read_outlines(folder: Path) -> list[Outlines]:
    """Reads every Darwin JSON file of a folder, in the order of their names.

    Raises:
        InputError: there is none, or one is damaged.
    """
    paths = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    if not paths:
        raise InputError(f"{folder}: holds no .json of V7's release; clone it again")
    return [read_darwin(path) for path in paths]


def read_darwin(path: Path) -> Outlines:
    """Reads a Darwin JSON file, 1.0 or 2.0.

    Raises:
        InputError: it is none, or damaged.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if "item" in data:  # 2.0
            image = data["item"]["slots"][0]
            names = (image["source_files"][0]["file_name"], data["item"]["name"])
        else:
            image = data["image"]
            names = (image.get("original_filename"), image["filename"])
        polygons: dict[str, list[Polygon]] = {"lung": [], "ignore": []}
        for annotation in data["annotations"]:
            name = annotation["name"].strip().lower()
            if name in polygons:
                polygons[name].append(_read_polygon(annotation))
        shape = int(image["height"]), int(image["width"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: is no Darwin JSON file ({error!r}); clone it again") from error
    stems = tuple(Path(str(name)).stem for name in names)
    return Outlines(stems, shape, polygons["lung"], polygons["ignore"])


def _read_polygon(annotation: dict[str, Any]) -> Polygon:
    """Reads the paths of a polygon. A tag has none; paths without area are left out.

    1.0 has "path", a list of points or (in complex polygons) of such lists, and may have
    "additional_paths"; 2.0 has "paths".
    """
    polygon = annotation.get("polygon") or annotation.get("complex_polygon") or {}
    paths = polygon.get("paths") or polygon.get("path") or []
    if paths and isinstance(paths[0], dict):
        paths = [paths]
    paths = [*paths, *polygon.get("additional_paths", [])]
    return [
        np.array([(point["x"], point["y"]) for point in path], float)
        for path in paths
        if len(path) > 2
    ]


def match_films(
    records: list[Outlines], films: dict[str, list[Path]], root: Path, left_out: Counter[str]
) -> list[tuple[Path, Outlines]]:
    """Pairs Kermany's films with what V7's release says of them, by name.

    Images of other collections, copies of 224x224 pixels, and names of two different films are
    counted in left_out.

    Raises:
        InputError: many films are missing, or V7's names are those of another version.
    """
    outlined, missing = [], []
    for outlines in records:
        stem = next(filter(_NAME.fullmatch, outlines.stems), None)
        if stem is None:
            left_out["of other collections"] += 1
        elif outlines.shape == _COPY:
            left_out["outlined on a copy of 224x224 pixels"] += 1
        elif stem not in films:
            missing.append(stem)
        elif len(films[stem]) > 1:
            left_out["of a name that two images have"] += 1
        else:
            outlined.append((films[stem][0], outlines))
    if len(missing) > _MISSING * (len(missing) + len(outlined)):
        raise InputError(
            f"{root}: holds no image {missing[0]}, nor {len(missing) - 1} others that V7 outlined; "
            f"unpack ChestXRay2017.zip again"
        )
    if not outlined:
        raise InputError(
            f"{root}: holds no image that V7 outlined; fetch version 2, ChestXRay2017.zip"
        )
    if missing:
        left_out["without an image"] += len(missing)
    return outlined


def patient_and_finding(stem: str) -> tuple[str, str]:
    """Returns the patient and the finding that the name of an image tells.

    A number that both bacteria and viruses have may be two children, who then stay in one split.

    Example:
        >>> patient_and_finding("person1_virus_6"), patient_and_finding("NORMAL2-IM-0035-0001")
        (('person1', 'viral pneumonia'), ('NORMAL2-IM-0035', 'normal'))
    """
    match = _NAME.fullmatch(stem)
    assert match is not None  # `match_films` looks for such names alone
    return match[1] or match[3], _FINDINGS[match[2]]


def draw(polygons: list[Polygon], shape: tuple[int, int]) -> np.ndarray:
    """Draws polygons as bool [H, W]: joined; the paths of one by the even-odd rule."""
    mask_HxW = np.zeros(shape, bool)
    for paths in polygons:
        inside_HxW = np.zeros(shape, bool)
        for points_Nx2 in paths:
            inside_HxW ^= fill_polygon(points_Nx2, shape)
        mask_HxW |= inside_HxW
    return mask_HxW
