"""The tool that makes the bundled models: what it joins, and which labels of a teacher it takes."""

import csv
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from jaxlung.config import DataConfig
from jaxlung.data.canvases import make_canvases
from jaxlung.data.datasets import load_splits
from jaxlung.structures import LUNG, LUNG_AND_HEART
from tools import make_models
from tools.make_models import OUTPUTS, Set, join_sets, label_films, measure_certainty


def write_films(folder, count, seed):
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        image = rng.integers(0, 256, (24, 20), np.uint8)
        mask = np.zeros((24, 20), np.uint8)
        mask[4 : 8 + i % 8, 3:15] = 255
        cv2.imwrite(str(folder / "images" / f"{seed}-{i}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{seed}-{i}.png"), mask)
    return folder


@pytest.fixture
def sets(tmp_path):
    adults = Set("montgomery", write_films(tmp_path / "a", 60, 1), LUNG)
    children = Set("children", write_films(tmp_path / "c", 60, 2), LUNG_AND_HEART)
    rows = [f"2-{i},child{i // 2}" for i in range(60)]
    (children.folder / "metadata.csv").write_text("\n".join(["id,patient", *rows]))
    return [adults, children]


def read_joined(folder):
    config = DataConfig(name="folder", dir=str(folder), split_file=str(folder / "splits.json"))
    return load_splits(config)


def test_every_film_keeps_its_split_and_its_convention(sets, tmp_path):
    join_sets(sets, tmp_path / "joined")
    joined = read_joined(tmp_path / "joined")
    for one in sets:
        own = load_splits(DataConfig(name="folder", dir=str(one.folder)))
        for name in ("validation", "test"):
            assert set(own[name].ids) <= set(joined[name].ids)
        for stem in own["train"].ids:
            index = joined["train"].ids.index(stem)
            assert joined["train"].labels_of(index) == (one.convention,)
    # The smaller set stands in training four times, and in the other splits once.
    adults = len(load_splits(DataConfig(name="folder", dir=str(sets[0].folder)))["train"].ids)
    assert sum(stem.startswith("1-") for stem in joined["train"].ids) == 4 * adults
    for name in ("validation", "test"):
        assert all(stem.count("-") == 1 for stem in joined[name].ids)
    with (tmp_path / "joined" / "metadata.csv").open() as file:
        patients = {row["id"]: row["patient"] for row in csv.DictReader(file)}
    assert patients["2-0"] == patients["2-1"] == "children:child0"
    join_sets(sets, tmp_path / "joined")  # once more changes nothing
    assert {s: v.ids for s, v in read_joined(tmp_path / "joined").items()} == {
        s: v.ids for s, v in joined.items()
    }


def test_labels_are_trained_on_alone_and_teach_both_outputs(sets, tmp_path):
    labels = write_films(tmp_path / "l", 5, 3)
    (labels / "masks").rename(labels / "kept")
    for name in ("masks", f"masks_{LUNG_AND_HEART}"):
        (labels / name).mkdir()
        for path in (labels / "kept").iterdir():
            (labels / name / path.name).write_bytes(path.read_bytes())
    join_sets(sets, tmp_path / "joined", labels)
    joined = read_joined(tmp_path / "joined")
    found = [i for i, stem in enumerate(joined["train"].ids) if stem.startswith("3-")]
    assert len(found) == 5
    canvases = make_canvases(joined["train"], size=16, fit="letterbox", outputs=OUTPUTS)
    assert all(canvases.read(i).labelled_C.all() for i in found)
    for name in ("validation", "test"):
        assert not any(stem.startswith("3-") for stem in joined[name].ids)


def test_certainty_looks_in_and_near_the_mask():
    probability = np.zeros((64, 64))
    probability[20:40, 20:40] = 0.8
    mask = probability >= 0.5
    assert 0.8 < measure_certainty(probability, mask) < 0.9  # the rim is sure background
    probability[:5] = 0.5  # far away
    assert measure_certainty(probability, mask) > 0.8
    assert measure_certainty(probability, np.zeros_like(mask)) == 0


class Teacher:
    """Is unsure of the heart in `unsure`, and sure of all else."""

    def __init__(self, unsure="0-1", weight=0.0):
        self.variables = {"w": np.float32([weight])}
        self.unsure = unsure
        self.seen = []

    def for_output(self, output):
        def prediction(film):
            self.seen.append(film.stem)
            unsure = output == LUNG_AND_HEART and film.stem == self.unsure
            probability = np.zeros((24, 20))
            probability[5:15, 5:15] = 0.6 if unsure else 0.99
            return SimpleNamespace(probability=probability, mask=probability >= 0.5)

        return SimpleNamespace(prediction=prediction)


def stems(folder):
    return sorted(path.stem for path in folder.iterdir())


def test_an_unsure_label_of_any_output_is_left_out(tmp_path):
    films = sorted((write_films(tmp_path / "films", 3, 0) / "images").iterdir())
    label_films(Teacher("0-1"), films, tmp_path / "out")
    for kind in ("images", "masks", f"masks_{LUNG_AND_HEART}"):
        assert stems(tmp_path / "out" / kind) == ["0-0", "0-2"]
    certainty = json.loads((tmp_path / "out" / "certainty.json").read_text())["films"]
    assert certainty["0-1"] < 0.9 < certainty["0-0"]


def test_films_are_labelled_again_by_another_teacher_alone(tmp_path):
    films = sorted((write_films(tmp_path / "films", 3, 0) / "images").iterdir())
    label_films(Teacher("0-1"), films, tmp_path / "out")
    again = Teacher("0-1")
    label_films(again, films, tmp_path / "out")
    assert again.seen == []
    label_films(Teacher("0-2", weight=1.0), films, tmp_path / "out")
    assert stems(tmp_path / "out" / "masks") == ["0-0", "0-1"]
    label_films(again, films[:1], tmp_path / "out")  # other films
    assert stems(tmp_path / "out" / "masks") == ["0-0"]


def test_links_of_an_earlier_time_go(sets, tmp_path):
    labels = tmp_path / "labels"
    films = sorted((write_films(tmp_path / "films", 3, 0) / "images").iterdir())
    label_films(Teacher("none"), films, labels)
    join_sets(sets, tmp_path / "joined", labels)
    label_films(Teacher("0-1", weight=1.0), films, labels)
    join_sets(sets, tmp_path / "joined", labels)
    names = [stem for stem in stems(tmp_path / "joined" / "images") if stem.startswith("0-")]
    assert names == ["0-0", "0-2"]
    assert all(path.exists() for path in (tmp_path / "joined" / "images").iterdir())


def test_masks_are_found_by_any_name_that_a_folder_may_have(tmp_path):
    folder = write_films(tmp_path / "a", 8, 1)
    for path in list((folder / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    (folder / "images" / ".DS_Store").write_bytes(b"x")
    join_sets([Set("children", folder, LUNG)], tmp_path / "joined")
    assert sum(len(split.ids) for split in read_joined(tmp_path / "joined").values()) == 8


@pytest.mark.parametrize("held", [False, True])
def test_the_open_model_sees_no_mask_of_shenzhen(held, sets, tmp_path, monkeypatch):
    shenzhen = Set("shenzhen", write_films(tmp_path / "s", 40, 0), LUNG)
    all_sets = {one.name: one for one in [*sets, shenzhen]} | {"children": sets[1]}
    trained = []
    monkeypatch.setattr(make_models, "train", lambda *arguments, **_: trained.append(arguments))
    monkeypatch.setattr(make_models, "load", lambda workdir: Teacher("none"))
    workdir = make_models.make("open", all_sets, tmp_path / "runs", (3, 2, 1, 4), held)
    small, teacher, student = trained
    assert small[1:] == (tmp_path / "runs" / "small", 3)
    assert teacher[1:] == (tmp_path / "runs" / "teacher", 2, tmp_path / "runs" / "small")
    assert student[1:] == (workdir, 1, tmp_path / "runs" / "teacher")
    test = load_splits(DataConfig(name="folder", dir=str(shenzhen.folder)))["test"].ids
    for folder in {folder for folder, *_ in trained}:
        for name in ("masks", f"masks_{LUNG_AND_HEART}"):
            paths = [p.resolve() for p in (folder / name).glob("*") if p.stem.startswith("0-")]
            assert all(shenzhen.folder not in path.parents for path in paths)
            assert bool(paths) == (folder == student[0])
            labelled = {path.stem for path in paths}
            assert not paths or len(labelled) == 40 - len(test) * held
            assert not held or not labelled & set(test)


def test_the_other_model_goes_on_from_the_same_teacher_with_all_masks(sets, tmp_path, monkeypatch):
    shenzhen = Set("shenzhen", write_films(tmp_path / "s", 20, 0), LUNG)
    all_sets = {one.name: one for one in [*sets, shenzhen]}
    trained = []
    monkeypatch.setattr(make_models, "train", lambda *arguments, **_: trained.append(arguments))
    workdir = make_models.make("all", all_sets, tmp_path / "runs", (3, 2, 1, 4), False)
    runs = tmp_path / "runs"
    assert trained[-2:] == [
        (runs / "all_data", runs / "all", 1, runs / "teacher"),
        (runs / "all_data", workdir, 4, runs / "all"),
    ]
    ids = [name for split in read_joined(trained[-1][0]).values() for name in split.ids]
    assert sum(name.startswith("0-") for name in ids) == 20


def test_every_training_can_be_parsed(sets, tmp_path, monkeypatch):
    """The settings of each, without the training."""
    configs = []
    monkeypatch.setattr(make_models, "train_and_evaluate", lambda config, _: configs.append(config))
    make_models.train(tmp_path / "data", tmp_path / "small", 20)
    make_models.train(tmp_path / "data", tmp_path / "teacher", 5, tmp_path / "small")
    make_models.train(tmp_path / "data", tmp_path / "s", 5, tmp_path / "teacher", settle=True)
    first, second, settled = configs
    assert first.data.size < second.data.size == 256
    assert first.model == second.model and first.model.outputs == OUTPUTS
    assert second.train.init_from == str(tmp_path / "small") and not first.train.init_from
    for name in make_models.SETTLED:
        assert 0 < getattr(settled.augment, name) < getattr(second.augment, name), name
    assert settled.augment.squeeze == second.augment.squeeze == 0.5
    assert settled.optim.learning_rate < second.optim.learning_rate
