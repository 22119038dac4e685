"""The builder of Kermany's children with V7's outlines, on a small set in the official layout."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxlung.catalog import find_finding
from jaxlung.data.builders import kermany_v7
from jaxlung.data.prepare import prepare
from jaxlung.data.prepared import open_set
from jaxlung.errors import InputError
from jaxlung.structures import LUNG_AND_HEART
from tests.helpers import official_layouts as layouts

pytestmark = pytest.mark.filterwarnings("ignore")

OUTLINES = "covid-19-xray-dataset/annotations/all-images"


@pytest.fixture
def folder(tmp_path):
    return layouts.kermany_v7(tmp_path)


def box_mask(*boxes, shape=(36, 40)):
    mask = np.zeros(shape, bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def served(tmp_path):
    """id to example, and the counts of what was left out."""
    builder = prepare("kermany_v7", tmp_path / "tfds", tmp_path)
    examples = {example["id"].decode(): example for example in builder.as_data_source("train")}
    return examples, builder.info.metadata["left_out"]


def refused(folder, *words):
    """Does what the builder does before the long work, without TFDS."""
    root = folder / "chest_xray"
    with pytest.raises(InputError) as caught:
        records = kermany_v7.read_outlines(folder / OUTLINES)
        kermany_v7.match_films(records, kermany_v7.list_films(root), root, Counter())
    message = str(caught.value)
    assert "\n" not in message and all(str(word) in message for word in words), message


def test_masks_hold_both_lungs_on_the_grid_of_the_film(folder, tmp_path):
    examples, left_out = served(tmp_path)
    assert sorted(examples) == [
        "IM-0001-0001",
        "IM-0115-0001",
        "NORMAL2-IM-0439-0001-0002",
        "person1_bacteria_2",
        "person1_virus_6",
    ]
    assert left_out == {"of other collections": 1}
    for stem, example in examples.items():
        np.testing.assert_array_equal(example["mask"][..., 0], box_mask(*layouts.KERMANY_LUNGS))
        film = next(folder.rglob(f"{stem}.jpeg"))
        np.testing.assert_array_equal(example["image"][..., 0], np.asarray(Image.open(film)))
        assert example["bits"] == 8 and example["view"] == b"AP" and example["ignore_px"] == 0
        assert np.isnan(example["spacing_mm"]).all() and np.isnan(example["age"])


def test_a_prepared_set_keeps_patients_together_and_reads_without_a_heart(folder, tmp_path):
    prepare("kermany_v7", tmp_path / "tfds", tmp_path)
    split = open_set("kermany_v7", tmp_path / "tfds")
    facts = zip(split.ids, split.patients, split.groups["finding"], strict=True)
    assert {stem: (patient, finding) for stem, patient, finding in facts} == {
        "IM-0001-0001": ("IM-0001", "normal"),
        "IM-0115-0001": ("IM-0115", "normal"),
        "NORMAL2-IM-0439-0001-0002": ("NORMAL2-IM-0439", "normal"),
        "person1_bacteria_2": ("person1", "bacterial pneumonia"),
        "person1_virus_6": ("person1", "viral pneumonia"),
    }
    assert kermany_v7.JaxlungKermanyV7.ENTRY.convention == LUNG_AND_HEART
    np.testing.assert_array_equal(split.read(0).mask, box_mask(*layouts.KERMANY_LUNGS))
    assert find_finding("IM-0001-0001") == ""  # OsiriX's name for any film


def test_what_is_left_out_is_counted_by_its_reason(folder, tmp_path):
    add = layouts.write_darwin
    name = "IM-0115-0001.jpeg"
    add(folder, 1, layouts.darwin(name, (224, 224)))
    add(folder, 2, layouts.darwin(name, (35, 40)))
    add(folder, 3, layouts.darwin("person1_virus_6.jpeg", boxes=layouts.KERMANY_LUNGS[:1]))
    add(folder, 4, layouts.darwin("person2_bacteria_3.jpeg", boxes=()))  # as of lateral films
    add(folder, 9999999, layouts.darwin(name))
    twin = folder / "chest_xray" / "test" / "NORMAL" / "NORMAL2-IM-0439-0001-0002.jpeg"
    layouts.save(twin, layouts.film((36, 40), 7))
    shutil.copy(next(folder.rglob(name)), folder / "chest_xray" / "test" / "NORMAL" / name)
    examples, left_out = served(tmp_path)
    assert sorted(examples) == [
        "IM-0001-0001",
        "IM-0115-0001",
        "person1_bacteria_2",
        "person1_virus_6",
    ]
    assert left_out == {
        "outlined on a copy of 224x224 pixels": 1,
        "outlined at another size": 1,
        "with one lung outlined or none": 2,
        "outlined a second time": 1,
        "of a name that two images have": 1,
        "of other collections": 1,
    }


def test_pixels_that_v7_ignores_are_counted_and_stay_lung(folder, tmp_path):
    # 3 x 4 pixels of a marking on the lung, and 2 x 2 at the edge, cut there.
    entry = layouts.darwin("IM-0115-0001.jpeg", ignored=((5, 10, 8, 14), (38, -2, 42, 2)))
    layouts.write_darwin(folder, 1676192, entry)
    example = served(tmp_path)[0]["IM-0115-0001"]
    assert example["ignore_px"] == 16
    np.testing.assert_array_equal(example["mask"][..., 0], box_mask(*layouts.KERMANY_LUNGS))


@pytest.mark.parametrize("form", ["additional_paths", "complex_polygon", "paths"])
def test_a_complex_polygon_has_a_hole_and_a_second_piece(tmp_path, form):
    """In Darwin JSON 1.0, as importer and exporter of darwin-py write it, and in 2.0."""
    outer, hole, piece = ((2, 2, 20, 20), (5, 5, 9, 9), (24, 2, 30, 12))
    paths = [layouts.rectangle(*box) for box in (outer, hole, piece)]
    entry = layouts.darwin("person1_virus_6.jpeg", boxes=())
    polygon = {
        "additional_paths": {"polygon": {"path": paths[0], "additional_paths": paths[1:]}},
        "complex_polygon": {"complex_polygon": {"path": paths}},
        "paths": {"polygon": {"paths": paths}},
    }[form]
    line = {"name": "Lung", "polygon": {"path": paths[0][:2]}}  # has no area
    entry["annotations"] += [{"name": "Lung", **polygon}, line]
    if form == "paths":
        source = {"file_name": "person1_virus_6.jpeg"}
        slot = {"width": 40, "height": 36, "source_files": [source]}
        item = {"name": "1676192.jpeg", "slots": [slot]}
        entry = {"version": "2.0", "item": item, "annotations": entry["annotations"]}
    path = tmp_path / "1.json"
    path.write_text(json.dumps(entry))
    outlines = kermany_v7.read_darwin(path)
    assert outlines.stems[0] == "person1_virus_6" and outlines.shape == (36, 40)
    expected = box_mask(outer, piece) & ~box_mask(hole)
    np.testing.assert_array_equal(kermany_v7.draw(outlines.lungs, (36, 40)), expected)


def test_polygons_of_two_lungs_that_overlap_are_joined(tmp_path):
    first, second = (2, 2, 20, 20), (15, 2, 30, 20)
    path = tmp_path / "1.json"
    path.write_text(json.dumps(layouts.darwin("IM-0001-0001.jpeg", boxes=(first, second))))
    lungs = kermany_v7.read_darwin(path).lungs
    np.testing.assert_array_equal(kermany_v7.draw(lungs, (36, 40)), box_mask(first, second))


def test_archives_may_stay_packed(folder, tmp_path):
    shutil.make_archive(folder / "ChestXRay2017", "zip", folder, "chest_xray")
    shutil.make_archive(folder / OUTLINES, "zip", folder / OUTLINES)
    shutil.rmtree(folder / "chest_xray")
    shutil.rmtree(folder / OUTLINES)
    assert len(served(tmp_path)[0]) == 5


def test_what_is_missing_or_damaged_is_named(folder, tmp_path):
    chest = folder / "chest_xray"
    film = chest / "train" / "PNEUMONIA" / "person1_bacteria_2.jpeg"
    film.rename(tmp_path / "away.jpeg")
    refused(folder, chest, "person1_bacteria_2", "unpack")
    (tmp_path / "away.jpeg").rename(film)
    (chest / "test" / "NORMAL").rename(tmp_path / "away")
    refused(folder, chest / "test" / "NORMAL", "no such folder", "unpack")
    (tmp_path / "away").rename(chest / "test" / "NORMAL")
    path = folder / OUTLINES / "1676192.json"
    whole = path.read_text()
    for text in (whole[:-5], "[]", "{}", whole.replace('"height"', '"h"')):
        path.write_text(text)
        refused(folder, path, "no Darwin JSON", "clone")
    for other in Path(path.parent).iterdir():
        other.unlink()
    refused(folder, path.parent, "no .json", "clone")
    layouts.write_darwin(folder, 1, layouts.darwin("1-s2.0-S1684118220300682-main.pdf.png"))
    refused(folder, chest, "no image that V7 outlined", "version 2")


def test_a_few_names_without_a_film_are_counted(tmp_path):
    records = [kermany_v7.Outlines((f"person{i}_virus_{i}",), (36, 40), [], []) for i in range(100)]
    films = {f"person{i}_virus_{i}": [Path(f"{i}.jpeg")] for i in range(95)}
    left_out = Counter()
    assert len(kermany_v7.match_films(records, films, tmp_path, left_out)) == 95
    assert left_out == {"without an image": 5}
    del films["person0_virus_0"]
    with pytest.raises(InputError, match="person0_virus_0, nor 5 others"):
        kermany_v7.match_films(records, films, tmp_path, left_out)
