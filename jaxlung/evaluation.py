"""`evaluate`: which models on which sets of images, and their common report."""

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxlung.catalog import CATALOG
from jaxlung.config import DataConfig, set_names
from jaxlung.datasets import load_splits
from jaxlung.errors import InputError
from jaxlung.folder import folder_split
from jaxlung.model_scores import Task, score_split
from jaxlung.named_sets import whole_set
from jaxlung.predict import Predictor, load, weights_sha256
from jaxlung.report import write_report
from jaxlung.results import check_out
from jaxlung.scoring import DEFAULT_TOLERANCE, Tolerance, check_tolerance
from jaxlung.splits import SPLITS, Split

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def evaluate(
    workdir: Paths,
    *,
    data: Paths | None = None,
    split: str | None = None,
    out: str | os.PathLike[str] | None = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Scores the best checkpoint of each run on each set of images.

    Writes metrics.json, per_image.csv and report.html: see docs/evaluation.md.

    Args:
        workdir: one of train.py's, or several, to compare them on the same images.
        data, split: see `choose_split`; several folders make a table of models and sets.
        out: where to write; None, for one workdir, is WORKDIR/eval/ and the sets' names.
        tolerance: of NSD.
        overwrite: replace an earlier report.

    Returns:
        what metrics.json holds.

    Raises:
        InputError: naming what stands in the way; before anything is scored, but for damaged
            image files, which are read on the way.
    """
    started = time.monotonic()
    check_tolerance(tolerance)
    workdirs = _paths(workdir)
    folders: list[Path | None] = [*_paths(data)] or [None]
    if not workdirs:
        raise InputError("--workdir: name at least one workdir of train.py")
    tasks = _plan(workdirs, folders, split)
    if out is None:
        if len(workdirs) > 1:
            raise InputError("several workdirs need --out FOLDER for their common report")
        names = [f"{task.data}_{task.split.name}" for task in tasks]
        out = workdirs[0] / "eval" / "+".join(names)
    check_out(Path(out), overwrite=overwrite)
    results = [score_split(task, tolerance) for task in tasks]
    models = {task.model: _about(task.predictor) for task in tasks}
    return write_report(Path(out), results, models, tolerance, seconds=time.monotonic() - started)


def _paths(value: Paths | None) -> list[Path]:
    if value is None:
        return []
    return [Path(p) for p in ([value] if isinstance(value, str | os.PathLike) else value)]


def _plan(
    workdirs: Sequence[Path], folders: Sequence[Path | None], split: str | None
) -> list[Task]:
    """Loads the models and lists the images of every pair of model and set."""
    for kind, paths in (("--workdir", workdirs), ("--data", folders)):
        resolved = [path and path.resolve() for path in paths]
        if len(set(resolved)) < len(resolved):
            raise InputError(f"{kind}: names a folder twice")
    models = zip(short_names(workdirs), map(load, workdirs), strict=True)
    sets = short_names([folder for folder in folders if folder])
    tasks = []
    for (name, predictor), (i, folder) in itertools.product(models, enumerate(folders)):
        chosen, warning = choose_split(predictor.config.data, folder, split)
        if folder:
            label, source = sets[i], str(folder)
        elif predictor.config.data.name == "folder":
            label, source = (
                Path(predictor.config.data.dir).resolve().name,
                predictor.config.data.dir,
            )
        else:
            label = predictor.config.data.name
            source = "simulated" if label == "phantom" else label
        tasks.append(Task(name, predictor, label, source, chosen, warning))
    return tasks


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many before it as tell it from the others."""
    parts = [path.resolve().parts[1:] for path in paths]
    names = []
    for i, own in enumerate(parts):
        others = parts[:i] + parts[i + 1 :]
        lengths = (n for n in range(1, len(own)) if all(o[-n:] != own[-n:] for o in others))
        names.append("_".join(own[-next(lengths, len(own)) :]))
    return names


def choose_split(
    config: DataConfig, data: Path | None, split: str | None
) -> tuple[Split, str | None]:
    """What to evaluate on.

    Args:
        config: the run's own data.
        data: a folder with images/ and masks/, or a prepared public set by name; None for the
            run's own data.
        split: "train", "validation", "test", or "all" (a folder's every pair); None means "test"
            of the run's own data, by --data too, and "all" of another folder.

    Returns:
        the split, and a warning or None.
    """
    if split not in (None, "all", *SPLITS):
        raise InputError(f"--split must be all, {', '.join(SPLITS)}, got {split!r}")
    own = data is None or (config.name == "folder" and data.resolve() == Path(config.dir).resolve())
    if data is None and split == "all":
        raise InputError("--split all needs --data FOLDER: the run's own data were trained on")
    if data is not None and (split == "all" or not own):
        if split in SPLITS:
            raise InputError(f"--split {split} is of the run's own data; leave it out with --data")
        if str(data) in CATALOG and not data.exists():
            return whole_set(str(data), config.dir if set_names(config) else ""), None
        pattern = config.patient_pattern if own else ""
        warning = "these data hold the images that the model was trained on" if own else None
        return folder_split(data, pattern), warning
    name = split or "test"
    warning = None if name == "test" else f"the {name} split was used in training"
    return load_splits(config)[name], warning


def _about(predictor: Predictor) -> dict[str, Any]:
    """Provenance of a model, for metrics.json."""
    data = predictor.config.data
    return {
        "workdir": str(predictor.workdir),
        "step": predictor.step,
        "weights_sha256": weights_sha256(predictor.variables),
        "trained_on": Path(data.dir).resolve().name if data.name == "folder" else data.name,
        "network_size": data.size,
        "threshold": {
            "value": predictor.config.train.threshold,
            "chosen": "train.threshold of the run's config, fixed before training",
        },
        "config": predictor.config.to_dict(),
    }
