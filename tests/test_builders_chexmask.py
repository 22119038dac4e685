"""The builder of CheXmask: its pure functions, and the pipeline where Apache Beam is installed."""

import builtins
import csv
import tempfile
from pathlib import Path

import numpy as np
import official_layouts as layouts
import pytest
import tensorflow_datasets as tfds

from jaxlung.builders import chexmask, outlines
from jaxlung.errors import InputError
from jaxlung.prepared_sets import open_set, prepare

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def forget():
    """Tables are read once a process; every test has its own."""
    yield
    chexmask.read_entries.cache_clear()
    chexmask._images.cache_clear()


@pytest.fixture
def folder(tmp_path):
    return layouts.chexmask(tmp_path)


def rows_of(folder):
    return {row["Image Index"]: row for row in chexmask.read_rows(str(folder / "ChestX-Ray8.csv"))}


def test_rows_are_kept_from_a_dice_rca_mean_of_0_7(folder):
    kept = [name for name, row in rows_of(folder).items() if chexmask.is_good(row)]
    assert kept == ["00000001_000.png", "00000001_001.png", "00000002_000.png"]
    assert not chexmask.is_good({"Dice RCA (Mean)": ""})
    assert not chexmask.is_good({"Dice RCA (Mean)": "nan"})


def test_an_example_holds_masks_patient_and_spacing(folder):
    key, example = chexmask.build_example(str(folder), rows_of(folder)["00000001_001.png"])
    right, left, heart = layouts.lungs((32, 32), 1)
    assert key == "00000001_001.png" and example["id"] == "00000001_001"
    assert example["patient"] == "1" and example["age"] == 58 and example["sex"] == "F"
    assert example["finding"] == "normal" and example["view"] == "PA"
    for name, mask in (("mask_right", right), ("mask_left", left), ("heart", heart),
                       ("mask", right | left)):  # fmt: skip
        np.testing.assert_array_equal(example[name][..., 0], mask)
    np.testing.assert_array_equal(example["image"][..., 0], layouts.film((32, 32), 501))
    # 48 rows of 0.14 mm became 32, and 64 columns 32: the original's aspect was not kept.
    np.testing.assert_allclose(example["spacing_mm"], [0.21, 0.28], rtol=1e-6)
    np.testing.assert_array_equal(example["landmarks"], [[1, 2], [3, 4], [5, 6]])


def test_unknown_spacing_is_nan():
    assert np.isnan(chexmask.spacing({}, (4, 4))).all()
    entry = {"OriginalImage[Width": "0", "Height]": "4", "OriginalImagePixelSpacing[x": "1"}
    assert np.isnan(chexmask.spacing({**entry, "y]": "1"}, (4, 4))).all()


def test_landmarks_as_commas_or_as_json():
    for text in ("1,2,3,4", "[[1, 2], [3, 4]]"):
        np.testing.assert_array_equal(outlines.parse_landmarks(text), [[1, 2], [3, 4]])
    for text in ("1,2,3", "one"):
        with pytest.raises(InputError):
            outlines.parse_landmarks(text)


def refused(folder, row, *words):
    with pytest.raises(InputError) as caught:
        chexmask.build_example(str(folder), row)
    message = str(caught.value)
    assert "\n" not in message and all(str(word) in message for word in words), message


def test_what_is_missing_or_damaged_is_named(folder):
    row = rows_of(folder)["00000002_000.png"]
    refused(folder, {**row, "Left Lung": "0 5"}, "00000002_000.png", "run lengths")
    refused(folder, {**row, "Height": "31", "Width": "33"}, "00000002_000", "31x33", "32x32")
    refused(folder, {**row, "Image Index": "9.png"}, "9.png", "missing")
    layouts.save(folder / "images" / "9.png", layouts.film((32, 32)))
    chexmask._images.cache_clear()
    refused(folder, {**row, "Image Index": "9.png"}, "9.png", "NIH's table")


def test_a_table_without_its_columns_is_named(folder):
    path = folder / "ChestX-Ray8.csv"
    rows = list(csv.DictReader(path.open()))
    layouts.write_csv(path, [{k: v for k, v in row.items() if k != "Heart"} for row in rows])
    with pytest.raises(InputError, match="ChestX-Ray8.csv: has no column 'Heart'"):
        list(chexmask.read_rows(str(path)))
    path.unlink()
    with pytest.raises(InputError, match="ChestX-Ray8.csv"):
        list(chexmask.read_rows(str(path)))
    (folder / "Data_Entry_2017_v2020.csv").unlink()
    with pytest.raises(InputError, match="Data_Entry_2017_v2020.csv"):
        chexmask.read_entries(folder)


def test_without_beam_the_extra_is_named(folder, tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without_beam(name, *args, **kwargs):
        if name.split(".")[0] == "apache_beam":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_beam)
    with pytest.raises(InputError, match=r"pip install 'jaxlung\[beam\]'"):
        prepare("chexmask", tmp_path / "tfds", tmp_path)


def test_the_pipeline_prepares_a_set_that_loads(folder, tmp_path):
    pytest.importorskip("apache_beam", reason="needs jaxlung[beam]")
    prepare("chexmask", tmp_path / "tfds", tmp_path)
    whole = open_set("chexmask", tmp_path / "tfds")
    assert whole.ids == ("00000001_000", "00000001_001", "00000002_000")
    assert whole.patients == ("1", "1", "2")
    for i in range(3):
        example = whole.read(i)
        right, left, _ = layouts.lungs((32, 32), i)
        np.testing.assert_array_equal(example.mask, right | left)
        np.testing.assert_array_equal(example.image, layouts.film((32, 32), 500 + i))
        assert example.spacing == (0.21, 0.28)


def test_the_pipeline_names_a_missing_image(folder, tmp_path):
    pytest.importorskip("apache_beam", reason="needs jaxlung[beam]")
    (folder / "images" / "images_001" / "00000002_000.png").unlink()
    with pytest.raises(InputError) as caught:
        prepare("chexmask", tmp_path / "tfds", tmp_path)
    message = str(caught.value)
    assert "\n" not in message and "00000002_000.png: is missing" in message
    assert len(message) < 600, message


class TestChexmask(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = chexmask.JaxlungChexmask
    SPLITS = {"train": 3}

    @classmethod
    def setUpClass(cls):
        pytest.importorskip("apache_beam", reason="needs jaxlung[beam]")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.EXAMPLE_DIR = folder.name
        layouts.chexmask(Path(folder.name))
        super().setUpClass()
