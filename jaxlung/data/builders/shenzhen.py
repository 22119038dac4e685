"""Shenzhen No. 3 Hospital: 662 radiographs, 566 with a lung mask, as a TFDS data set."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxlung.data.builders.shared import nlm, radiographs
from jaxlung.data.folder import list_images

WITHOUT_MASK = 96  # images
URL = "https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip"  # no checksum published

_DESCRIPTION = """
Posterior-anterior chest radiographs of Shenzhen No. 3 People's Hospital, normal or with
tuberculosis. The masks were drawn later, by Stirenko et al. 2018, for 566 of the 662 images: the
others are left out (metadata: left_out), not taken as empty. The heart is not lung; diseased lung
is often drawn only where it holds air.
"""


class JaxlungShenzhen(tfds.core.GeneratorBasedBuilder):
    """Shenzhen chest radiographs with lung masks."""

    VERSION = radiographs.VERSION
    RELEASE_NOTES = radiographs.RELEASE_NOTES
    MANUAL_DOWNLOAD_INSTRUCTIONS = radiographs.CATALOG["shenzhen"].instructions

    def _info(self) -> tfds.core.DatasetInfo:
        return radiographs.dataset_info(self, _DESCRIPTION, depth=16)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = radiographs.manual_folder(dl_manager, "shenzhen")
        # Before gigabytes of images are fetched. Kaggle's archive unpacks to mask/mask.
        masks = radiographs.first_folder(
            manual, "mask/mask", "mask", "shcxr-lung-mask/mask/mask", "shcxr-lung-mask/mask"
        )
        if not (manual / "ChinaSet_AllFiles").is_dir():
            manual = Path(os.fspath(dl_manager.download_and_extract(URL)))
        images = radiographs.first_folder(manual, "ChinaSet_AllFiles/CXR_png", "CXR_png")
        return {"train": self._generate_examples(images, masks)}

    def _generate_examples(self, images: Path, masks: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from nlm_examples(self, images, masks)


def nlm_examples(
    builder: tfds.core.DatasetBuilder, images: Path, masks: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the library's images that have one mask of both lungs."""
    left_out: Counter[str] = Counter()
    pairs = radiographs.paired(
        list_images(images), list_images(masks), left_out, without=WITHOUT_MASK
    )
    for stem, image_path, mask_path in pairs:
        patient, finding = nlm.patient_and_finding(stem, image_path)
        mask_HxW = radiographs.read_mask_or_none(mask_path, left_out)
        if mask_HxW is None:
            continue
        sex, age = nlm.read_reading(images.parent / "ClinicalReadings", stem)
        example = radiographs.example(
            stem,
            radiographs.read_grey(image_path),
            {"mask": mask_HxW},
            depth=16,
            patient=patient,
            finding=finding,
            view="PA",
            sex=sex,
            age=age,
        )
        yield stem, example
    builder.info.metadata["left_out"] = dict(left_out)
