"""Kaggle's merge of the Montgomery and Shenzhen sets, as a TFDS data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxlung.data.builders.shared import nlm, radiographs


class JaxlungChestXrayMasksAndLabels(radiographs.Builder):
    """Montgomery and Shenzhen chest radiographs with lung masks, merged.

    The Montgomery and Shenzhen sets in one folder: 800 radiographs, 704 with one mask of both
    lungs. Montgomery's masks have the image's name, Shenzhen's end in _mask. Images without a mask
    are left out (metadata: left_out), and so is the folder test, which has no masks.
    """

    DEPTH = 16

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = radiographs.manual_folder(dl_manager, "chest_xray_masks_and_labels")
        root = radiographs.first_folder(manual, "Lung Segmentation", "data/Lung Segmentation")
        images = radiographs.first_folder(root, "CXR_png")
        masks = radiographs.first_folder(root, "masks")
        return {"train": self._generate_examples(images, masks)}

    def _generate_examples(self, images: Path, masks: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from nlm.examples(self, images, masks)
