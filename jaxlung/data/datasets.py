"""From a name in the config to splits: phantoms, a folder of X-rays or CT, or public sets."""

import dataclasses
import itertools
from pathlib import Path

import jax

from jaxlung.catalog import modality_of
from jaxlung.config import DataConfig
from jaxlung.data.ct_folder import load_ct_folder, load_ct_splits
from jaxlung.data.folder import load_folder, load_folder_splits
from jaxlung.data.public import load_public_splits
from jaxlung.data.splits import SPLITS, Split, make_array_split, patients_by_id, select_examples
from jaxlung.data.splitting import split_into_folds
from jaxlung.phantom import radiographs


def load_splits(config: DataConfig) -> dict[str, Split]:
    """Loads the train, validation and test splits that a config names.

    Images are read when asked for; phantoms are rendered at once.

    Returns:
        split by name: "train", "validation" and "test".

    Raises:
        InputError: something stands in the way; the error names the file or field.

    Example:
        >>> config = DataConfig(size=32, phantom_train=2, phantom_validation=1, phantom_test=1)
        >>> example = load_splits(config)["train"].read(0)
        >>> example.image.shape, example.image.dtype, example.mask.dtype, example.marks
        ((32, 32), dtype('uint8'), dtype('bool'), 'lung')
    """
    match config.name:
        case "phantom":
            return phantom_splits(config)
        case "ct":
            return load_ct_splits(config)
        case "folder":
            return load_folder_splits(config)
        case _:
            return load_public_splits(config)


def load_whole_folder(config: DataConfig, directory: Path, patient_pattern: str = "") -> Split:
    """Loads every image of another folder as one split, "all", as a run's own data are read."""
    if modality_of(config.name) == "ct":
        return load_ct_folder(
            dataclasses.replace(config, patient_pattern=patient_pattern), directory
        )
    return load_folder(directory, patient_pattern, config.convention)


def phantom_splits(config: DataConfig) -> dict[str, Split]:
    """Renders simulated radiographs; each is a function of (data.seed, its index) alone."""
    counts = (config.phantom_train, config.phantom_validation, config.phantom_test)
    images_NxSxS, masks_NxSxS = radiographs(
        jax.random.key(config.seed), sum(counts), size=config.size
    )
    ids = [f"phantom_{config.seed}_{i:05d}" for i in range(sum(counts))]
    whole = make_array_split("all", ids, images_NxSxS, masks_NxSxS)
    rest = iter(ids)
    ids_by_split = {
        name: list(itertools.islice(rest, n)) for name, n in zip(SPLITS, counts, strict=True)
    }
    ids_by_split = split_into_folds(ids_by_split, patients_by_id(whole), config, config.name)
    return {name: select_examples(whole, chosen, name) for name, chosen in ids_by_split.items()}
