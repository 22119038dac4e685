"""Scores models on sets of images and writes their common report."""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxlung.catalog import FOLDERS, is_set
from jaxlung.config import DataConfig
from jaxlung.data.splits import Split, select_examples
from jaxlung.devices import distributed
from jaxlung.errors import InputError
from jaxlung.evaluation.choice import choose_split
from jaxlung.evaluation.model_scores import Task, score_split
from jaxlung.evaluation.report import OUTPUTS, write_report
from jaxlung.io.page import make_report_folder
from jaxlung.metrics.image import DEFAULT_TOLERANCE, Tolerance, check_tolerance
from jaxlung.predict.load import load
from jaxlung.predict.predictor import Predictor
from jaxlung.structures import is_structure_name
from jaxlung.system.digests import digest_weights
from jaxlung.system.environment import describe_environment
from jaxlung.weights import bundled

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
    turn: bool = True,
    output: str | None = None,
    convention: str | None = None,
) -> dict[str, Any]:
    """Scores the best checkpoint of each run on each set of images.

    Writes metrics.json, per_image.csv and report.html: see docs/reference/evaluation.md.

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
        turn: turn rotated X-rays upright before the prediction, as `load` does.
        output: the structure to score; None: each of the model's outputs that images label.
        convention: the structure that the masks of folders mark, where their metadata.csv does not
            say; None: as in the run's data.convention.

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
    tasks = _plan(models_named, folders, split, tta, output, convention, turn)
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
    output: str | None = None,
    convention: str | None = None,
    turn: bool = True,
) -> list[Task]:
    """Loads the models and lists the images of every pair of model and set."""
    workdirs = [bundled.WEIGHTS / m if bundled.is_model_name(m) else Path(m) for m in models]
    for kind, paths in (("--workdir", workdirs), ("--data", folders)):
        if len({path and path.resolve() for path in paths}) < len(paths):
            raise InputError(f"{kind}: names a folder twice")
    loaded = [load(model, tta=tta, turn=turn) for model in models]
    pairs = list(itertools.product(zip(short_names(workdirs), loaded, strict=True), folders))
    sources = [folder or _own_source(predictor.config.data) for (_, predictor), folder in pairs]
    places = list(dict.fromkeys(source.resolve() for source in sources))
    labels = dict(zip(places, short_names(places), strict=True))
    tasks = []
    for ((name, predictor), folder), source in zip(pairs, sources, strict=True):
        chosen, warning = _choose_for(predictor, folder, split, convention)
        task = Task(name, predictor, labels[source.resolve()], str(source), chosen, warning)
        tasks += _for_outputs(task, output)
    return tasks


def _for_outputs(task: Task, output: str | None) -> list[Task]:
    """Makes a task of each structure that the model marks and that images label.

    Where images label none of them, one task compares the model's first structure with theirs, and
    its warning says so. A set's name has the structure where that is not the lung.
    """
    split, outputs = task.split, task.predictor.config.model.outputs
    wanted = (task.predictor.for_output(output).output,) if output else outputs
    tasks = []
    for structure in wanted:
        ids = [own for i, own in enumerate(split.ids) if structure in split.labels_of(i)]
        if not ids:
            continue
        part = split if len(ids) == len(split.ids) else select_examples(split, ids, split.name)
        tasks.append(task.of(structure, part))
    unscored = sum(not set(wanted) & set(split.labels_of(i)) for i in range(len(split.ids)))
    if not tasks:
        marked = sorted({split.labels_of(i)[0] for i in range(len(split.ids))})
        if len(marked) > 1:
            raise InputError(
                f"{task.source}: its masks mark {' and '.join(marked)}, and {task.model} "
                f"{', '.join(wanted)}; name masks of one structure"
            )
        text = f"its masks mark {marked[0]}, and the model marks {wanted[0]}"
        return [task.of(wanted[0], split, marked[0], text)]
    if unscored:
        text = f"{unscored} of these {len(split.ids)} images label no output that is scored"
        tasks = [one.of(one.predictor.output, one.split, warning=text) for one in tasks]
    return tasks


def _own_source(data: DataConfig) -> Path:
    return Path(data.dir if data.name in FOLDERS else data.name)


def _choose_for(
    predictor: Predictor, folder: Path | None, split: str | None, convention: str | None
) -> tuple[Split, str | None]:
    data = predictor.config.data
    if predictor.bundled:  # a folder here may have the name of its own data without being these
        kind = "ct" if predictor.config.modality == "ct" else "folder"
        data = dataclasses.replace(data, name=kind, dir=os.devnull)
    if predictor.config.ensemble.folds and split in ("train", "validation"):
        raise InputError(
            f"--split {split}: each fold has its own; {predictor.workdir}/cross_validation.csv "
            f"has the images' scores, and {predictor.workdir}/members/0 is a model of one"
        )
    # A bundled model's images have no names: a folder that holds them is scored whole.
    recorded = None if predictor.bundled else predictor.data.digests
    if convention:
        is_other = folder is not None and folder.resolve() != Path(data.dir).resolve()
        if not is_other or is_set(Path(folder or "")) or not is_structure_name(convention):
            raise InputError(
                f"--convention {convention}: names, in lower-case letters, the structure that the "
                f"masks of a --data folder mark, which is not the run's own"
            )
        data = dataclasses.replace(data, convention=convention)
    return choose_split(data, folder, split, recorded, predictor.config.model.outputs)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Returns the last parts of each path, as many as tell it from the others."""
    parts = [path.resolve().parts[1:] for path in paths]
    names = []
    for i, own in enumerate(parts):
        others = parts[:i] + parts[i + 1 :]
        lengths = (n for n in range(1, len(own)) if all(o[-n:] != own[-n:] for o in others))
        names.append("/".join(own[-next(lengths, len(own)) :]))
    return names


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
        "turn": predictor.turn,
        "postprocess": predictor.config.keeps_lungs,
        "threshold": {
            "value": predictor.config.train.threshold,
            "chosen": "train.threshold of the run's config, fixed before training",
        },
        "config": predictor.config.to_dict(),
    }
