"""A folder of CT volumes, slice by slice: images/ and masks/ whose files have one stem.

A volume may be a file or the folder of a DICOM series. The mask of a series may be the contours or
the segmentation that were drawn on it (RTSTRUCT, SEG): a file, or a folder that holds it.
Splits are by patient, as for X-rays; metadata.csv and patient patterns speak of volumes.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxlung.config import DataConfig
from jaxlung.data.folder import files_by_stem, read_folder_metadata
from jaxlung.data.splits import Example, Split, patients_by_id, select_examples
from jaxlung.data.splitting import split_stems
from jaxlung.devices.distributed import is_main
from jaxlung.errors import InputError, print_warning
from jaxlung.io import volumes
from jaxlung.io.ct.hounsfield import apply_window, to_hounsfield
from jaxlung.io.ct.labels import check_same_grid, read_label_volume
from jaxlung.io.ct.raw_volumes import is_voxel_file
from jaxlung.io.dicom.drawn.read import read_drawn_lungs
from jaxlung.io.dicom.signature import SUFFIXES as DICOM_SUFFIXES
from jaxlung.io.dicom.signature import name_drawing, read_start, starts_image
from jaxlung.io.images import is_image
from jaxlung.structures import LUNG

# uint8 and bool [Z, H, W], and the spacing in mm; None where the header does not tell it
Slices = tuple[np.ndarray, np.ndarray, tuple[float, float, float] | None]


def load_ct_splits(config: DataConfig) -> dict[str, Split]:
    """Loads the splits of config.dir, every slice of a volume in one of them."""
    whole = load_ct_folder(config, Path(config.dir))
    patient_by_slice = patients_by_id(whole)
    slices_by_volume = group_slices(whole.ids)
    patients = {volume: patient_by_slice[ids[0]] for volume, ids in slices_by_volume.items()}
    volumes_by_split = split_stems(config, list(slices_by_volume), patients)
    return {
        name: select_examples(whole, [i for v in volumes for i in slices_by_volume[v]], name)
        for name, volumes in volumes_by_split.items()
    }


def load_ct_folder(config: DataConfig, directory: Path) -> Split:
    """Loads every slice of a folder as one split, "all"; volumes are read when asked for."""
    pairs = find_volumes(directory)
    stems = list(pairs)
    metadata = read_folder_metadata(directory, stems, config.patient_pattern)
    patients = metadata.patients or tuple(stems)
    load = _cached_loader(pairs, config.window_low, config.window_high)
    depths = [volumes.axial_shape(volumes.read_grid(pairs[stem][0]))[0] for stem in stems]
    index = [(v, z) for v in range(len(stems)) for z in range(depths[v])]

    def read(i: int) -> Example:
        v, z = index[i]
        image_ZxHxW, mask_ZxHxW, spacing = load(stems[v])
        example = Example(image_ZxHxW[z], mask_ZxHxW[z])
        if spacing is None:
            return example
        return example._replace(spacing=spacing[1:], slice_mm=spacing[0])

    return Split(
        "all",
        tuple(f"{stems[v]}_z{z:04d}" for v, z in index),  # as `volume_name` takes them apart
        tuple(f"{pairs[stems[v]][1]}, slice {z}" for v, z in index),
        read,
        tuple(patients[v] for v, _ in index),
        {name: tuple(values[v] for v, _ in index) for name, values in metadata.groups.items()},
    )


def volume_name(slice_id: str) -> str:
    """Returns the stem of the volume that a slice comes from.

    Example:
        >>> volume_name("scan_3_z0012")
        'scan_3'
    """
    return slice_id.rpartition("_z")[0]


def group_slices(slice_ids: Sequence[str]) -> dict[str, list[str]]:
    """Groups slices by the stem of their volume, in the order given.

    Example:
        >>> group_slices(["a_z0000", "a_z0001", "b_z0000"])
        {'a': ['a_z0000', 'a_z0001'], 'b': ['b_z0000']}
    """
    found: dict[str, list[str]] = {}
    for slice_id in slice_ids:
        found.setdefault(volume_name(slice_id), []).append(slice_id)
    return found


def find_volumes(directory: Path) -> dict[str, tuple[Path, Path]]:
    """Finds the pairs of a folder: stem to volume and mask, sorted.

    Raises:
        InputError: a folder is missing or empty, or a volume or mask stands alone.
    """
    images, masks = (list_volumes(directory / name, dicom=True) for name in ("images", "masks"))
    for stem, path in images.items():
        if stem not in masks:
            mask = directory / "masks" / stem
            raise InputError(f"{path}: has no mask {mask}.nii.gz (of a series also {stem}.dcm)")
    for stem, path in masks.items():
        if stem not in images:
            folder = directory / "images"
            nested = (folder / stem).is_dir()
            where = f"{folder / stem} itself" if nested else f"{folder}"
            raise InputError(f"{path}: has no volume of that stem in {where}")
    return {stem: (path, masks[stem]) for stem, path in images.items()}


def is_read(path: Path) -> bool:
    """Says whether a file or folder in images/ or masks/ is a volume or mask, or part of one."""
    return _is_volume(path) or is_voxel_file(path)


def is_volume_file(path: Path) -> bool:
    """Says whether a name is that of a volume's file."""
    return path.name.lower().endswith(volumes.SUFFIXES)


def _is_volume(path: Path) -> bool:
    return is_volume_file(path) or _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    """Says whether a path is a DICOM image or drawing, or a folder that holds one itself."""
    if path.is_dir():
        return any(_is_dicom(file) for file in sorted(path.iterdir()) if file.is_file())
    start = read_start(path)
    return starts_image(start, path.name) or bool(name_drawing(start))


def _stem_of(path: Path) -> str:
    is_file = path.suffix.lower() in DICOM_SUFFIXES and not path.is_dir()
    return path.stem if is_file else volumes.volume_stem(path)


def holds_volumes(directory: Path) -> bool:
    """Says whether a folder holds volumes, and no image."""
    files = [path for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
    return any(map(is_volume_file, files)) and not any(map(is_image, files))


def list_volumes(directory: Path, *, dicom: bool = False) -> dict[str, Path]:
    """Lists the volumes in a folder: stem to path, sorted by stem.

    Args:
        dicom: take folders of series, contours and segmentations too.

    Raises:
        InputError: the folder is missing or holds none, or two volumes have one stem.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such folder")
    found = files_by_stem(directory, _is_volume if dicom else is_volume_file, _stem_of)
    if not found:
        kinds = ", DICOM" if dicom else ""
        raise InputError(f"{directory}: holds no volume ({' '.join(volumes.SUFFIXES)}{kinds})")
    return found


def _cached_loader(
    pairs: dict[str, tuple[Path, Path]], low: float, high: float
) -> Callable[[str], Slices]:
    """Makes a reader that keeps the last two volumes, as threads ask for slices in order."""
    lock = threading.Lock()
    said: set[str] = set()  # stems whose warnings were printed

    @functools.lru_cache(maxsize=2)
    def load(stem: str) -> Slices:
        image_path, mask_path = pairs[stem]
        volume = volumes.read_volume(image_path, rounded=True)
        mask_ZxHxW = _read_mask(mask_path, image_path, volume.grid)
        volume = to_hounsfield(volume, image_path)
        if stem not in said and is_main():
            for warning in volume.warnings:
                print_warning(f"{image_path}: {warning}")
        said.add(stem)
        # Slice by slice: a whole volume of 64-bit floats would not fit everywhere.
        image_ZxHxW = np.stack([apply_window(hu_HxW, low, high) for hu_HxW in volume.voxels_ZxHxW])
        return image_ZxHxW, mask_ZxHxW, volume.spacing if volume.placed else None

    def load_alone(stem: str) -> Slices:
        with lock:
            return load(stem)

    return load_alone


def _read_mask(path: Path, image_path: Path, grid: volumes.Grid) -> np.ndarray:
    """Reads the mask of a volume that has this grid, bool [Z, H, W]."""
    if _is_dicom(path):
        if not _is_dicom(image_path):
            raise InputError(
                f"{path}: is drawn on a DICOM series, but its volume {image_path.name} is none; "
                f"put the series' folder in its place"
            )
        return read_drawn_lungs(path, image_path).mask(LUNG)
    mask = read_label_volume(path)
    check_same_grid(mask.grid, path, grid, image_path)
    marked_ZxHxW: np.ndarray = mask.voxels_ZxHxW > 0
    return marked_ZxHxW
