"""Makes the bundled models of chest X-rays, one command each; stopped, the same command goes on:

    python -m tools.make_models open --montgomery DIR --children DIR --shenzhen DIR --runs RUNS
    python -m tools.make_models all  --montgomery DIR --children DIR --shenzhen DIR --runs RUNS

Each DIR holds images/ and masks/. `open` reads no mask of Shenzhen: a teacher learns from the other
two sets, it labels Shenzhen's films, and a student learns from the masks and from the labels that
the teacher is sure of (self-training; Xie et al. 2020, arXiv:1911.04252, "noisy student": the
student's films are augmented, the teacher's are not). `all` goes on from the same teacher with all
masks, and settles: its last epochs are on films that change less, and learn the outline. `open`
does not settle, as that costs Dice on spoilt films, and it is for hospitals that none of them saw.
Most of the teacher's training is on a smaller canvas, which takes half of the time for each film
(progressive learning; Tan and Le 2021, arXiv:2104.00298).
"""

import argparse
import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from jaxlung.config import DataConfig, load_recipe, parse_config
from jaxlung.data.datasets import load_splits
from jaxlung.data.folder import Pair, find_others, find_pairs, list_images, load_folder
from jaxlung.data.splits import SPLITS, patients_by_id
from jaxlung.errors import InputError, one_line_errors
from jaxlung.io.images import write_png
from jaxlung.predict.load import load
from jaxlung.predict.predictor import Predictor
from jaxlung.structures import LUNG, LUNG_AND_HEART
from jaxlung.system.digests import digest_weights
from jaxlung.system.files import write_text
from jaxlung.train.loop import train_and_evaluate

OUTPUTS = (LUNG, LUNG_AND_HEART)
SURE = 0.9  # mean certainty in and near the lungs, from which a teacher's label is taken
NEAR = 1 / 32  # of the longer side: how far "near" reaches from a mask
REPEATS = {"montgomery": 4}  # visits in an epoch: the children are seven times as many films
SMALL = 192  # pixels: the first canvas
SETTLED = {  # augmentation of the last epochs, some half of configs/cxr.py
    **{"contrast": 0.2, "brightness": 0.1, "gamma": 0.3, "opacity": 0.25, "shade": 0.1},
    **{"rotation": 10.0, "scale": 0.2, "aspect": 0.1, "elastic": 0.01, "occlusion": 0.1},
}
_HEART_IN = f"masks_{LUNG_AND_HEART}"
_KINDS = ("images", "masks", _HEART_IN)


class Set(NamedTuple):
    """A folder of films, and the output that its masks teach."""

    name: str
    folder: Path
    convention: str


def join_sets(sets: Sequence[Set], out: Path, labels: Path | None = None) -> None:
    """Links films and masks of several folders into one, with metadata.csv and splits.json.

    A film keeps the split that it has in its own folder: splits go by a hash of the patient. Those
    of REPEATS stand in the train split several times. Films of `labels` are trained on alone.

    Args:
        labels: a folder of `label_films`.
    """
    lists: dict[str, list[str]] = {name: [] for name in SPLITS}
    rows = [("id", "patient", "convention", "site", "finding")]
    links: dict[Path, Path] = {}  # what stands in `out`, to the file that it is

    def add(pair: Pair, name: str) -> None:
        for kind, path in (("images", pair.image), ("masks", pair.mask)):
            links[out / kind / f"{name}{path.suffix}"] = path

    for one in sets:
        pairs = {pair.id: pair for pair in find_pairs(one.folder)}
        whole = load_folder(one.folder)
        patients = patients_by_id(whole)
        findings = dict(zip(whole.ids, whole.groups.get("finding", ()), strict=False))
        splits = load_splits(DataConfig(name="folder", dir=str(one.folder)))
        for split, examples in splits.items():
            times = REPEATS.get(one.name, 1) if split == "train" else 1
            for stem in examples.ids:
                for i in range(times):
                    name = f"{stem}-{i + 1}" if i else stem
                    lists[split].append(name)
                    patient = f"{one.name}:{patients[stem]}"
                    rows.append((name, patient, one.convention, one.name, findings.get(stem, "")))
                    add(pairs[stem], name)
    if labels:
        pairs = {pair.id: pair for pair in find_pairs(labels)}
        others = find_others(labels, list(pairs))[LUNG_AND_HEART]
        for stem, pair in pairs.items():
            lists["train"].append(stem)
            rows.append((stem, f"labelled:{stem}", LUNG, "labelled", ""))
            add(pair, stem)
            links[out / _HEART_IN / others[stem].name] = others[stem]
    for kind in _KINDS:  # links of an earlier time
        shutil.rmtree(out / kind, ignore_errors=True)
    for link, path in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    with (out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    write_text(out / "splits.json", json.dumps(lists))


def measure_certainty(probability_HxW: np.ndarray, mask_HxW: np.ndarray) -> float:
    """Returns the mean of max(p, 1 - p) in and near a mask; 0 for an empty one."""
    if not mask_HxW.any():
        return 0.0
    reach = 2 * round(NEAR * max(mask_HxW.shape)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    near_HxW = cv2.dilate(mask_HxW.astype(np.uint8), disc) > 0
    return float(np.maximum(probability_HxW, 1 - probability_HxW)[near_HxW].mean())


def label_films(teacher: Predictor, films: Sequence[Path], out: Path) -> None:
    """Writes the teacher's masks of the films that it is sure of, as a folder to train on.

    certainty.json says how sure it was of each; a film of which any output is unsure is left out.
    Nothing is done where it says that the same teacher has labelled the same films.
    """
    record = out / "certainty.json"
    weights = digest_weights(teacher.variables)
    if record.exists():
        done = json.loads(record.read_text(encoding="utf-8"))
        if done["teacher"] == weights and sorted(done["films"]) == sorted(f.stem for f in films):
            return
    for kind in _KINDS:
        shutil.rmtree(out / kind, ignore_errors=True)
        (out / kind).mkdir(parents=True)
    certainty: dict[str, float] = {}
    for film in tqdm(films, unit="film", disable=None):
        found = {name: teacher.for_output(name).prediction(film) for name in OUTPUTS}
        sure = min(measure_certainty(one.probability, one.mask) for one in found.values())
        certainty[film.stem] = round(sure, 4)
        if sure < SURE:
            continue
        write_png(out / "masks" / f"{film.stem}.png", found[LUNG].mask * np.uint8(255))
        heart_in = found[LUNG_AND_HEART].mask * np.uint8(255)
        write_png(out / _HEART_IN / f"{film.stem}.png", heart_in)
        (out / "images" / film.name).symlink_to(film.resolve())
    write_text(record, json.dumps({"teacher": weights, "films": certainty}, indent=1))
    kept = sum(sure >= SURE for sure in certainty.values())
    print(f"{out}: {kept} of {len(certainty)} films labelled")


def train(
    folder: Path, workdir: Path, epochs: int, source: Path | None = None, settle: bool = False
) -> None:
    """Trains configs/cxr.py with two outputs on a folder of `join_sets`, or goes on with it.

    Args:
        source: a finished run, whose parameters are the first ones; without it, the canvas is SMALL
            and the parameters are random.
        settle: augment less, as SETTLED says, with smaller steps.
    """
    config = load_recipe("cxr")
    config.data.update({"name": "folder", "dir": str(folder)})
    config.data.split_file = str(folder / "splits.json")
    config.model.outputs = OUTPUTS
    config.augment.squeeze = 0.5  # children's films come with bars, adults' stretched
    config.train.num_epochs = epochs
    if source:
        config.train.init_from = str(source)
        config.optim.learning_rate /= 2  # it is not to forget what it starts from
        config.optim.warmup_epochs = 0.5
    else:
        config.data.size = SMALL
    if settle:
        config.augment.update(SETTLED)
        config.optim.learning_rate /= 2
        config.optim.warmup_epochs = 0.3
    train_and_evaluate(parse_config(config), workdir)


def make(kind: str, sets: Mapping[str, Set], runs: Path, epochs: Sequence[int], held: bool) -> Path:
    """Makes a model and returns its workdir. Each step that is done is passed over.

    Args:
        kind: "open" or "all".
        epochs: of the small canvas, of the teacher after it, of the model, and of settling `all`.
        held: no film of Shenzhen's test split is labelled.
    """
    masks = [sets["montgomery"], sets["children"]]
    teacher = runs / "teacher"
    join_sets(masks, runs / "open_data")
    train(runs / "open_data", runs / "small", epochs[0])
    train(runs / "open_data", teacher, epochs[1], runs / "small")
    if kind == "all":
        join_sets(list(sets.values()), runs / "all_data")
        train(runs / "all_data", runs / "all", epochs[2], teacher)
        train(runs / "all_data", runs / "all_settled", epochs[3], runs / "all", settle=True)
        return runs / "all_settled"
    name = "student_held" if held else "student"
    labels = runs / f"{name}_labels"
    shenzhen = sets["shenzhen"].folder
    films = list_images(shenzhen / "images")
    if held:
        test = load_splits(DataConfig(name="folder", dir=str(shenzhen)))["test"].ids
        films = {stem: film for stem, film in films.items() if stem not in test}
    label_films(load(teacher), list(films.values()), labels)
    join_sets(masks, runs / f"{name}_data", labels)
    train(runs / f"{name}_data", runs / name, epochs[2], teacher)
    return runs / name


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_models", description="Makes a bundled model of chest X-rays."
    )
    parser.add_argument("kind", choices=("open", "all"))
    for name in ("montgomery", "children", "shenzhen"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument("--runs", type=Path, required=True, help="where trainings and labels go")
    names = ("SMALL", "TEACHER", "MODEL", "SETTLE")
    parser.add_argument("--epochs", type=int, nargs=4, default=(20, 5, 8, 5), metavar=names)
    parser.add_argument(
        "--held", action="store_true", help="label no film of Shenzhen's test split"
    )
    arguments = parser.parse_args(argv)
    conventions = {"montgomery": LUNG, "children": LUNG_AND_HEART, "shenzhen": LUNG}
    sets = {
        name: Set(name, getattr(arguments, name), convention)
        for name, convention in conventions.items()
    }
    for one in sets.values():
        if not (one.folder / "images").is_dir():
            raise InputError(f"--{one.name} {one.folder}: holds no folder images/")
    os.makedirs(arguments.runs, exist_ok=True)
    print(make(arguments.kind, sets, arguments.runs, arguments.epochs, arguments.held))


if __name__ == "__main__":
    main()
