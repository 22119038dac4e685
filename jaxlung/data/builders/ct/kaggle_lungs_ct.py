"""Kaggle's "Finding and Measuring Lungs in CT Data", as a TFDS data set.

Single slices as TIFF, 2d_images/ID_0000_Z_0142.tif with a mask of the same name in 2d_masks/, and a
few scans, 3d_images/IMG_0002.nii.gz with 3d_images/MASK_0002.nii.gz.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.data.builders.shared import radiographs, scans
from jaxlung.data.folder import list_images
from jaxlung.errors import InputError, format_shape, print_warning
from jaxlung.io.ct.hounsfield import to_hounsfield
from jaxlung.io.images import read_image
from jaxlung.io.masks import read_mask
from jaxlung.io.volumes import Grid, Volume, import_nibabel, read_volume

_SLICE = re.compile(r"ID_(\d+)_Z_(\d+)")
_SCAN = re.compile(r"IMG_(\d+)\.nii(?:\.gz)?")
_FETCH = "fetch the set again"
_LEAST = 0.9  # a smaller share of slices that can be used means that the files are other ones


class JaxlungKaggleLungsCt(radiographs.Builder):
    """Axial CT slices of many patients with lung masks, of Kaggle's Finding Lungs in CT Data.

    Single slices, and all slices of a few scans. Images are Hounsfield units plus 1024. The number
    in a file's name is taken as the patient, in slices and scans alike. Pixel sizes are not known.
    Slices that are not in Hounsfield units, have an empty mask or one of another size are left out
    (metadata: left_out).
    """

    DEPTH = scans.DEPTH
    TEXT_NAMES = ("part",)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root = radiographs.manual_folder(dl_manager, "kaggle_lungs_ct")
        inner = root / "finding-lungs-in-ct-data"
        return {"train": self._generate_examples(inner if inner.is_dir() else root)}

    def _generate_examples(self, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        left_out: Counter[str] = Counter()
        yield from _read_slices(root, left_out)
        for number, image, mask in find_scans(root):
            hu_ZxHxW, mask_ZxHxW = read_scan(image, mask)
            stem = f"IMG_{number}"
            masks = {"mask": mask_ZxHxW}
            yield from scans.slice_examples(stem, hu_ZxHxW, masks, patient=number, part="scans")
        self.info.metadata["left_out"] = dict(left_out)


def _read_slices(root: Path, left_out: Counter[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    images = list_images(radiographs.first_folder(root, "2d_images", "2d_images/2d_images"))
    masks = list_images(radiographs.first_folder(root, "2d_masks", "2d_masks/2d_masks"))
    for one, others, kind in ((images, masks, "mask"), (masks, images, "image")):
        for stem, path in one.items():
            if not _SLICE.fullmatch(stem):
                raise InputError(f"{path}: is not named like ID_0000_Z_0142.tif; move it away")
            if stem not in others:
                raise InputError(f"{path}: has no {kind} of that name; {_FETCH}")
    used = 0
    for stem, path in images.items():
        match = _SLICE.fullmatch(stem)
        assert match is not None  # checked above
        pixels, mask_HxW = read_image(path), read_mask(masks[stem])
        if pixels.shape != mask_HxW.shape:
            left_out["with a mask of another size"] += 1
            continue
        if not mask_HxW.any():
            left_out["with an empty mask"] += 1
            continue
        try:
            hu_1xHxW = _check_hounsfield(pixels[None], path)
        except InputError:
            left_out["not in Hounsfield units"] += 1
            continue
        used += 1
        number, z = match.groups()
        yield from scans.slice_examples(
            f"ID_{number}",
            hu_1xHxW,
            {"mask": mask_HxW[None]},
            first=int(z),
            patient=number,
            part="slices",
        )
    if used < _LEAST * len(images):
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise InputError(
            f"{root / '2d_images'}: {used} of {len(images)} slices can be used ({reasons}); "
            f"{_FETCH}"
        )


def find_scans(root: Path) -> list[tuple[str, Path, Path]]:
    """Finds number, image and mask of each scan; none where 3d_images/ is missing.

    Raises:
        InputError: an image has no mask.
    """
    folder = root / "3d_images"
    if (folder / "3d_images").is_dir():
        folder = folder / "3d_images"
    found = []
    for image in sorted(folder.glob("IMG_*.nii*")):
        mask = image.with_name(image.name.replace("IMG_", "MASK_", 1))
        match = _SCAN.fullmatch(image.name)
        if match is None or not mask.is_file():
            raise InputError(f"{image}: has no mask {mask.name} beside it; {_FETCH}")
        found.append((match[1], image, mask))
    return found


def read_scan(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a scan and its mask as slices, HU [Z, H, W] and bool [Z, H, W].

    The set's NIfTI files are arrays [slices, rows, columns], and what their headers say of places
    is not used. A file whose slices lie along another axis is turned by its header.

    Raises:
        InputError: a file is damaged or not in Hounsfield units, or the two differ in size.
    """
    planes_ZxHxW, mask_ZxHxW = _read_planes(image), _read_planes(mask)
    if planes_ZxHxW.shape != mask_ZxHxW.shape:
        own, other = format_shape(mask_ZxHxW.shape), format_shape(planes_ZxHxW.shape)
        raise InputError(f"{mask}: is {own}, but its scan {other}; {_FETCH}")
    return _check_hounsfield(planes_ZxHxW, image), mask_ZxHxW > 0


def _read_planes(path: Path) -> np.ndarray:
    nibabel = import_nibabel()
    try:
        stored = nibabel.load(path)
        shape = stored.shape
        if len(shape) == 3 and shape[1] == shape[2]:
            planes_ZxHxW: np.ndarray = np.asanyarray(stored.dataobj)
            return planes_ZxHxW
    except Exception as error:  # gzip and nibabel raise many types
        raise InputError(f"{path}: cannot be read as NIfTI ({type(error).__name__})") from None
    return read_volume(path).voxels_ZxHxW


def _check_hounsfield(planes_ZxHxW: np.ndarray, path: Path) -> np.ndarray:
    grid = Grid((1, 1, 1), np.eye(4), None)  # it is not looked at
    volume = to_hounsfield(Volume(planes_ZxHxW, (1.0, 1.0, 1.0), grid), path)
    for warning in volume.warnings:
        print_warning(f"{path}: {warning}")
    return volume.voxels_ZxHxW
