"""A run recognises its own images: moved, renamed, and as changed copies."""

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from jaxlung.config import DataConfig, parse_config
from jaxlung.config.members import member_configs
from jaxlung.data.canvases import check_canvases, make_canvases
from jaxlung.data.duplicates import digest_canvas, hash_image
from jaxlung.data.folder import load_folder
from jaxlung.data.splits import keep_once, make_array_split
from jaxlung.errors import InputError
from jaxlung.evaluation.choice import choose_split
from jaxlung.evaluation.evaluate import evaluate
from jaxlung.evaluation.model_scores import _place
from jaxlung.evaluation.own_data import find_recorded
from jaxlung.io.images import read_film
from jaxlung.phantom import radiographs
from jaxlung.predict.load import load
from jaxlung.preprocess import to_canvas
from jaxlung.train.data import prepare_data, prepare_members
from jaxlung.train.loop import train_and_evaluate
from jaxlung.workdir.record import read_contents
from tests.helpers.tiny_runs import no_steps


def write_films(folder: Path, films, masks) -> Path:
    for name, arrays in (("images", films), ("masks", masks)):
        (folder / name).mkdir(parents=True)
        for i, array in enumerate(arrays):
            Image.fromarray(np.asarray(array)).save(folder / name / f"{i:02d}.png")
    return folder


def small_config(folder: Path, **data):
    from configs import tiny

    config = tiny.get_config()
    config.data.name, config.data.dir = "folder", str(folder)
    if "split_file" not in data:
        config.data.validation_fraction, config.data.test_fraction = 0.25, 0.35
    config.data.loader, config.train.num_epochs = "memory", 1
    for name, value in data.items():
        config.data[name] = value
    return config


@pytest.fixture(scope="module")
def films():
    images, masks = radiographs(jax.random.key(41), 32, size=128)
    return np.asarray(images), np.asarray(masks).astype(np.uint8) * 255


@pytest.fixture(scope="module")
def run(films, tmp_path_factory):
    """A run on a folder of phantoms that a split file divides, and the folder."""
    root = tmp_path_factory.mktemp("own")
    folder = write_films(root / "data", *films)
    lists = {
        "train": [f"{i:02d}" for i in range(14)],
        "validation": [f"{i:02d}" for i in range(14, 20)],
        "test": [f"{i:02d}" for i in range(20, 32)],
    }
    (root / "lists.json").write_text(json.dumps(lists))
    config = small_config(folder, split_file=str(root / "lists.json"))
    with no_steps():
        train_and_evaluate(config, root / "run")
    return root / "run", folder


def test_images_that_took_each_others_names_are_found(films):
    """And two of one content, in a split that holds both."""
    images, masks = films[0][:6].copy(), films[1][:6]
    images[3], masks[3] = images[2], masks[2]
    config = DataConfig(name="folder", dir="x", size=32)
    first = make_array_split("test", list("abcdef"), images, masks)
    recorded = check_canvases(make_canvases(first, size=32, fit=config.fit))
    assert find_recorded(first, recorded, config) == list("abcdef")
    shuffled = make_array_split(
        "all", list("abcdef"), images[[1, 0, 2, 3, 5, 4]], masks[[1, 0, 2, 3, 5, 4]]
    )
    assert find_recorded(shuffled, recorded, config) == list("bacdfe")
    renamed = make_array_split("all", list("uvwxyz"), images[::-1], masks[::-1])
    found = find_recorded(renamed, recorded, config)
    assert len(set(found)) == 6 and found[:2] == ["z", "y"] and set(found[2:4]) == {"w", "x"}


def figures(result):
    [entry] = result["results"]
    return entry["n"], entry["split"], entry["grids"]


def test_a_run_that_moved_scores_its_own_test_split(run, films, tmp_path):
    """Folder, split file and workdir have moved; the figures are those of before."""
    workdir, folder = run
    before = evaluate(workdir, out=tmp_path / "before")
    assert figures(before)[:2] == (12, "test")
    moved = tmp_path / "moved"
    shutil.copytree(workdir, moved / "run", ignore=shutil.ignore_patterns("eval"))
    shutil.copytree(folder, moved / "films")
    config = json.loads((moved / "run/config.json").read_text())
    config["data"] |= {"dir": str(tmp_path / "gone"), "split_file": "gone.json"}
    (moved / "run/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="gone: the run's data are no longer there.*--data"):
        evaluate(moved / "run")
    after = evaluate(moved / "run", data=moved / "films", out=tmp_path / "after")
    assert figures(after) == figures(before)
    assert after["results"][0]["warnings"] == [
        "the run's own test split: 12 of its 12 images, recognised by content"
    ]
    # In its place, without the split file.
    config["data"]["dir"] = str(moved / "films")
    (moved / "run/config.json").write_text(json.dumps(config))
    assert figures(evaluate(moved / "run", out=tmp_path / "lost")) == figures(before)
    # Under other names, and four of them gone.
    other = write_films(tmp_path / "other", films[0][24:][::-1], films[1][24:][::-1])
    [entry] = evaluate(workdir, data=other, out=tmp_path / "renamed")["results"]
    assert entry["n"] == 8 and entry["warnings"] == [
        "the run's own test split: 8 of its 12 images, recognised by content; the other 4 are not "
        "there"
    ]
    # A folder that holds a few of them is another's.
    few = write_films(tmp_path / "few", films[0][28:], films[1][28:])
    [entry] = evaluate(workdir, data=few, out=tmp_path / "foreign")["results"]
    assert (entry["n"], entry["split"]) == (4, "all")
    assert entry["warnings"] == ["4 of the run's 12 test images are among these, by content"]
    with pytest.raises(InputError, match="own data"):
        evaluate(workdir, data=few, split="test")
    # All of the moved folder, where that is asked for; and another split.
    [entry] = evaluate(workdir, data=moved / "films", split="all", out=tmp_path / "all")["results"]
    assert entry["n"] == 32
    [entry] = evaluate(workdir, data=moved / "films", split="train", out=tmp_path / "t")["results"]
    assert entry["n"] == 14 and "train split, which was used in training" in entry["warnings"][0]


def write_copies(folder: Path, films, masks, changes) -> Path:
    """Writes films as other files of the same films."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for change in changes:
        for i, (film, mask) in enumerate(zip(films, masks, strict=True)):
            image, suffix, options = film, ".png", []
            if change == "2x":
                image = cv2.resize(film, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
                mask = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
            elif change == "JPEG":
                suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]
            elif change == "16-bit":  # with another window
                image = film.astype(np.uint16) * 200 + 1000
            elif change == "gamma":
                image = np.rint((film / 255) ** 0.7 * 255).astype(np.uint8)
            elif change == "negative":
                image = 255 - film
            cv2.imwrite(str(folder / "images" / f"{change}{i}{suffix}"), image, options)
            cv2.imwrite(str(folder / "masks" / f"{change}{i}.png"), mask)
    return folder


CHANGES = ("2x", "JPEG", "16-bit", "gamma", "negative")


def count_noted(entry) -> int:
    """Counts the images that an evaluation says were trained on, by content or as copies."""
    notes = [note.split() for note in entry["warnings"] if "trained on" in note]
    assert all(note[1:4] == ["of", "these", str(entry["n"])] for note in notes)
    return sum(int(note[0]) for note in notes)


def test_changed_copies_of_training_images_are_noted(run, films, tmp_path):
    """All 12 of each kind. A film whose canvas is the same to the bit is recognised by content."""
    copies = write_copies(tmp_path / "copies", films[0][:12], films[1][:12], CHANGES)
    [entry] = evaluate(run[0], data=copies, out=tmp_path / "out")["results"]
    assert count_noted(entry) == entry["n"] == 12 * len(CHANGES)


def test_a_run_without_hashes_says_less(run, films, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run[0], old, ignore=shutil.ignore_patterns("eval"))
    data = json.loads((old / "data.json").read_text())
    assert set(data.pop("hashes")) == {f"{i:02d}" for i in range(32)}
    (old / "data.json").write_text(json.dumps(data))
    copies = write_copies(tmp_path / "copies", films[0][:4], films[1][:4], ["2x"])
    [entry] = evaluate(old, data=copies, out=tmp_path / "out")["results"]
    assert entry["warnings"] == []


@pytest.mark.slow  # films of 512x512; the copies of phantoms are above
def test_copies_of_real_films_are_noted(shared_data, tmp_path):
    """The run is a record alone: what it knows of its images is what training writes."""
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in sorted((shared_data / "montgomery" / name).iterdir())[:40]:
            shutil.copy(path, tmp_path / "data" / name)
    config = small_config(tmp_path / "data", size=32)
    train_and_evaluate(config, tmp_path / "run")
    train = list(read_contents(tmp_path / "run").digests["train"])[:12]
    assert len(train) == 12
    films, masks = (
        [cv2.imread(str(tmp_path / "data" / name / f"{i}.png"), 0) for i in train]
        for name in ("images", "masks")
    )
    copies = write_copies(tmp_path / "copies", films, masks, CHANGES)
    [entry] = evaluate(tmp_path / "run", data=copies, out=tmp_path / "out")["results"]
    assert count_noted(entry) == entry["n"] == 12 * len(CHANGES)
    # Films that it was not trained on are no copies.
    [entry] = evaluate(tmp_path / "run", out=tmp_path / "own")["results"]
    assert entry["warnings"] == []


def test_training_says_what_is_odd_about_its_splits(films, tmp_path, capsys):
    """One image in two splits, one patient in two, a small validation split, subfolders."""
    images, masks = (list(array) for array in films)
    images[20], masks[20] = images[0], masks[0]  # the same film
    images[15] = np.rint((images[1] / 255) ** 0.8 * 255).astype(np.uint8)  # a copy of it
    folder = write_films(tmp_path / "data", images, masks)
    (folder / "images/more").mkdir()
    for i in range(3):
        shutil.copy(folder / "images/02.png", folder / "images/more" / f"m{i}.png")
    rows = "\n".join(f"{i:02d},p{0 if i == 25 else i}" for i in range(32))
    (folder / "metadata.csv").write_text(f"id,patient\n{rows}\n")
    lists = {
        "train": [f"{i:02d}" for i in range(14)],
        "validation": [f"{i:02d}" for i in range(14, 20)],
        "test": [f"{i:02d}" for i in range(20, 32)],
    }
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    config = small_config(folder, split_file=str(tmp_path / "lists.json"))
    expected = [
        "the validation split has 6 images, fewer than 10: the epoch that it chooses is chosen by "
        f"chance; list more of them in {tmp_path / 'lists.json'}",
        f"{folder / 'images'}: 3 images in folders below it are not read; move them up to use them",
        "patients with images in two splits: 1 (00 in train and 25 in test); put all images of a "
        "patient in one",
        "images in two splits, as copies by content or perceptual hash: 2 (00 in train and 20 in "
        "test; 01 in train and 15 in validation); keep one of each",
    ]
    assert list(prepare_data(parse_config(config)).warnings) == expected
    with no_steps():
        train_and_evaluate(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert all(f"warning: {sentence}" in printed for sentence in expected)
    [start] = json.loads((tmp_path / "run/run.json").read_text())["starts"]
    assert start["warnings"] == expected


def test_advice_for_a_small_validation_split_is_what_the_config_takes(films, tmp_path):
    config = small_config(write_films(tmp_path / "data", *(array[:24] for array in films)))
    [warning] = prepare_data(parse_config(config)).warnings
    assert warning.endswith("by chance; raise data.validation_fraction")
    config = small_config(tmp_path / "data", split_file="")
    config.data.folds, config.data.test_fraction = 4, 0.35
    [warning] = prepare_data(parse_config(config)).warnings
    assert warning.endswith("by chance; lower data.folds")
    phantoms = DataConfig(size=32, phantom_train=8, phantom_validation=3, phantom_test=3)
    from configs import tiny

    config = dataclasses.replace(parse_config(tiny.get_config()), data=phantoms)
    assert prepare_data(config).warnings == []


def test_folds_say_once_what_is_odd(films, tmp_path, capsys):
    folder = write_films(tmp_path / "data", *(array[:24] for array in films))
    (folder / "images/notes.txt").write_text("x")
    (folder / "images/more").mkdir()
    shutil.copy(folder / "images/02.png", folder / "images/more")
    config = small_config(folder, split_file="")
    config.data.folds, config.data.test_fraction, config.ensemble.folds = 3, 0.35, True
    members = prepare_members(member_configs(parse_config(config)))
    assert capsys.readouterr().out == f"{folder}: 1 file passed over (.txt 1)\n"
    said = [text for member in members for text in member.warnings]
    assert len(said) == len(set(said)) and sum("below it" in text for text in said) == 1
    assert sum("by chance" in text for text in members[0].warnings) == 1


def test_an_image_is_read_once_to_be_recognised_and_scored(run, films, tmp_path, monkeypatch):
    read, paths = read_film, []

    def count(path):
        paths.append(path)
        return read(path)

    monkeypatch.setattr("jaxlung.data.folder.read_film", count)
    other = write_films(tmp_path / "other", 255 - films[0][:4], films[1][:4])
    split, _ = choose_split(load(run[0]).config.data, other, None, read_contents(run[0]).digests)
    assert len(paths) == 4
    [split.read(i) for i in range(4)]
    assert len(paths) == 4
    [split.read(i) for i in range(4)]  # for the report's pictures
    assert len(paths) == 8


def test_examples_are_kept_up_to_a_limit():
    images = np.zeros((3, 4, 4), np.uint8)
    split, indices = make_array_split("all", "abc", images, images), []

    def read(index):
        indices.append(index)
        return split.read(index)

    kept = keep_once(split._replace(read=read), limit=64)
    for index in (0, 1, 2, 0, 1, 2, 0):
        kept.read(index)
    assert indices == [0, 1, 2, 2, 0]


def test_images_of_a_large_split_are_said_to_be_known_by_name_and_size(run, films, tmp_path):
    config, folder = load(run[0]).config.data, write_films(tmp_path / "moved", *films)
    whole = load_folder(folder)
    stats = {whole.ids[i]: whole.stat(i) for i in range(20, 32)}
    chosen, warning = choose_split(config, folder, None, {"test": stats})
    assert len(chosen.ids) == 12 and warning == (
        "the run's own test split: 12 of its 12 images, recognised by name and size of file"
    )


def test_grey_is_made_once_to_score(run, films, monkeypatch):
    made = []

    def find_range(image):
        made.append(image.shape)
        return float(image.min()), float(image.max())

    monkeypatch.setattr("jaxlung.io.grey.find_range", find_range)
    for film in (films[0][0], 255 - films[0][0]):
        image = film.astype(np.uint16) * 16
        split = make_array_split("test", ["a"], [image], [films[1][0]])
        placed = _place(split, load(run[0]), "lung", 0)
        canvas, mask, _ = to_canvas(image, films[1][0], size=32)
        assert placed.digest == digest_canvas(canvas, mask[..., None])
        assert placed.hash == hash_image(image)
    assert made == [(128, 128)] * 6  # of each, one to score and two in this test
