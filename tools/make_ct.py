"""Makes the bundled model of CT with one command; stopped, the same command goes on:

    python -m tools.make_ct --scans DIR --runs RUNS

DIR holds images/ and masks/ with the scans of the AAPM Thoracic Auto-segmentation Challenge.
--without STEM leaves a scan out, and --leave-one-out each of them in turn. It then scores each scan
by the model that has not seen it, as `jaxlung predict` writes its mask, and prints a table of whole
scans, which RUNS/leave_one_out.json keeps. Nothing is chosen: a few scans leave none to validate
on, so that the validation split is a scan of the training split again, and the epochs are fixed.

The first epochs are on a small canvas, which takes less time for each slice, and learn what a lung
is under strong changes. The others learn its outline, on slices that change less.
"""

import argparse
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from jaxlung.config import load_recipe, parse_config
from jaxlung.data.ct_folder import find_volumes
from jaxlung.errors import InputError, one_line_errors
from jaxlung.io.ct.geometry import measure_voxel
from jaxlung.io.ct.labels import check_same_grid, read_label_volume
from jaxlung.metrics.image import score_masks
from jaxlung.predict.load import load
from jaxlung.predict.predictor import Predictor
from jaxlung.predict.volumes import predict_volume
from jaxlung.system.files import write_text
from jaxlung.train.loop import train_and_evaluate

SCORES = ("dice", "hd95_mm", "assd_mm", "nsd_mm")
SMALL = 128  # pixels: the first canvas
_VALIDATION, _TEST = "again_1", "again_2"  # names of the first scan as it stands there again


def join_scans(scans: Path, out: Path, without: str | None = None) -> None:
    """Links all scans but one into a folder, with splits.json.

    Raises:
        InputError: there is no scan of the name `without`, or no other one; or a scan is no single
            file.
    """
    pairs = find_volumes(scans)
    if without and without not in pairs:
        raise InputError(f"--without {without}: no such scan; there are {', '.join(pairs)}")
    held = [without] if without else []
    for path in itertools.chain(*pairs.values()):
        if path.is_dir() or path.suffix.lower() in (".mhd", ".nhdr"):
            raise InputError(f"{path}: is no single file; convert the scans to NIfTI first")
    stems = [stem for stem in pairs if stem not in held]
    if not stems:
        raise InputError(f"{scans}: holds no scan but {without}")
    for kind in ("images", "masks"):  # links of an earlier time
        shutil.rmtree(out / kind, ignore_errors=True)
    names = {stem: stem for stem in [*stems, *held]}
    names[_VALIDATION] = stems[0]
    if not held:  # no split may be empty
        names[_TEST] = stems[0]
    for name, stem in names.items():
        for kind, path in zip(("images", "masks"), pairs[stem], strict=True):
            link = out / kind / f"{name}{path.name.removeprefix(stem)}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    lists = {"train": stems, "validation": [_VALIDATION], "test": held or [_TEST]}
    write_text(out / "splits.json", json.dumps(lists))


def train(folder: Path, workdir: Path, epochs: int, source: Path | None = None) -> None:
    """Trains configs/ct.py on a folder of `join_scans`, or goes on with it.

    Args:
        source: a finished run on the small canvas, whose parameters are the first ones; without it
            the canvas is SMALL and the parameters are random.
    """
    config = load_recipe("ct")
    config.data.update({"dir": str(folder), "split_file": str(folder / "splits.json")})
    config.data.allow_shared_images = True  # the scan that validates is one that trains
    config.train.num_epochs = epochs
    if source:
        config.train.init_from = str(source)
        config.optim.warmup_epochs = 0.3
        config.augment.update({"rotation": 10.0, "scale": 0.2, "noise": 0.03, "blur": 0.3})
    else:
        config.data.size = SMALL
    train_and_evaluate(parse_config(config), workdir)


def make(scans: Path, runs: Path, epochs: Sequence[int], without: str | None = None) -> Path:
    """Trains on the small canvas, then on that of the recipe, and returns the second's workdir.

    Args:
        epochs: on the small canvas, and on the other.
        without: a scan to leave out.
    """
    name = f"without_{without}" if without else "ct"
    data, small, model = (runs / f"{name}{end}" for end in ("_data", "_small", ""))
    join_scans(scans, data, without)
    train(data, small, epochs[0])
    train(data, model, epochs[1], small)
    return model


def leave_one_out(scans: Path, runs: Path, epochs: Sequence[int]) -> list[dict[str, Any]]:
    """Trains without each scan in turn and scores it. Trainings go on where they were stopped.

    Returns:
        a row for each scan: its name, slices, Dice, HD95, ASSD and NSD of the surfaces in mm, and
        the millilitres of lung in prediction and truth.
    """
    rows: list[dict[str, Any]] = []
    for stem, (image, mask) in find_volumes(scans).items():
        # A workdir of another recipe is refused here, so that no row is of one.
        model = load(make(scans, runs, epochs, stem))
        rows.append({"scan": stem, **score(model, image, mask)})
        write_text(runs / "leave_one_out.json", json.dumps({"epochs": list(epochs), "rows": rows}))
    return rows


def score(model: Predictor, image: Path, mask: Path) -> dict[str, Any]:
    """Scores the mask of a whole scan as `jaxlung predict` writes it.

    Raises:
        InputError: the mask lies on another grid.
    """
    labels, found = read_label_volume(mask), predict_volume(model, image)
    check_same_grid(labels.grid, mask, found.volume.grid, image)
    truth_ZxHxW = labels.voxels_ZxHxW > 0
    scores = score_masks(found.mask_ZxHxW, truth_ZxHxW, spacing=found.volume.spacing)
    millilitres = measure_voxel(found.volume) / 1000
    return {
        "slices": len(truth_ZxHxW),
        **{name: scores[name] for name in SCORES},
        "ml": np.count_nonzero(found.mask_ZxHxW) * millilitres,
        "true_ml": np.count_nonzero(truth_ZxHxW) * millilitres,
        "confidence": found.confidence,
        "warnings": list(found.warnings),
    }


def to_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats the rows of `leave_one_out`, and their means with Student's 95 % intervals."""
    head = ("scan", "slices", "Dice", "HD95 mm", "ASSD mm", "NSD 2 mm", "ml", "true ml")
    lines = [" ".join(f"{name:>12}" for name in head)]
    for row in rows:
        figures = [f"{row[name]:12.4f}" for name in SCORES]
        sizes = [f"{row[name]:12.0f}" for name in ("ml", "true_ml")]
        lines.append(" ".join([f"{row['scan']:>12} {row['slices']:12}", *figures, *sizes]))
    for name, shown in zip(SCORES, head[2:], strict=False):
        values_N = np.array([row[name] for row in rows])
        line = f"{shown}: mean {values_N.mean():.4f} of {len(values_N)} scans"
        if len(values_N) > 1:
            # So few have no better interval: it takes the scans for a sample of a normal law.
            half = stats.t.ppf(0.975, len(values_N) - 1) * stats.sem(values_N)
            line += f" (95 % interval {values_N.mean() - half:.4f} to {values_N.mean() + half:.4f})"
        lines.append(f"{line}, {values_N.min():.4f} to {values_N.max():.4f}")
    return "\n".join(lines)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_ct", description="Makes the bundled model of CT."
    )
    parser.add_argument("--scans", type=Path, required=True, metavar="DIR")
    parser.add_argument("--runs", type=Path, required=True, help="where trainings go")
    left = parser.add_mutually_exclusive_group()
    left.add_argument("--without", metavar="STEM", help="a scan to leave out of training")
    left.add_argument("--leave-one-out", action="store_true", help="score each scan unseen")
    names = ("SMALL", "MODEL")
    parser.add_argument("--epochs", type=int, nargs=2, default=(6, 5), metavar=names)
    arguments = parser.parse_args(argv)
    if arguments.leave_one_out:
        print(to_table(leave_one_out(arguments.scans, arguments.runs, arguments.epochs)))
        return
    print(make(arguments.scans, arguments.runs, arguments.epochs, arguments.without))


if __name__ == "__main__":
    main()
