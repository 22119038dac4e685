"""What the builders of CT share: slices in Hounsfield units as examples."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxlung.data.builders.shared import radiographs
from jaxlung.data.prepared import HU_OFFSET

DEPTH = 16


def slice_examples(
    stem: str,
    hu_ZxHxW: np.ndarray,
    masks_ZxHxW: Mapping[str, np.ndarray],
    *,
    first: int = 0,
    **facts: Any,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields an example of each slice, STEM_z0000 and so on, as `ct_folder.volume_name` reads them.

    Args:
        hu_ZxHxW: Hounsfield units; what is stored is their whole numbers from -1024 on.
        masks_ZxHxW: feature to mask, bool [Z, H, W].
        first: the number of the first slice.
        facts: as `radiographs.example` takes them, such as patient.
    """
    for z, hu_HxW in enumerate(hu_ZxHxW):
        stored_HxW = np.clip(np.rint(hu_HxW) + HU_OFFSET, 0, 2**DEPTH - 1).astype(np.uint16)
        masks = {name: mask_ZxHxW[z] for name, mask_ZxHxW in masks_ZxHxW.items()}
        name = f"{stem}_z{first + z:04d}"
        yield name, radiographs.example(name, stored_HxW, masks, depth=DEPTH, **facts)
