"""Chooses the images that a run is scored on: its own, wherever they lie now, or others."""

from collections.abc import Sequence
from pathlib import Path

from jaxlung.catalog import FOLDERS, did_you_mean, is_set, modality_of, set_names
from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits, load_whole_folder
from jaxlung.data.public import load_one_set, load_whole_set
from jaxlung.data.splits import SPLITS, Split, keep_once, select_examples
from jaxlung.errors import InputError
from jaxlung.evaluation.own_data import find_recorded
from jaxlung.structures import LUNG
from jaxlung.system.digests import is_example_digest
from jaxlung.workdir.record import Digests

_KINDS = {"xray": "X-rays", "ct": "CT"}
_KEPT = 2**30  # bytes of a folder's examples that are kept from recognition to scoring


def choose_split(
    config: DataConfig,
    data: Path | None,
    split: str | None,
    recorded: Digests | None = None,
    outputs: Sequence[str] = (LUNG,),
) -> tuple[Split, str | None]:
    """Chooses the images to evaluate on.

    Args:
        config: the run's own data.
        data: a folder as the run reads them, or a prepared public set by name (where no such
            folder exists); None for the run's own data.
        split: "train", "validation", "test", or "all" (a folder's every pair); None means "test"
            of the run's own data, by --data too (of a mixture: the part of the set named), and
            "all" of others. A folder that holds at least half of the split's images is the run's
            own, wherever it lies.
        recorded: the digests of the run's data, from `record.read_contents`.
        outputs: of the run's model, by whose masks its images are recognised.

    Returns:
        The split, and a warning or None.

    Raises:
        InputError: there are no such data or no such split, or the run's own data have changed.
    """
    if split not in (None, "all", *SPLITS):
        raise InputError(f"--split must be all, {', '.join(SPLITS)}, got {split!r}")
    in_folder = config.name in FOLDERS
    named = data is not None and is_set(data)
    own = (
        data is None
        or (in_folder and data.resolve() == Path(config.dir).resolve())
        or (named and str(data) in set_names(config.name))
    )
    if data is None and split == "all":
        raise InputError("--split all needs --data FOLDER: the run's own data were trained on")
    if data is None or (own and split != "all"):
        chosen, warning = _own_split(config, split or "test", recorded, outputs)
        return (load_one_set(chosen, str(data)) if named else chosen), warning
    if not named and not data.exists():
        raise InputError(
            f"--data {data}: no such folder, nor a set of `jaxlung data list` (several: by "
            f"commas){did_you_mean(str(data))}"
        )
    warning = "these data hold the images that the model was trained on" if own else None
    if not named and not own and split != "all" and recorded:
        whole = keep_once(load_whole_folder(config, data), _KEPT)
        moved, warning = _moved_split(config, data, whole, split or "test", recorded, outputs)
        if moved or split is None:
            return moved or whole, warning
    if split in SPLITS:
        raise InputError(f"--split {split} is of the run's own data; leave it out with --data")
    if not named:
        return load_whole_folder(config, data, config.patient_pattern if own else ""), warning
    holds, trained = (_KINDS[modality_of(name)] for name in (str(data), config.name))
    if holds != trained:
        raise InputError(f"--data {data}: holds {holds}, but the model was trained on {trained}")
    window = (config.window_low, config.window_high)
    whole = load_whole_set(str(data), "" if in_folder else config.dir, window)
    return whole, warning


def _moved_split(
    config: DataConfig,
    folder: Path,
    whole: Split,
    name: str,
    recorded: Digests,
    outputs: Sequence[str],
) -> tuple[Split | None, str | None]:
    """Looks for a split of the run in another folder, whose images are `whole`.

    Returns:
        the split, None where the folder holds less than half of it; and what to say of it.
    """
    wanted = recorded.get(name, {})
    by = "content" if all(map(is_example_digest, wanted.values())) else "name and size of file"
    ids, count = find_recorded(whole, wanted, config, outputs), len(wanted)
    if 2 * len(ids) < count or not ids:
        few = f"{len(ids)} of the run's {count} {name} images are among these, by {by}"
        return None, few if ids else None
    if config.patient_pattern and set(ids) <= set(wanted):  # the files have their names
        patients = load_whole_folder(config, folder, config.patient_pattern).patients
        whole = whole._replace(patients=patients)
    missing = f"; the other {count - len(ids)} are not there" if len(ids) < count else ""
    used = "" if name == "test" else ", which was used in training"
    return select_examples(whole, ids, name), (
        f"the run's own {name} split{used}: {len(ids)} of its {count} images, recognised by "
        f"{by}{missing}"
    )


def _own_split(
    config: DataConfig, name: str, recorded: Digests | None, outputs: Sequence[str]
) -> tuple[Split, str | None]:
    """Loads a split of the run's own data, as they were."""
    folder = Path(config.dir)
    if config.name in FOLDERS and recorded:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: the run's data are no longer there; name the folder where they are now "
                f"by --data"
            )
        if config.split_file and not Path(config.split_file).exists():
            whole = keep_once(load_whole_folder(config, folder), _KEPT)
            found, warning = _moved_split(config, folder, whole, name, recorded, outputs)
            if found:
                return found, warning
    chosen = load_splits(config)[name]
    if recorded and set(chosen.ids) != set(recorded[name]):
        raise InputError(
            f"{config.dir or config.name}: its {name} split is no longer that of the run "
            f"({len(chosen.ids)} images for {len(recorded[name])}); restore its files and "
            f"metadata.csv"
        )
    return chosen, None if name == "test" else f"the {name} split was used in training"
