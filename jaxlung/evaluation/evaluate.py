"""Scores models on sets of images and writes their common report."""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxlung.catalog import CATALOG, FOLDERS, did_you_mean, is_set, set_names
from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits, load_whole_folder
from jaxlung.data.public import load_one_set, load_whole_set
from jaxlung.data.splits import SPLITS, Split, keep_once, select_examples
from jaxlung.devices import distributed
from jaxlung.errors import InputError
from jaxlung.evaluation.model_scores import Task, score_split
from jaxlung.evaluation.own_data import find_recorded
from jaxlung.evaluation.report import OUTPUTS, write_report
from jaxlung.io.page import make_report_folder
from jaxlung.metrics.image import DEFAULT_TOLERANCE, Tolerance, check_tolerance
from jaxlung.predict.load import load
from jaxlung.predict.predictor import Predictor
from jaxlung.system.digests import digest_weights, is_example_digest
from jaxlung.system.environment import describe_environment
from jaxlung.weights import bundled
from jaxlung.workdir.record import Digests

_KEPT = 2**30  # bytes of a folder's examples that are kept from recognition to scoring

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def evaluate(
    workdir: Paths,
    *,
    data: Paths | None = None,
    split: str | None = None,
    out: str | os.PathLike[str] | None = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
    overwrite: bool = False,
    tta: bool = True,
) -> dict[str, Any]:
    """Scores the best checkpoint of each run on each set of images.

    Writes metrics.json, per_image.csv and report.html: see docs/evaluation.md.

    Args:
        workdir: of `jaxlung train`, or a bundled model's name; several are compared on the same
            images.
        data: a folder or a prepared public set, as for `choose_split`; several make a table of
            models and sets. None: the run's own data.
        split: as for `choose_split`.
        out: where to write. None, for one workdir: WORKDIR/eval/ and the sets' names.
        tolerance: distances within which NSD takes outlines for equal.
        overwrite: replace an earlier report.
        tta: predict with test-time augmentation, as `load` does.

    Returns:
        What metrics.json holds. Of several processes the first alone writes and returns it; the
        others return {}.

    Raises:
        InputError: a mistake in the arguments, before anything is scored; or a damaged image file,
            when its turn comes.

    Example:
        >>> report = evaluate("cxr", data="films", out="report")  # doctest: +SKIP
        >>> report["results"][0]["grids"]["original"]["per_image"]["dice"]["mean"]  # doctest: +SKIP
        0.97
    """
    started = time.monotonic()
    check_tolerance(tolerance)
    models_named = _listed(workdir)
    folders: list[Path | None] = [Path(path) for path in _listed(data)] or [None]
    if not models_named:
        raise InputError("--workdir: name at least one workdir of `jaxlung train`")
    if out is None and len(models_named) * len(folders) > 1:
        raise InputError("several models or sets need --out FOLDER for their common report")
    for name in filter(bundled.is_model_name, models_named):
        if out is None or data is None:
            raise InputError(f"--workdir {name}: a bundled model needs --data and --out")
    tasks = _plan(models_named, folders, split, tta)
    if out is None:
        out = Path(models_named[0]) / "eval" / f"{tasks[0].data}_{tasks[0].split.name}"
    if distributed.is_main():
        make_report_folder(Path(out), OUTPUTS, overwrite=overwrite)
    for task in tasks:
        distributed.check_same(f"{task.source}: the images", json.dumps(task.split.ids))
    results = [score_split(task, tolerance) for task in tasks]
    if not distributed.is_main():
        return {}
    models = {task.model: _about(task.predictor) for task in tasks}
    seconds = time.monotonic() - started
    return write_report(Path(out), results, models, tolerance, describe_environment(), seconds)


def _listed(value: Paths | None) -> list[str | os.PathLike[str]]:
    if value is None:
        return []
    return [value] if isinstance(value, str | os.PathLike) else list(value)


def _plan(
    models: Sequence[str | os.PathLike[str]],
    folders: Sequence[Path | None],
    split: str | None,
    tta: bool,
) -> list[Task]:
    """Loads the models and lists the images of every pair of model and set."""
    workdirs = [bundled.WEIGHTS / m if bundled.is_model_name(m) else Path(m) for m in models]
    for kind, paths in (("--workdir", workdirs), ("--data", folders)):
        if len({path and path.resolve() for path in paths}) < len(paths):
            raise InputError(f"{kind}: names a folder twice")
    loaded = [load(model, tta=tta) for model in models]
    pairs = list(itertools.product(zip(short_names(workdirs), loaded, strict=True), folders))
    sources = [folder or _own_source(predictor.config.data) for (_, predictor), folder in pairs]
    places = list(dict.fromkeys(source.resolve() for source in sources))
    labels = dict(zip(places, short_names(places), strict=True))
    tasks = []
    for ((name, predictor), folder), source in zip(pairs, sources, strict=True):
        chosen, warning = _choose_for(predictor, folder, split)
        label = labels[source.resolve()]
        tasks.append(Task(name, predictor, label, str(source), chosen, warning))
    return tasks


def _own_source(data: DataConfig) -> Path:
    return Path(data.dir if data.name in FOLDERS else data.name)


def _choose_for(
    predictor: Predictor, folder: Path | None, split: str | None
) -> tuple[Split, str | None]:
    data = predictor.config.data
    if predictor.bundled:  # a folder here may have the name of its own data without being these
        kind = data.name if data.name in FOLDERS else "folder"
        data = dataclasses.replace(data, name=kind, dir=os.devnull)
    if predictor.config.ensemble.folds and split in ("train", "validation"):
        raise InputError(
            f"--split {split}: each fold has its own; {predictor.workdir}/cross_validation.csv "
            f"has the images' scores, and {predictor.workdir}/members/0 is a model of one"
        )
    # A bundled model's images have no names: a folder that holds them is scored whole.
    recorded = None if predictor.bundled else predictor.data.digests
    return choose_split(data, folder, split, recorded)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Returns the last parts of each path, as many as tell it from the others."""
    parts = [path.resolve().parts[1:] for path in paths]
    names = []
    for i, own in enumerate(parts):
        others = parts[:i] + parts[i + 1 :]
        lengths = (n for n in range(1, len(own)) if all(o[-n:] != own[-n:] for o in others))
        names.append("/".join(own[-next(lengths, len(own)) :]))
    return names


def choose_split(
    config: DataConfig, data: Path | None, split: str | None, recorded: Digests | None = None
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
        chosen, warning = _own_split(config, split or "test", recorded)
        return (load_one_set(chosen, str(data)) if named else chosen), warning
    if not named and not data.exists():
        raise InputError(
            f"--data {data}: no such folder, nor a set of `jaxlung data list` (several: by "
            f"commas){did_you_mean(str(data))}"
        )
    warning = "these data hold the images that the model was trained on" if own else None
    if not named and not own and split != "all" and recorded:
        whole = keep_once(load_whole_folder(config, data), _KEPT)
        moved, warning = _moved_split(config, data, whole, split or "test", recorded)
        if moved or split is None:
            return moved or whole, warning
    if split in SPLITS:
        raise InputError(f"--split {split} is of the run's own data; leave it out with --data")
    if not named:
        return load_whole_folder(config, data, config.patient_pattern if own else ""), warning
    if config.name == "ct":
        raise InputError(f"--data {data}: holds X-rays, but the model was trained on CT")
    whole = load_whole_set(str(data), "" if in_folder else config.dir)
    return whole, warning or _other_convention(config, str(data))


def _moved_split(
    config: DataConfig, folder: Path, whole: Split, name: str, recorded: Digests
) -> tuple[Split | None, str | None]:
    """Finds a split of the run in a folder, all of which is `whole`, that may be its data's.

    Returns:
        the split, None where the folder holds less than half of it; and what to say of it.
    """
    wanted = recorded.get(name, {})
    by = "content" if all(map(is_example_digest, wanted.values())) else "name and size of file"
    ids, count = find_recorded(whole, wanted, config), len(wanted)
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


def _own_split(config: DataConfig, name: str, recorded: Digests | None) -> tuple[Split, str | None]:
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
            found, warning = _moved_split(config, folder, whole, name, recorded)
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


def _other_convention(config: DataConfig, name: str) -> str | None:
    """Warns where a set calls something else lung than the sets of the training."""
    trained = {CATALOG[own].convention for own in set_names(config.name)}
    convention = CATALOG[name].convention
    if not trained or convention in trained:
        return None
    return f"its masks are {convention}, those that were trained on {' and '.join(sorted(trained))}"


def _about(predictor: Predictor) -> dict[str, Any]:
    """Describes a model for metrics.json."""
    data = predictor.config.data
    return {
        "workdir": str(predictor.workdir),
        "step": predictor.step,
        "weights_sha256": digest_weights(predictor.variables),
        "trained_on": Path(data.dir).resolve().name if data.name in FOLDERS else data.name,
        "network_size": data.size,
        "tta": predictor.tta,
        "postprocess": predictor.config.keeps_lungs,
        "threshold": {
            "value": predictor.config.train.threshold,
            "chosen": "train.threshold of the run's config, fixed before training",
        },
        "config": predictor.config.to_dict(),
    }
