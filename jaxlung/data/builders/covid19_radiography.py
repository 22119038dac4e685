"""The COVID-19 radiography database: 21165 radiographs with masks, as a TFDS data set."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxlung.data.builders.shared import radiographs

FINDINGS = {  # folder to finding
    "COVID": "COVID-19",
    "Lung_Opacity": "lung opacity",
    "Normal": "normal",
    "Viral Pneumonia": "viral pneumonia",
}


class JaxlungCovid19Radiography(radiographs.Builder):
    """The COVID-19 radiography database with lung masks.

    21165 chest radiographs of several public sources, 299x299 pixels, with lung masks of 256x256,
    which a network drew: scores against them are agreement with that network. Masks are brought to
    the images' grid, edges to edges, by linear interpolation and a threshold of 0.5. Which images
    are of one patient is not known, and some are also in ChestX-ray14.
    """

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        manual = radiographs.manual_folder(dl_manager, "covid19_radiography")
        root = radiographs.first_folder(manual, "COVID-19_Radiography_Dataset")
        pairs = {
            folder: (
                radiographs.first_folder(root, f"{folder}/images"),
                radiographs.first_folder(root, f"{folder}/masks"),
            )
            for folder in FINDINGS
        }
        return {"train": self._generate_examples(pairs)}

    def _generate_examples(
        self, folders: dict[str, tuple[Path, Path]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        left_out: Counter[str] = Counter()
        for folder, (images, masks) in folders.items():
            pairs = radiographs.read_pairs(images, masks, left_out, without=0)
            for stem, path, mask_hxw in pairs:
                image_HxW = radiographs.read_grey(path)
                planes = {"mask": radiographs.on_grid(mask_hxw, image_HxW.shape)}
                finding = FINDINGS[folder]
                example = radiographs.example(
                    stem, image_HxW, planes, depth=8, patient=stem, finding=finding
                )
                yield stem, example
        self.info.metadata["left_out"] = dict(left_out)
