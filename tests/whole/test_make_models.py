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


def test_an_unsure_label_of_any_output_is_left_out(tmp_path):
    """A teacher that is unsure of the heart in the second film, and sure of all else."""
    folder = write_films(tmp_path / "films", 3, 0)

    class Teacher:
        def for_output(self, output):
            def prediction(film):
                unsure = output == LUNG_AND_HEART and film.stem == "0-1"
                probability = np.zeros((24, 20))
                probability[5:15, 5:15] = 0.6 if unsure else 0.99
                return SimpleNamespace(probability=probability, mask=probability >= 0.5)

            return SimpleNamespace(prediction=prediction)

    films = sorted((folder / "images").iterdir())
    label_films(Teacher(), films, tmp_path / "out")
    for kind in ("images", "masks", f"masks_{LUNG_AND_HEART}"):
        assert sorted(p.stem for p in (tmp_path / "out" / kind).iterdir()) == ["0-0", "0-2"]
    certainty = json.loads((tmp_path / "out" / "certainty.json").read_text())
    assert certainty["0-1"] < 0.9 < certainty["0-0"]
