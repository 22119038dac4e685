"""What a training of several members ends in: a table, and each member as a run of its own."""

import csv
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlung import metrics
from jaxlung.config import Config, member_configs, varied_field
from jaxlung.metrics.statistics import summarize
from jaxlung.system.files import write_json, write_whole
from jaxlung.train.ensemble.data import Splits
from jaxlung.train.ensemble.progress import EnsembleProgress
from jaxlung.train.validation import mean_scores, per_image
from jaxlung.workdir import checkpoints
from jaxlung.workdir.record import read_digests

_SCORES = ("loss", "dice", "iou", "accuracy", "pooled_dice")


def write_result(
    workdir: Path,
    config: Config,
    splits_M: Sequence[Splits],
    progress: EnsembleProgress,
    steps_per_epoch: Sequence[int],
    results: Sequence[Any],
    best_M: Any,
) -> None:
    """Writes ensemble.csv, for folds cross_validation.csv, and members/; prints the table.

    Args:
        steps_per_epoch: of each member.
        results: `evaluate_on_validation`'s, of the best variables.
        best_M: those, stacked.
    """
    name, values = varied_field(config)
    images = [per_image(own) for own in results]
    rows: list[dict[str, Any]] = []
    for i, member in enumerate(progress.members):
        best = member.early_stop.best_step
        row = {
            "member": i,
            name: values[i],
            "best_epoch": "",
            "best_step": "",
            "steps": member.steps,
            "diverged": int(member.diverged),
        }
        if best >= 0:
            row |= {"best_epoch": best // steps_per_epoch[i], "best_step": best}
            row |= mean_scores(*images[i])
        rows.append({**row, **{score: row.get(score, "") for score in _SCORES}})
    columns = {score: [row[score] for row in rows if row[score] != ""] for score in _SCORES}
    means = {score: float(np.mean(of)) for score, of in columns.items()}
    sds = {score: float(np.std(of, ddof=1)) for score, of in columns.items() if len(of) > 1}
    for label, of_all in (("mean", means), ("sd", sds)):
        rows.append({**dict.fromkeys(rows[0], ""), "member": label, **of_all})
    _write_csv(workdir / "ensemble.csv", rows)
    shown = ["member", name, "best_epoch", *(s for s in _SCORES if s != "loss")]
    print("  ".join(f"{column:>13}" for column in shown))
    for row in rows:
        cells = (
            f"{x:.4f}" if isinstance(x, float) and k in _SCORES else x
            for k, x in row.items()
            if k in shown
        )
        print("  ".join(f"{cell:>13}" for cell in cells))
    if config.ensemble.folds:
        _cross_validation(workdir, splits_M, images, progress.validated())
    _write_members(workdir, config, splits_M, progress, best_M)
    print(f"{workdir / 'ensemble.csv'}; next: python eval.py --workdir {workdir}")


def _cross_validation(
    workdir: Path, splits_M: Sequence[Splits], images: Sequence[Any], validated_M: np.ndarray
) -> None:
    """Each image outside the test split by the member that did not train on it.

    Those of a member that has no best, as it diverged, have no scores; how many is told.
    """
    rows: list[dict[str, Any]] = []
    patients: list[str] = []
    missing: dict[str, int] = {}
    for fold, (splits, (_, counts)) in enumerate(zip(splits_M, images, strict=True)):
        split = splits["validation"].split
        if not validated_M[fold]:
            missing[f"fold {fold}"] = len(split.ids)
            continue
        own = split.patients or split.ids
        patients += own
        scores = zip(
            metrics.dice(counts), metrics.iou(counts), metrics.accuracy(counts), strict=True
        )
        for image_id, patient, (dice, iou, accuracy) in zip(split.ids, own, scores, strict=True):
            rows.append(
                {
                    "id": image_id,
                    "patient": patient,
                    "fold": fold,
                    "dice": float(dice),
                    "iou": float(iou),
                    "accuracy": float(accuracy),
                }
            )
    _write_csv(workdir / "cross_validation.csv", rows)
    columns = {name: np.array([row[name] for row in rows]) for name in ("dice", "iou", "accuracy")}
    summaries = summarize(columns, patients)
    write_json(workdir / "cross_validation.json", {**summaries, "images_missing": missing})
    for name, count in missing.items():
        print(
            f"warning: {name} has diverged, and has no finite validation: its {count} images "
            f"have no scores"
        )
    for label, name in (("Dice", "dice"), ("IoU", "iou"), ("accuracy", "accuracy")):
        of = summaries[name]
        interval = "none, of so few patients"
        if of["ci95"]:
            interval = f"{of['ci95'][0]:.4f} to {of['ci95'][1]:.4f}"
        print(
            f"cross-validation: {label} {of['mean']:.4f}, SD {of['sd'] or 0:.4f}, 95 % CI "
            f"{interval} ({of['n']} images of {len(set(patients))} patients)"
        )


def _write_members(
    workdir: Path,
    config: Config,
    splits_M: Sequence[Splits],
    progress: EnsembleProgress,
    best_M: Any,
) -> None:
    """members/I: config.json, data.json and a checkpoint of the best parameters, all or none."""
    if (workdir / "members").exists():  # of an earlier start, which was complete too
        return
    digests = read_digests(workdir)
    partial = workdir / ".members.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for i, member_config in enumerate(member_configs(config)):
        stop = progress.members[i].early_stop
        if stop.best_step < 0:
            continue
        folder = partial / str(i)
        folder.mkdir(parents=True)
        write_json(folder / "config.json", member_config.to_dict())
        ids = {name: own.split.ids for name, own in splits_M[i % len(splits_M)].items()}
        own = {name: {x: digests[name][x] for x in ids[name]} for name in digests}
        write_json(folder / "data.json", own)
        variables = jax.device_get(jax.tree.map(lambda x, i=i: x[i], best_M))
        with checkpoints.open_manager(folder) as manager:
            checkpoints.save_parts(manager, stop.best_step, checkpoints.Parts(variables), stop.best)
    os.replace(partial, workdir / "members")


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with write_whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
