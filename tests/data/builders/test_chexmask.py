"""The builder of CheXmask: its pure functions, and the whole preparation of a small set."""

import csv

import numpy as np
import pytest

from jaxlung.data.builders import chexmask
from jaxlung.data.builders.shared import outlines
from jaxlung.data.prepare import prepare
from jaxlung.data.prepared import open_set
from jaxlung.errors import InputError
from tests.helpers import official_layouts as layouts
from tests.helpers.builder_cases import check_builder

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def folder(tmp_path):
    return layouts.chexmask(tmp_path)


def rows_of(folder):
    rows = chexmask.read_rows(folder / "ChestX-Ray8.csv")
    return {row["Image Index"]: row for row in rows}


def test_rows_are_kept_from_a_dice_rca_mean_of_0_7(folder):
    reason = chexmask.reason_to_leave_out
    kept = [name for name, row in rows_of(folder).items() if reason(row) is None]
    assert kept == ["00000001_000.png", "00000001_001.png", "00000002_000.png"]
    for text in ("", "nan"):
        assert reason({"Dice RCA (Mean)": text}) == "with a Dice RCA (Mean) below 0.7"


def test_an_example_holds_masks_patient_and_spacing(folder):
    source = chexmask.open_source(folder)
    example = chexmask.build_example(source, rows_of(folder)["00000001_001.png"])
    right, left, heart = layouts.lungs((32, 32), 1)
    assert example["id"] == "00000001_001"
    assert example["patient"] == "1" and example["age"] == 58 and example["sex"] == "F"
    assert example["finding"] == "normal" and example["view"] == "PA"
    for name, mask in (
        ("mask_right", right),
        ("mask_left", left),
        ("heart", heart),
        ("mask", right | left),
    ):
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


def refused(tmp_path, *words):
    with pytest.raises(InputError) as caught:
        prepare("chexmask", tmp_path / "tfds", tmp_path)
    message = str(caught.value)
    assert "\n" not in message and all(str(word) in message for word in words), message
    assert len(message) < 600, message


def edit(folder, change):
    """Writes CheXmask's table anew, each row as `change` returns it."""
    path = folder / "ChestX-Ray8.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    layouts.write_csv(path, [change(dict(row)) for row in rows])


def replacing(name, **columns):
    columns = {key.replace("_", " "): value for key, value in columns.items()}
    return lambda row: {**row, **columns} if row["Image Index"] == name else row


def test_a_table_may_have_line_breaks_in_a_field_and_a_byte_order_mark(folder):
    edit(folder, lambda row: {**row, "Landmarks": "[[1, 2],\n [3, 4]]"})
    path = folder / "ChestX-Ray8.csv"
    assert b"\r\n" in path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    rows = list(chexmask.read_rows(path))
    assert len(rows) == 4 and rows[0]["Landmarks"] == "[[1, 2],\n [3, 4]]"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"Left_Lung": "0 5"}, ("ChestX-Ray8.csv", "00000002_000.png", "run lengths")),
        ({"Height": "31", "Width": "33"}, ("00000002_000", "31x33", "32x32")),
        ({"Image_Index": "9.png"}, ("images/9.png", "missing", "unpack")),
        ({"Image_Index": "00000001_000.png"}, ("ChestX-Ray8.csv", "00000001_000.png twice")),
    ],
)
def test_a_damaged_row_is_named(folder, tmp_path, columns, words):
    edit(folder, replacing("00000002_000.png", **columns))
    refused(tmp_path, *words)


def test_an_image_that_the_nih_does_not_list_is_named(folder, tmp_path):
    edit(folder, replacing("00000002_000.png", Image_Index="9.png"))
    layouts.save(folder / "images" / "9.png", layouts.film((32, 32)))
    refused(tmp_path, "9.png", "NIH's table")


def test_all_images_are_looked_for_before_the_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(chexmask, "build_example", lambda *_: pytest.fail("work began"))
    for path in (folder / "images").rglob("*_000.png"):
        path.unlink()
    refused(tmp_path, "images/00000001_000.png: is missing, and 1 more")


def test_a_mask_without_an_outline_is_counted(folder, tmp_path):
    edit(folder, replacing("00000002_000.png", Left_Lung=""))
    builder = prepare("chexmask", tmp_path / "tfds", tmp_path)
    assert builder.info.splits["train"].num_examples == 2
    assert builder.info.metadata["left_out"] == {
        "with a Dice RCA (Mean) below 0.7": 1,
        "without an outline of each lung and the heart": 1,
    }


def test_a_table_without_its_columns_or_cut_short_is_named(folder, tmp_path):
    path = folder / "ChestX-Ray8.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    refused(tmp_path, path, "cut short")
    path.write_bytes(whole)
    edit(folder, lambda row: {k: v for k, v in row.items() if k != "Heart"})
    refused(tmp_path, "ChestX-Ray8.csv: has no column 'Heart'")
    path.unlink()
    refused(tmp_path, path, "no such file", "physionet.org")
    layouts.chexmask(tmp_path)
    table = folder / "Data_Entry_2017_v2020.csv"
    table.write_bytes(b"\xff\xfe\x00")
    refused(tmp_path, table, "CSV")
    table.unlink()
    refused(tmp_path, table, "no such file")


def test_what_was_missing_is_found_at_the_next_try(folder, tmp_path):
    path = folder / "images" / "images_001" / "00000002_000.png"
    path.rename(tmp_path / "away.png")
    refused(tmp_path, path.name, "missing")
    (tmp_path / "away.png").rename(path)
    assert prepare("chexmask", tmp_path / "tfds", tmp_path).info.splits["train"].num_examples == 3


def test_the_prepared_set_loads(folder, tmp_path):
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


@pytest.mark.slow
def test_chexmask_by_tfds(tmp_path):
    layouts.chexmask(tmp_path)
    check_builder(chexmask.JaxlungChexmask, {"train": 3}, tmp_path)
