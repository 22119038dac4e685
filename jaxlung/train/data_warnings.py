"""What can be seen of a run's data that makes its figures mean less than they seem to."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jaxlung.config import Config, DataConfig
from jaxlung.data.ct_folder import volume_name
from jaxlung.data.duplicates import find_duplicates, read_hashes
from jaxlung.data.folder import count_images_below
from jaxlung.data.splits import Split
from jaxlung.system.digests import is_example_digest
from jaxlung.workdir.record import Contents

FEW = 10  # images: the epoch that a smaller validation split chooses is chosen by chance
_NAMED = 3  # examples that a warning names


def find_warnings(config: Config, splits: Mapping[str, Split], contents: Contents) -> list[str]:
    """Returns a sentence for each thing that is odd about the splits of a run.

    Args:
        config: of the run.
        splits: by name.
        contents: of the splits. Images of large splits have neither digests nor hashes, and are not
            compared.
    """
    unit = "volume" if config.modality == "ct" else "image"
    unit_of: Callable[[str], str] = volume_name if config.modality == "ct" else str
    split_of = {unit_of(i): name for name, split in splits.items() for i in split.ids}
    warnings = []
    count = sum(name == "validation" for name in split_of.values())
    if config.modality == "xray" and config.data.name != "phantom" and count < FEW:
        warnings.append(
            f"the validation split has {count} images, fewer than {FEW}: the epoch that it chooses "
            f"is chosen by chance; {_advise_more(config.data)}"
        )
    if config.data.name == "folder":
        images = Path(config.data.dir) / "images"
        if below := count_images_below(images):
            warnings.append(
                f"{images}: {below} images in folders below it are not read; move them up to use "
                f"them"
            )
    shared = _patients_in_two(splits)
    if shared:
        warnings.append(
            f"patients with images in two splits: {len(shared)} ({_name(shared)}); put all images "
            f"of a patient in one"
        )
    copies = _find_copies(contents, unit_of)
    in_two = [group for group in copies if len({split_of[i] for i in group}) > 1]
    if in_two:
        named = [[f"{i} in {split_of[i]}" for i in group] for group in in_two]
        warnings.append(
            f"{unit}s in two splits, as copies by content or perceptual hash: {len(in_two)} "
            f"({_name(named)}); keep one of each"
        )
    set_of = {
        image_id: its_set
        for split in splits.values()
        for image_id, its_set in zip(split.ids, split.groups.get("set", ()), strict=False)
    }
    doubles = [group for group in copies if len({set_of.get(i) for i in group}) > 1]
    if doubles:
        named = [[f"{i} of {set_of[i]}" for i in group] for group in doubles]
        warnings.append(
            f"images in two of the sets, as copies by content or perceptual hash: {len(doubles)} "
            f"({_name(named)}); leave one set out"
        )
    return warnings


def _advise_more(data: DataConfig) -> str:
    """Says how to have more images for validation: by the field that counts."""
    if data.folds:
        return "lower data.folds"
    if data.split_file:
        return f"list more of them in {data.split_file}"
    if data.split == "published":
        return "leave out data.split='published' and raise data.validation_fraction"
    return "raise data.validation_fraction"


def _name(groups: Iterable[Iterable[str]]) -> str:
    named = [" and ".join(group) for group in groups]
    return "; ".join(named[:_NAMED]) + ("; ..." if len(named) > _NAMED else "")


def _patients_in_two(splits: Mapping[str, Split]) -> list[list[str]]:
    """Lists an image of each split for every patient that is in several."""
    images: dict[str, dict[str, str]] = {}
    for name, split in splits.items():
        for image_id, patient in zip(split.ids, split.patients or (), strict=False):
            images.setdefault(patient, {}).setdefault(name, f"{image_id} in {name}")
    return [list(one.values()) for one in images.values() if len(one) > 1]


def _find_copies(contents: Contents, unit_of: Callable[[str], str]) -> list[tuple[str, ...]]:
    """Lists groups of images that are copies of one another; of CT, groups of volumes."""
    digests: dict[str, str] = {}
    for recorded in contents.digests.values():
        for image_id, digest in recorded.items():
            if is_example_digest(digest):
                unit = unit_of(image_id)
                digests[unit] = digests.get(unit, "") + digest.split(":")[0]
    hashed = [image_id for image_id in digests if image_id in contents.hashes]
    groups = [
        tuple(hashed[i] for i in group.members)
        for group in find_duplicates(
            read_hashes([contents.hashes[i] for i in hashed]), [digests[i] for i in hashed]
        )
    ]
    others: dict[str, list[str]] = {}
    for unit in sorted(digests.keys() - set(hashed)):
        others.setdefault(digests[unit], []).append(unit)
    return groups + [tuple(group) for group in others.values() if len(group) > 1]
