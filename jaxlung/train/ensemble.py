"""Several trainings, one after another: seeds, folds of a cross-validation, or learning rates.

Each member is an ordinary run in `members/I` of the ensemble's workdir. Members that differ by seed
alone share their compiled steps, and all share the images in memory.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlung import metrics
from jaxlung.config import Config, member_configs, parse_config, varied_field
from jaxlung.data.splits import patients_by_id
from jaxlung.devices.distributed import gather, is_main
from jaxlung.errors import InputError, TrainingError
from jaxlung.metrics.statistics import FEW_COVERAGE, FEW_PATIENTS, summarize
from jaxlung.system.files import write_json, write_text, write_whole
from jaxlung.train.compiled import compile_steps, make_run_mesh
from jaxlung.train.data import Data, prepare_members
from jaxlung.train.epochs import NotFinite
from jaxlung.train.loop import train_on
from jaxlung.train.run import check_run, check_workdir, open_run
from jaxlung.train.sigterm import Stop
from jaxlung.train.validation import Scores, validate
from jaxlung.workdir.best import find_best_step, restore_best
from jaxlung.workdir.integrity import list_checkpoints
from jaxlung.workdir.record import Contents

_DIVERGED = "diverged.txt"  # in a member's folder: why it was left behind
_OVERLAP = {"dice": "Dice", "iou": "IoU", "accuracy": "accuracy"}  # functions of `metrics`
_SHOWN = (*_OVERLAP, "pooled_dice", "volume_dice")
_SCORES = ("loss", *_OVERLAP, "pooled_dice")

Row = dict[str, Any]


class _Member(NamedTuple):
    """One training of an ensemble."""

    config: Config
    folder: Path
    data: Data


def train_ensemble(config: Any, workdir: str | Path, *, profile: bool = False) -> list[Row]:
    """Trains the members that config.ensemble names, in turn; goes on where it stopped.

    Each is the single run of its `member_configs(config)`, in `members/0`, `members/1`, ... A
    member whose numbers are not finite is left behind, and the others go on. Writes ensemble.csv,
    and for folds cross_validation.csv and .json. `jaxlung.load(workdir)` predicts the mean of all
    members.

    Args:
        config: a `Config`, a ConfigDict or a plain dict with its fields.
        workdir: where all goes.
        profile: as for `train_and_evaluate`, of each member.

    Returns:
        the rows of ensemble.csv: a member each, then the mean and the SD (n - 1) over members.

    Raises:
        InputError, Stopped: as `train_and_evaluate`.
        TrainingError: likewise; or no member has a finite validation.

    Example:
        >>> from jaxlung import default_config
        >>> config = default_config()
        >>> config.ensemble.members = 4
        >>> rows = train_ensemble(config, "runs/seeds")  # doctest: +SKIP
        >>> rows[0]["dice"]  # of member 0's best epoch, on its validation split  # doctest: +SKIP
    """
    config, workdir = parse_config(config), Path(workdir)
    if not config.is_ensemble:
        raise InputError(
            "config.ensemble names no members; set ensemble.members, ensemble.folds or "
            "ensemble.learning_rates, or call train_and_evaluate"
        )
    configs = member_configs(config)
    folders = [workdir / "members" / str(i) for i in range(len(configs))]
    mesh = make_run_mesh(config)
    check_workdir(config, workdir)
    for one, folder in zip(configs, folders, strict=True):
        check_run(one, folder)
    members = list(map(_Member, configs, folders, prepare_members(configs)))
    with open_run(config, workdir, _join_contents(config, members)):
        for i, member in enumerate(members):
            diverged = member.folder / _DIVERGED
            _say(f"member {i} of {len(members)}: {member.folder}")
            if _has_diverged(member.folder):
                _say(f"it was left behind; remove {diverged} to go on with it")
                continue
            try:
                train_on(member.data, member.config, member.folder, mesh, profile=profile)
            except NotFinite as error:
                _say(f"warning: member {i}: {error}; left behind; the others go on")
                if is_main():
                    write_text(diverged, f"{error}\n")
        return _write_results(config, workdir, members, mesh)


def _has_diverged(folder: Path) -> bool:
    """Returns whether a member was left behind, as process 0 sees it; others may see it late."""
    return bool(gather((folder / _DIVERGED).exists())[0])


def _say(line: str) -> None:
    if is_main():
        print(line, flush=True)


def _join_contents(config: Config, members: Sequence[_Member]) -> Contents:
    """Returns what is known of all images that any member trains on or validates with."""
    contents = members[0].data.contents
    if not config.ensemble.folds:
        return contents
    digests = contents.digests
    pool = {**digests["train"], **digests["validation"]}
    return contents._replace(digests={"train": pool, "validation": pool, "test": digests["test"]})


def _write_results(
    config: Config, workdir: Path, members: Sequence[_Member], mesh: jax.sharding.Mesh
) -> list[Row]:
    """Scores each member's best epoch on its validation split; writes and prints the tables."""
    diverged_M = [_has_diverged(member.folder) for member in members]
    bests_M = gather([find_best_step(member.folder) for member in members])[0]
    if not any(best is not None for best in bests_M):
        raise TrainingError(
            f"{workdir}: the numbers of all {len(members)} members were not finite; try a lower "
            f"optim.learning_rate"
        )
    name, values = varied_field(config)
    outputs = config.model.outputs
    names = (*_SCORES, "volume_dice") if config.modality == "ct" else _SCORES
    if len(outputs) > 1:
        names = (*names, *(f"dice_{output}" for output in outputs))
    rows: list[Row] = []
    scores_M: list[Scores | None] = []
    for i, (member, best) in enumerate(zip(members, bests_M, strict=True)):
        steps_per_epoch = len(member.data.canvases["train"].split.ids) // config.train.batch_size
        row = {"member": i, name: values[i], "best_epoch": "", "best_step": ""}
        saved = [int(path.name) for path in list_checkpoints(member.folder)]  # by steps
        row |= {"steps": max(saved, default=0), "diverged": int(diverged_M[i])}
        row |= dict.fromkeys(names, "")
        scores = None
        if best is not None:
            scores = _score_best(member, mesh, steps_per_epoch)
            row |= {"best_epoch": best // steps_per_epoch, "best_step": best, **scores.means()}
        rows.append(row)
        scores_M.append(scores)
    rows += _summary_rows(rows, names)
    if is_main():
        _write_csv(workdir / "ensemble.csv", rows)
        _print_table(rows, ("member", name, "best_epoch", *names[1:]))
        if config.ensemble.folds:
            _write_cross_validation(workdir, [member.data for member in members], scores_M)
        print(f"{workdir / 'ensemble.csv'}; next: jaxlung eval --workdir {workdir}")
    return rows


def _score_best(member: _Member, mesh: jax.sharding.Mesh, steps_per_epoch: int) -> Scores:
    compiled = compile_steps(member.config, mesh, steps_per_epoch)
    variables, _ = restore_best(member.folder, compiled.abstract.variables)
    canvases = member.data.canvases["validation"]
    scores = validate(variables, compiled.evaluate, canvases, member.config, mesh, Stop())
    assert scores is not None  # SIGTERM does not ask here: it ends the process, all is saved
    return scores


def _summary_rows(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Returns the rows "mean" and "sd" of the members that have scores; one has no SD."""
    columns = {name: [row[name] for row in rows if row[name] != ""] for name in names}
    blank = dict.fromkeys(rows[0], "")
    mean = {name: float(np.mean(values)) for name, values in columns.items() if values}
    sd = {name: float(np.std(v, ddof=1)) for name, v in columns.items() if len(v) > 1}
    return [{**blank, "member": "mean", **mean}, {**blank, "member": "sd", **sd}]


def _print_table(rows: Sequence[Row], names: Sequence[str]) -> None:
    print("  ".join(f"{name:>13}" for name in names))
    for row in rows:
        cells = (
            f"{row[name]:.4f}" if name in _SHOWN and row[name] != "" else row[name]
            for name in names
        )
        print("  ".join(f"{cell:>13}" for cell in cells))


def _write_cross_validation(
    workdir: Path, data_M: Sequence[Data], scores_M: Sequence[Scores | None]
) -> None:
    """Writes each image outside the test split as scored by the member that did not train on it.

    CT is written by volumes: the voxels of their slices together. With several outputs an image has
    a row for each that it labels.

    The images of a member without a best, as it diverged, have no scores; a warning counts them.
    """
    rows: list[Row] = []
    missing: dict[str, int] = {}
    for fold, (data, scores) in enumerate(zip(data_M, scores_M, strict=True)):
        split = data.canvases["validation"].split
        if scores is None:
            missing[f"fold {fold}"] = len(split.ids)
            continue
        names, patient_by_id = scores.volumes or split.ids, patients_by_id(split)
        for channel, output in enumerate(scores.outputs):
            chosen, counts = scores.of_output(channel)
            first = np.arange(len(chosen))
            if scores.volumes:
                counts, first = metrics.pool_groups(counts, [names[i] for i in chosen])
            columns = {name: getattr(metrics, name)(counts) for name in _OVERLAP}
            marked = {"output": output} if len(scores.outputs) > 1 else {}
            for row, i in enumerate(chosen[first]):
                values = {name: float(column[row]) for name, column in columns.items()}
                about = {"id": names[i], "patient": patient_by_id[split.ids[i]], "fold": fold}
                rows.append({**about, **marked, **values})
    outputs = next(scores.outputs for scores in scores_M if scores)
    unit = "volumes" if any(scores and scores.volumes for scores in scores_M) else "images"
    _write_csv(workdir / "cross_validation.csv", rows)
    summaries: dict[str, Any] = {}
    for output in outputs:
        own = [row for row in rows if row.get("output", output) == output]
        if not own:  # no image of any validation split labels it
            continue
        patients = [row["patient"] for row in own]
        columns = {name: np.array([row[name] for row in own]) for name in _OVERLAP}
        summaries[output] = summarize(columns, patients)
        of_output = f" of {output}" if len(outputs) > 1 else ""
        for name, label in _OVERLAP.items():
            described = _describe(summaries[output][name], unit, len(set(patients)))
            print(f"cross-validation: {label}{of_output} {described}")
    # With several outputs, which are never pooled, each has its summaries under its name.
    whole = summaries if len(outputs) > 1 else summaries[outputs[0]]
    write_json(workdir / "cross_validation.json", {**whole, "images_missing": missing})
    for name, count in missing.items():
        print(
            f"warning: {name} has diverged, and has no finite validation: its {count} images "
            f"have no scores"
        )


def _describe(summary: Mapping[str, Any], unit: str, patients: int) -> str:
    interval = "none, of so few patients"
    if summary["ci95"]:
        interval = f"{summary['ci95'][0]:.4f} to {summary['ci95'][1]:.4f}"
        if patients < FEW_PATIENTS:
            interval += f" (which covers {FEW_COVERAGE} with so few patients)"
    return (
        f"{summary['mean']:.4f}, SD {summary['sd'] or 0:.4f}, 95 % CI {interval} "
        f"({summary['n']} {unit} of {patients} patients)"
    )


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with write_whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
