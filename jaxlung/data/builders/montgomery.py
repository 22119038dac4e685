"""Montgomery County: 138 radiographs with a manual mask of each lung, as a TFDS data set."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.data.builders.shared import downloads, nlm, radiographs
from jaxlung.data.folder import list_images
from jaxlung.errors import InputError
from jaxlung.io.masks import read_mask

URL = "http://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip"
SHA256 = "54601e952315d8f67383e9202a6e145997ade429f54f7e0af44b4e158714f424"
# Films of the published size, 0.0875 mm a pixel (Candemir et al. 2014); resized copies: unknown.
SIZES = ((4020, 4892), (4892, 4020))
SPACING_MM = (0.0875, 0.0875)


class JaxlungMontgomery(radiographs.Builder):
    """Montgomery County chest radiographs with lung masks.

    138 posterior-anterior chest radiographs of Montgomery County's tuberculosis control program, 80
    normal and 58 with tuberculosis, and manual masks of the right and left lung. `mask` is the
    union of both. The heart and the lung behind it are not lung.
    """

    DEPTH = 16
    MASK_NAMES = ("mask_right", "mask_left")

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root = radiographs.optional_manual_folder(dl_manager, "montgomery")
        if root is None:
            archive = downloads.download(dl_manager, URL)
            radiographs.check_sha256(archive, SHA256, URL)
            root = Path(os.fspath(dl_manager.extract(archive)))
        return {"train": self._generate_examples(root)}

    def _generate_examples(self, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        images = list_images(radiographs.first_folder(root, "MontgomerySet/CXR_png", "CXR_png"))
        folder = next(iter(images.values())).parent.parent
        masks = {
            f"mask_{side}": radiographs.first_folder(folder, f"ManualMask/{side}Mask")
            for side in ("right", "left")
        }
        for mask_folder in masks.values():
            for stem, mask in list_images(mask_folder).items():
                if stem not in images:
                    raise InputError(f"{mask}: has no image in CXR_png; unpack the archive again")
        for stem, path in images.items():
            facts, image_HxW = nlm.read_facts(stem, path), radiographs.read_grey(path)
            halves = {name: _half(masks[name] / path.name) for name in masks}
            if image_HxW.shape in SIZES:
                facts["spacing_mm"] = SPACING_MM
            yield stem, radiographs.example(stem, image_HxW, halves, depth=16, **facts)


def _half(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(
            f"{path}: is missing; every image has a mask of the right and of the left lung, so "
            f"unpack the archive again"
        )
    mask_HxW = read_mask(path)
    if not mask_HxW.any():
        raise InputError(f"{path}: is empty (no lung pixel); unpack the archive again")
    return mask_HxW
