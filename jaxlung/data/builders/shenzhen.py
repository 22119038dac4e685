"""Shenzhen No. 3 Hospital: 662 radiographs, 566 with a lung mask, as a TFDS data set."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxlung.data.builders.shared import downloads, nlm, radiographs

URL = "https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip"  # no checksum published


class JaxlungShenzhen(radiographs.Builder):
    """Shenzhen chest radiographs with lung masks.

    Posterior-anterior chest radiographs of Shenzhen No. 3 People's Hospital, normal or with
    tuberculosis. The masks were drawn later, by Stirenko et al. 2018, for 566 of the 662 images:
    the others are left out (metadata: left_out), not taken as empty. The heart is not lung;
    diseased lung is often drawn only where it holds air.
    """

    DEPTH = 16

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = radiographs.manual_folder(dl_manager, "shenzhen")
        # Before gigabytes of images are fetched. Kaggle's archive unpacks to mask/mask.
        masks = radiographs.first_folder(
            manual, "mask/mask", "mask", "shcxr-lung-mask/mask/mask", "shcxr-lung-mask/mask"
        )
        if not (manual / "ChinaSet_AllFiles").is_dir():
            archive = downloads.download(dl_manager, URL)
            manual = Path(os.fspath(dl_manager.extract(archive)))
        images = radiographs.first_folder(manual, "ChinaSet_AllFiles/CXR_png", "CXR_png")
        return {"train": self._generate_examples(images, masks)}

    def _generate_examples(self, images: Path, masks: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from nlm.examples(self, images, masks)
