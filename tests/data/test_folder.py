"""Pairs and splits of a folder; each mistake in it is an error that names the file or field."""

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxlung.config import DataConfig
from jaxlung.data.folder import count_passed_over, find_pairs, load_folder_splits, load_pairs
from jaxlung.data.splits import SPLITS
from jaxlung.data.splitting import make_patient_finder, read_split_file, split_by_hash
from jaxlung.errors import InputError


def save(path, value=0, shape=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Four pairs: a, b, c, d."""
    for i, stem in enumerate("abcd"):
        save(tmp_path / "data" / "images" / f"{stem}.png", 10 * i)
        save(tmp_path / "data" / "masks" / f"{stem}.png", i % 2)
    return tmp_path / "data"


def assert_refused(function, *args, words):
    with pytest.raises(InputError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def test_pairs_by_stem(folder):
    pairs = find_pairs(folder)
    assert [stem for stem, _, _ in pairs] == ["a", "b", "c", "d"]
    for stem, image, mask in pairs:
        assert image == folder / "images" / f"{stem}.png"
        assert mask == folder / "masks" / f"{stem}.png"


def test_pairs_by_stem_mask_and_mixed_suffixes(tmp_path):
    names = {
        "one.png": "one_mask.png",
        "two.jpg": "two.png",
        "three.TIF": "three_mask.bmp",
        "f.o.u.r.jpeg": "f.o.u.r.gif",
        "five_mask.bmp": "five_mask.tiff",
        "six.png": "six.png",
        "six_mask.png": "six_mask.png",  # an image of its own, not the mask of "six"
    }
    for image, mask in names.items():
        save(tmp_path / "images" / image)
        save(tmp_path / "masks" / mask)
    assert {image.name: mask.name for _, image, mask in find_pairs(tmp_path)} == names


def test_pairs_are_sorted_by_stem(tmp_path):
    """Whatever the suffix: the order decides which batch an image is in."""
    stems = ["a", "a b", "a-1", "a.b", "a1", "b"]
    for stem in stems:
        save(tmp_path / "images" / f"{stem}.png")
        save(tmp_path / "masks" / f"{stem}.png")
    assert [stem for stem, _, _ in find_pairs(tmp_path)] == sorted(stems)


def test_hidden_and_other_files_are_ignored(folder):
    for name in ("images", "masks"):
        (folder / name / ".hidden.png").write_bytes(b"")
        (folder / name / "._a.png").write_bytes(b"resource fork")
        (folder / name / "notes.txt").write_text("notes")
        (folder / name / "Thumbs.db").write_bytes(b"")
        (folder / name / "more").mkdir()
    (folder / "index.csv").write_text("")
    assert count_passed_over(folder) == {".txt": 2}
    assert [stem for stem, _, _ in find_pairs(folder)] == ["a", "b", "c", "d"]


def test_missing_folders(tmp_path, folder):
    assert_refused(find_pairs, tmp_path / "nowhere", words=[tmp_path / "nowhere", "no such"])
    file = folder / "images" / "a.png"
    assert_refused(find_pairs, file, words=[file])
    for name in ("images", "masks"):
        (folder / name).rename(folder / "away")
        assert_refused(find_pairs, folder, words=[folder / name, "no such"])
        (folder / "away").rename(folder / name)


@pytest.mark.parametrize("name", ["images", "masks"])
def test_empty_folder(folder, name):
    for path in (folder / name).iterdir():
        path.unlink()
    (folder / name / "notes.txt").write_text("notes")
    assert_refused(find_pairs, folder, words=[folder / name, "no image"])


def test_image_without_mask(folder):
    (folder / "masks" / "c.png").unlink()
    assert_refused(find_pairs, folder, words=[folder / "images" / "c.png", "no mask"])


@pytest.mark.parametrize("name", ["z.png", "a_mask.png", "a_mask_mask.png"])
def test_mask_without_image(folder, name):
    save(folder / "masks" / name)
    assert_refused(find_pairs, folder, words=[folder / "masks" / name, "no image"])


@pytest.mark.parametrize("name", ["images", "masks"])
def test_same_stem_twice(folder, name):
    save(folder / name / "b.tif")
    assert_refused(find_pairs, folder, words=[folder / name / "b.tif", "b.png", "same stem"])


def test_split_reads_pairs(folder):
    split = load_pairs("all", find_pairs(folder))
    assert split.name == "all" and split.ids == ("a", "b", "c", "d")
    assert split.sources == tuple(str(folder / "masks" / f"{stem}.png") for stem in "abcd")
    for i in range(4):
        example = split.read(i)
        np.testing.assert_array_equal(example.image, np.full((6, 8), 10 * i))
        np.testing.assert_array_equal(example.mask, np.full((6, 8), i % 2 == 1))


def test_mask_of_another_size(folder):
    save(folder / "masks" / "b.png", shape=(6, 9))
    split = load_pairs("all", find_pairs(folder))
    split.read(0)
    assert_refused(split.read, 1, words=[folder / "masks" / "b.png", "6x9", "6x8"])


def test_damaged_files_are_named(folder):
    (folder / "images" / "b.png").write_bytes(b"damaged")
    (folder / "masks" / "c.png").write_bytes(b"damaged")
    split = load_pairs("all", find_pairs(folder))
    split.read(0)
    assert_refused(split.read, 1, words=[folder / "images" / "b.png"])
    assert_refused(split.read, 2, words=[folder / "masks" / "c.png"])


def stems_of(count):
    return [f"{i // 3:05d}_{i % 3}" for i in range(count)]  # three images of each patient


def by_stem(splits):
    return {stem: name for name, stems in splits.items() for stem in stems}


def test_hash_split_is_a_partition_with_the_fractions():
    stems = [f"image{i}" for i in range(2000)]
    splits = split_by_hash(stems, make_patient_finder(""), 0.1, 0.2)
    assert list(splits) == list(SPLITS)
    assert sorted(stem for part in splits.values() for stem in part) == sorted(stems)
    for name, fraction in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert len(splits[name]) / 2000 == pytest.approx(fraction, abs=0.03)


def test_hash_split_is_the_same_on_every_machine_and_in_every_version():
    splits = split_by_hash(
        [f"CHNCXR_{i:04d}_0" for i in range(12)], make_patient_finder(""), 0.25, 0.25
    )
    assert {name: [int(stem[7:11]) for stem in stems] for name, stems in splits.items()} == {
        "train": [2, 3, 7, 8],
        "validation": [0, 1, 5, 9],
        "test": [4, 6, 10, 11],
    }


def test_hash_split_does_not_depend_on_order_or_company():
    stems = stems_of(600)
    before = by_stem(split_by_hash(stems[:200], make_patient_finder(""), 0.1, 0.2))
    after = by_stem(split_by_hash(stems[::-1], make_patient_finder(""), 0.1, 0.2))
    assert {stem: after[stem] for stem in before} == before


def test_a_patient_is_never_in_two_splits():
    patient = make_patient_finder(r"^(\d+)_")
    splits = split_by_hash(stems_of(600), patient, 0.2, 0.2)
    assert all(splits.values())
    patients = [{patient(stem) for stem in splits[name]} for name in SPLITS]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 200
    alone = split_by_hash(stems_of(600), make_patient_finder(""), 0.2, 0.2)
    patients = [{patient(stem) for stem in alone[name]} for name in SPLITS]
    assert sum(map(len, patients)) > 200  # so that the first half of this test can fail


def test_larger_test_fraction_only_adds_to_the_test_split():
    small, large = (
        split_by_hash(stems_of(600), make_patient_finder(""), 0.1, f) for f in (0.1, 0.3)
    )
    assert set(small["test"]) < set(large["test"])


def test_patient_is_group_1_wherever_it_matches():
    assert make_patient_finder("")("P12_3") == "P12_3"
    assert make_patient_finder(r"P(\d+)")("scan_P12_3") == "12"
    assert make_patient_finder(r"(P)(\d+)")("P12") == "P"


@pytest.mark.parametrize("pattern", ["(", "[a", "P\\d+", "P(?:\\d+)", "^(X)", "P|(X)"])
def test_bad_patient_pattern(pattern):
    def split():
        split_by_hash(["P1_1", "P2_1"], make_patient_finder(pattern), 0.1, 0.2)

    assert_refused(split, words=["data.patient_pattern", f"'{pattern}'"])


def test_pattern_that_misses_one_stem_names_it():
    def split():
        split_by_hash(["P1_1", "Q2_1"], make_patient_finder(r"P(\d)"), 0.1, 0.2)

    assert_refused(split, words=["data.patient_pattern", "Q2_1"])


GOOD = {"train": ["a", "d"], "validation": ["c"], "test": ["b"]}


def write_lists(path, lists):
    path.write_text(lists if isinstance(lists, str) else json.dumps(lists))
    return path


def test_split_file_keeps_its_lists_and_may_leave_stems_out(tmp_path):
    path = write_lists(tmp_path / "lists.json", GOOD)
    assert read_split_file(path, list("abcdef")) == GOOD


@pytest.mark.parametrize(
    ("lists", "word"),
    [
        ("", ""),
        ("{", ""),
        ("[]", "train"),
        ("null", "train"),
        ({"train": ["a"], "test": ["b"]}, "validation"),
        ({**GOOD, "extra": ["a"]}, "validation"),
        ({**GOOD, "train": []}, "train"),
        ({**GOOD, "train": "ad"}, "train"),
        ({**GOOD, "test": {"b": 1}}, "test"),
        ({**GOOD, "test": None}, "test"),
        ({**GOOD, "test": ["z"]}, "'z'"),
        ({**GOOD, "test": ["b.png"]}, "'b.png'"),
        ({**GOOD, "test": [2]}, "2"),
        ({**GOOD, "test": [["b"]]}, "test"),
        ({**GOOD, "test": [{"b": 1}]}, "test"),
        ({**GOOD, "test": ["c"]}, "'c'"),
        ({**GOOD, "train": ["a", "a"]}, "'a'"),
    ],
)
def test_bad_split_file(tmp_path, lists, word):
    path = write_lists(tmp_path / "lists.json", lists)
    assert_refused(read_split_file, path, list("abcd"), words=[path, word])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("listed", ["Mu\u0308ller", "M\u00fcller"])
def test_split_file_of_other_systems(tmp_path, encoding, listed):
    path = tmp_path / "lists.json"
    lists = {**GOOD, "test": [listed]}
    path.write_bytes(json.dumps(lists, indent=0, ensure_ascii=False).encode(encoding))
    expected = {**GOOD, "test": ["M\u00fcller"]}
    assert read_split_file(path, ["a", "c", "d", "M\u00fcller"]) == expected


def test_pairs_match_after_normalisation(tmp_path):
    for folder, name in (("images", "Mu\u0308ller"), ("masks", "M\u00fcller_mask")):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / folder / f"{name}.png")
    [pair] = find_pairs(tmp_path)
    assert pair.id == "M\u00fcller" and pair.image.stem == "Mu\u0308ller"
    Image.new("L", (8, 8)).save(tmp_path / "images" / "M\u00fcller.png")
    if len(list((tmp_path / "images").iterdir())) == 2:  # not on a file system that composes names
        with pytest.raises(InputError, match="M\u00fcller.png: same stem as Mu\u0308ller.png"):
            find_pairs(tmp_path)


def test_split_file_that_is_missing_or_no_text(tmp_path):
    path = tmp_path / "lists.json"
    assert_refused(read_split_file, path, ["a"], words=[path])
    path.write_bytes(b"\xff\xfe\x00\x80")
    assert_refused(read_split_file, path, ["a"], words=[path])
    assert_refused(read_split_file, tmp_path, ["a"], words=[tmp_path])


def test_folder_splits_by_file(folder, tmp_path):
    path = write_lists(tmp_path / "lists.json", GOOD)
    splits = load_folder_splits(DataConfig(name="folder", dir=str(folder), split_file=str(path)))
    assert {name: list(split.ids) for name, split in splits.items()} == GOOD
    assert all(split.name == name for name, split in splits.items())
    assert splits["test"].read(0).image[0, 0] == 10  # b's


def test_folder_splits_by_hash(tmp_path):
    for stem in stems_of(60):
        save(tmp_path / "images" / f"{stem}.png")
        save(tmp_path / "masks" / f"{stem}.png")
    config = DataConfig(
        name="folder",
        dir=str(tmp_path),
        patient_pattern=r"(\d+)_",
        validation_fraction=0.3,
        test_fraction=0.4,
    )
    expected = split_by_hash(stems_of(60), make_patient_finder(r"(\d+)_"), 0.3, 0.4)
    splits = load_folder_splits(config)
    assert {name: list(split.ids) for name, split in splits.items()} == expected


@pytest.mark.parametrize(
    ("name", "fractions"),
    [
        ("validation", {"validation_fraction": 0.0, "test_fraction": 0.5}),
        ("test", {"validation_fraction": 0.5, "test_fraction": 0.0}),
        ("train", {"validation_fraction": 0.499, "test_fraction": 0.5}),
    ],
)
def test_empty_hash_split_is_refused_with_advice_that_can_be_followed(tmp_path, name, fractions):
    for i in range(12):
        save(tmp_path / "images" / f"{i}.png")
        save(tmp_path / "masks" / f"{i}.png")
    with pytest.raises(InputError) as caught:
        load_folder_splits(DataConfig(name="folder", dir=str(tmp_path), **fractions))
    message = str(caught.value)
    assert str(tmp_path) in message and f"{name} split is empty" in message
    fields = {field.name for field in dataclasses.fields(DataConfig)}
    named = set(re.findall(r"data\.(\w+)", message))
    assert named and named <= fields
