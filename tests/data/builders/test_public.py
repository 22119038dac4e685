"""The builders of the public sets, on small sets in the official layouts."""

import hashlib
import io
import json
import shutil
import socket
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxlung.catalog import CATALOG
from jaxlung.cli import main
from jaxlung.data.builders import (
    chest_xray_masks_and_labels,
    covid19_radiography,
    covid_cxr,
    jsrt,
    kermany_v7,
    montgomery,
    shenzhen,
)
from jaxlung.data.builders.shared import downloads, nlm, outlines, radiographs
from jaxlung.data.prepare import prepare
from jaxlung.data.prepared import open_set
from jaxlung.errors import InputError
from tests.helpers import official_layouts as layouts
from tests.helpers.builder_cases import check_builder

# TFDS and TensorFlow warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


def check_layout(builder, splits, folder, **attributes):
    """TFDS's test case, on examples in the official layout instead of committed files."""
    # TFDS's checksum file wants sizes that are not published.
    check_builder(builder, splits, folder, SKIP_CHECKSUMS=True, **attributes)


def test_montgomery_by_tfds(tmp_path, monkeypatch):
    archive = layouts.montgomery_zip(tmp_path)
    monkeypatch.setattr(montgomery, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(downloads, "_is_downloaded", lambda *_: True)  # no host is asked
    result = "NLM-MontgomeryCXRSet.zip"
    check_layout(montgomery.JaxlungMontgomery, {"train": 3}, tmp_path, DL_DOWNLOAD_RESULT=result)


def test_jsrt_by_tfds(tmp_path, monkeypatch):
    layouts.jsrt(tmp_path)
    monkeypatch.setattr(jsrt, "SIDE", 32)
    check_layout(jsrt.JaxlungJsrt, {"fold1": 2, "fold2": 2}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "count", "fill"),
    [
        (shenzhen.JaxlungShenzhen, 4, layouts.shenzhen),
        (covid_cxr.JaxlungCovidCxr, 3, layouts.covid_cxr),
        (covid19_radiography.JaxlungCovid19Radiography, 4, layouts.covid19_radiography),
        (
            chest_xray_masks_and_labels.JaxlungChestXrayMasksAndLabels,
            4,
            layouts.chest_xray_masks_and_labels,
        ),
        (kermany_v7.JaxlungKermanyV7, 5, layouts.kermany_v7),
    ],
)
def test_the_others_by_tfds(tmp_path, builder, count, fill):
    fill(tmp_path)
    check_layout(builder, {"train": count}, tmp_path)


def served(name, tmp_path):
    """id to example, all splits; and the builder."""
    builder = prepare(name, tmp_path / "tfds", tmp_path)
    examples = {}
    for split in builder.info.splits:
        for example in builder.as_data_source(split=split):
            examples[example["id"].decode()] = example
    return examples, builder


def refused(name, tmp_path, *words, manual_dir=None):
    with pytest.raises(InputError) as caught:
        prepare(name, tmp_path / "tfds", tmp_path if manual_dir is None else manual_dir)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def plane(example, name):
    return example[name][..., 0]


def test_montgomery_keeps_the_lungs_apart_and_merges_them(tmp_path):
    layouts.montgomery(tmp_path)
    examples, builder = served("montgomery", tmp_path)
    assert sorted(examples) == ["MCUCXR_0001_0", "MCUCXR_0264_1", "MCUCXR_0313_1"]
    for i, stem in enumerate(sorted(examples)):
        right, left, _ = layouts.lungs((40, 48), i)
        example = examples[stem]
        np.testing.assert_array_equal(plane(example, "mask_right"), right)
        np.testing.assert_array_equal(plane(example, "mask_left"), left)
        np.testing.assert_array_equal(plane(example, "mask"), right | left)
        np.testing.assert_array_equal(plane(example, "image"), layouts.film((40, 48), i))
        assert example["bits"] == 8 and example["age"] == 20 + i
        assert np.isnan(example["spacing_mm"]).all()  # not of the published size
    assert [examples[s]["finding"].decode() for s in sorted(examples)] == [
        "normal",
        "tuberculosis",
        "tuberculosis",
    ]
    assert [examples[s]["sex"].decode() for s in sorted(examples)] == ["F", "M", "F"]
    patients = [examples[s]["patient"].decode() for s in sorted(examples)]
    assert patients == ["MCUCXR_0001", "MCUCXR_0264", "MCUCXR_0264"]
    assert CATALOG["montgomery"].citation in builder.info.citation


def test_lungs_that_overlap_are_merged_by_or(tmp_path):
    """Adding 255 and 255 in 8 bits gives 254, adding 1 and 1 gives 2; 200 and 56 give 0."""
    folder = layouts.montgomery(tmp_path, stems=("MCUCXR_0001_0",), shape=(6, 6))
    overlap = np.zeros((6, 6), np.uint8)
    overlap[2, 2] = 1
    layouts.save(folder / "ManualMask" / "rightMask" / "MCUCXR_0001_0.png", overlap * 200)
    layouts.save(folder / "ManualMask" / "leftMask" / "MCUCXR_0001_0.png", overlap * 56)
    example = served("montgomery", tmp_path)[0]["MCUCXR_0001_0"]
    np.testing.assert_array_equal(plane(example, "mask"), overlap)


def test_montgomery_of_the_published_size_has_a_spacing(tmp_path, monkeypatch):
    monkeypatch.setattr(montgomery, "SIZES", ((40, 48),))
    layouts.montgomery(tmp_path, stems=("MCUCXR_0001_0",))
    example = served("montgomery", tmp_path)[0]["MCUCXR_0001_0"]
    assert example["spacing_mm"] == pytest.approx([0.0875, 0.0875])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_keep_their_depth(tmp_path, dtype):
    folder = layouts.montgomery(tmp_path, stems=("MCUCXR_0001_0",))
    image = layouts.film((40, 48), 9, dtype)
    layouts.save(folder / "CXR_png" / "MCUCXR_0001_0.png", image)
    example = served("montgomery", tmp_path)[0]["MCUCXR_0001_0"]
    np.testing.assert_array_equal(plane(example, "image"), image)
    assert example["bits"] == 8 * image.itemsize


def test_a_missing_or_empty_half_is_named(tmp_path):
    folder = layouts.montgomery(tmp_path)
    path = folder / "ManualMask" / "leftMask" / "MCUCXR_0264_1.png"
    path.unlink()
    refused("montgomery", tmp_path, path, "missing")
    layouts.save(path, np.zeros((40, 48), np.uint8))
    refused("montgomery", tmp_path, path, "empty")
    layouts.save(path, np.ones((40, 47), np.uint8))
    refused("montgomery", tmp_path, "MCUCXR_0264_1", "40x47", "40x48")


@pytest.mark.parametrize("moved", ["CXR_png", "ManualMask/rightMask"])
def test_a_moved_folder_is_named(tmp_path, moved):
    folder = layouts.montgomery(tmp_path)
    (folder / moved).rename(folder / "elsewhere")
    refused("montgomery", tmp_path, folder / moved, "no such folder")


def test_an_archive_with_a_wrong_checksum_is_refused(tmp_path):
    archive = tmp_path / "NLM-MontgomeryCXRSet.zip"
    archive.write_bytes(b"cut short")
    with pytest.raises(InputError, match="wrong SHA-256") as caught:
        radiographs.check_sha256(archive, montgomery.SHA256, montgomery.URL)
    assert str(archive) in str(caught.value) and montgomery.URL in str(caught.value)
    own = hashlib.sha256(b"cut short").hexdigest()
    radiographs.check_sha256(archive, own, montgomery.URL)


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    import requests

    def fail(*_):
        raise requests.ConnectionError("no route\nto the host")

    monkeypatch.setattr(downloads, "_is_downloaded", lambda *_: True)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", fail)
    manual = tmp_path / "tfds" / "downloads" / "manual"
    words = ("montgomery", "download failed", "no route to the host", manual)
    refused("montgomery", tmp_path, *words, CATALOG["montgomery"].homepage, manual_dir="")
    # What was fetched by hand lies elsewhere: no download instead of it.
    refused("montgomery", tmp_path, tmp_path / "montgomery", "no such folder")


@pytest.fixture
def silent_host(monkeypatch):
    """A host that takes connections and never answers; the set's address is there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/NLM-MontgomeryCXRSet.zip"
        monkeypatch.setattr(montgomery, "URL", url)
        monkeypatch.setattr(downloads, "TIMEOUT_S", (0.1, 0.2))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield url


def test_a_host_that_does_not_answer_ends_it_soon_in_one_line(
    tmp_path, monkeypatch, silent_host, capsys
):
    monkeypatch.setattr(tfds.download.DownloadManager, "download", None)  # with its bars
    start = time.monotonic()
    with pytest.raises(SystemExit, match="2"):
        main(["data", "prepare", "montgomery", "--data-dir", str(tmp_path)])
    assert time.monotonic() - start < 15  # TFDS alone would take minutes
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"downloading {silent_host}"
    for words in (
        f"error: montgomery: the download failed ({silent_host}: no answer within 0.2 s)",
        "fetch NLM-MontgomeryCXRSet.zip",
        f"The folder of manual downloads is {tmp_path / 'downloads' / 'manual'}",
    ):
        assert words in last


def test_a_host_that_is_not_there_or_lacks_the_file_is_named(tmp_path, monkeypatch):
    import requests

    def answer(*_, **__):
        response = requests.Response()
        response.status_code, response.raw = 404, io.BytesIO()
        return response

    def fail(*_, **__):
        raise requests.ConnectionError("a page of text")

    for get, words in (
        (answer, f"({montgomery.URL}: HTTP status 404)"),
        (fail, f"({montgomery.URL}: the host cannot be reached, ConnectionError)"),
    ):
        monkeypatch.setattr(requests, "get", get)
        refused("montgomery", tmp_path, words, manual_dir="")


def test_what_is_downloaded_already_needs_no_host(tmp_path, silent_host):
    class Manager:
        download_dir = tmp_path

        def download(self, url):
            return tmp_path / "set.zip"

    with pytest.raises(ConnectionError):
        downloads.download(Manager(), silent_host)
    (tmp_path / "jaxlung_montgomery").mkdir()
    note = tmp_path / "jaxlung_montgomery" / "set.zip.INFO"
    note.write_text(json.dumps({"urls": [silent_host]}))
    assert downloads.download(Manager(), silent_host) == tmp_path / "set.zip"


def test_a_download_that_tfds_refuses_is_one_line(tmp_path, monkeypatch):
    """An archive cut short, which unpacking would otherwise notice late."""
    archive = tmp_path / "cut.zip"
    archive.write_bytes(b"PK")
    monkeypatch.setattr(downloads, "_is_downloaded", lambda *_: True)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda *_: archive)
    refused("montgomery", tmp_path, archive, "wrong SHA-256", "delete it", manual_dir="")
    monkeypatch.setattr(montgomery, "SHA256", hashlib.sha256(b"PK").hexdigest())
    refused("montgomery", tmp_path, "cannot be unpacked", "delete the download", manual_dir="")


def test_shenzhen_leaves_out_images_without_a_mask_and_counts_them(tmp_path):
    layouts.shenzhen(tmp_path, count=4, without_mask=2)
    examples, builder = served("shenzhen", tmp_path)
    assert len(examples) == 4 and all(plane(e, "mask").any() for e in examples.values())
    assert builder.info.metadata["left_out"] == {"without a mask": 2}
    again = tfds.builder("jaxlung_shenzhen", data_dir=tmp_path / "tfds")
    assert again.info.metadata["left_out"] == {"without a mask": 2}
    # The second image is stored as RGB.
    expected = layouts.film((36, 30), 101)
    np.testing.assert_array_equal(plane(examples["CHNCXR_0002_1"], "image"), expected)
    assert examples["CHNCXR_0001_0"]["sex"] == b"M" and examples["CHNCXR_0001_0"]["age"] == 45


def test_shenzhen_counts_an_empty_mask_and_refuses_one_without_image(tmp_path):
    folder = layouts.shenzhen(tmp_path, without_mask=0)
    layouts.save(folder / "mask/mask/CHNCXR_0001_0_mask.png", np.zeros((36, 30), np.uint8))
    examples, builder = served("shenzhen", tmp_path)
    assert len(examples) == 3
    assert builder.info.metadata["left_out"] == {"with an empty mask": 1}
    shutil.rmtree(tmp_path / "tfds")
    (folder / "ChinaSet_AllFiles/CXR_png/CHNCXR_0003_0.png").unlink()
    refused("shenzhen", tmp_path, folder / "mask/mask/CHNCXR_0003_0_mask.png", "no image")


def test_manual_sets_say_what_to_fetch(tmp_path):
    for name, entry in CATALOG.items():
        if entry.manual:
            refused(name, tmp_path, tmp_path / entry.builder, entry.instructions)
        assert "\n" not in entry.instructions


def test_jsrt_is_big_endian_and_inverted(tmp_path, monkeypatch):
    monkeypatch.setattr(jsrt, "SIDE", 2)
    path = tmp_path / "JPCLN001.IMG"
    path.write_bytes(bytes([0x00, 0x00, 0x0F, 0xFF, 0x01, 0x02, 0x00, 0x01]))
    image = jsrt.read_img(path)
    np.testing.assert_array_equal(image, [[4095, 0], [4095 - 258, 4094]])
    assert image.dtype == np.uint16
    np.array([255, 300, 4000, 17], "<u2").tofile(path)
    with pytest.raises(InputError, match="big-endian"):
        jsrt.read_img(path)
    path.write_bytes(b"12345678" + b"9")
    with pytest.raises(InputError, match="9 bytes; expected 8"):
        jsrt.read_img(path)


def test_jsrt_serves_folds_organs_and_spacing(tmp_path, monkeypatch):
    monkeypatch.setattr(jsrt, "SIDE", 32)
    layouts.jsrt(tmp_path)
    examples, _ = served("jsrt", tmp_path)
    for i, name in enumerate(("JPCLN001", "JPCLN002", "JPCNN001", "JPCNN002")):
        right, left, heart = (m.repeat(2, 0).repeat(2, 1) for m in layouts.lungs((16, 16), i))
        example = examples[name]
        for feature, mask in (
            ("mask_right", right),
            ("mask_left", left),
            ("heart", heart),
            ("mask", right | left),
        ):
            np.testing.assert_array_equal(plane(example, feature), mask)
        assert plane(example, "clavicle_right")[2, 4] and plane(example, "clavicle_left")[2, -5]
        assert example["spacing_mm"] == pytest.approx([0.175, 0.175])
        assert example["patient"].decode() == name and example["bits"] == 16
        assert example["fold"] == (b"fold1" if int(name[-1]) % 2 else b"fold2")
        assert example["finding"] == (b"nodule" if "LN" in name else b"no nodule")


def test_jsrt_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(jsrt, "SIDE", 32)
    folder = layouts.jsrt(tmp_path)
    masks = folder / "scratch" / "fold2" / "masks"
    gif = masks / "heart" / "JPCLN002.gif"
    gif.rename(tmp_path / "away.gif")
    refused("jsrt", tmp_path, gif, "missing")
    (tmp_path / "away.gif").rename(gif)
    image = folder / "All247images" / "JPCNN002.IMG"
    image.rename(tmp_path / "away.IMG")
    refused("jsrt", tmp_path, image, "missing")
    (tmp_path / "away.IMG").rename(folder / "All247images" / "JPCNN003.IMG")
    shutil.copy(folder / "All247images" / "JPCNN003.IMG", image)
    refused("jsrt", tmp_path, "JPCNN003.IMG", "no masks")


def test_covid_cxr_images_of_one_stem_are_told_apart(tmp_path):
    folder = layouts.covid_cxr(tmp_path)
    (folder / "images" / "film-1.jpg").rename(folder / "images" / "film-0.jpg")
    for name in ("structure.csv", "metadata.csv"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("film-1.jpg", "film-0.jpg"))
    prepare("covid_cxr", tmp_path / "tfds", tmp_path)
    assert open_set("covid_cxr", tmp_path / "tfds").ids == ("film-0.jpg", "film-0.png", "film-2")


@pytest.mark.parametrize("coco", [False, True])
def test_covid_cxr_draws_lungs_and_heart(tmp_path, coco):
    layouts.covid_cxr(tmp_path, coco=coco)
    examples, builder = served("covid_cxr", tmp_path)
    assert sorted(examples) == ["film-0", "film-1", "film-2"]
    assert builder.info.metadata["left_out"] == {"with one lung outlined or none": 1}
    for i in range(3):
        planes = layouts.lungs((30, 44), i)
        if coco:
            planes = [box_of(plane) for plane in planes]  # what the layout outlines
        right, left, heart = planes
        example = examples[f"film-{i}"]
        for name, mask in (
            ("mask_right", right),
            ("mask_left", left),
            ("heart", heart),
            ("mask", (right | left) & ~heart),
        ):
            np.testing.assert_array_equal(plane(example, name), mask)
        assert (plane(example, "mask") < plane(example, "mask") + plane(example, "heart")).any()
        assert example["patient"].decode() == str(i // 2) and example["view"] == b"AP"
        assert example["license"] == b"CC BY"


def box_of(mask):
    box = np.zeros_like(mask)
    ys, xs = np.nonzero(mask)
    box[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
    return box


def test_crops_are_cut_at_the_edge_and_refused_outside(tmp_path):
    layouts.save(tmp_path / "masks" / "a.png", np.full((3, 3), 255, np.uint8))
    row = {"Template Name": "Left Lung", "Mask": "masks/a.png", "Top": "2", "Left": "3"}
    expected = np.zeros((4, 4), bool)
    expected[2:, 3:] = True
    np.testing.assert_array_equal(
        covid_cxr.draw_crops(tmp_path, [row], (4, 4))["mask_left"], expected
    )
    for field, value in (("Top", "4"), ("Left", "-1"), ("Top", "")):
        with pytest.raises(InputError, match="a.png"):
            covid_cxr.draw_crops(tmp_path, [{**row, field: value}], (4, 4))


def test_covid19_radiography_brings_masks_to_the_images_grid(tmp_path):
    layouts.covid19_radiography(tmp_path)
    examples, _ = served("covid19_radiography", tmp_path)
    example = examples["Viral Pneumonia-1"]
    assert example["image"].shape == example["mask"].shape == (299, 299, 1)
    assert example["finding"] == b"viral pneumonia" and example["image"].dtype == np.uint8
    # The ellipses are drawn in relative coordinates, so the finer grid's own are the truth.
    right, left, _ = layouts.lungs((299, 299), 3)
    mask = plane(example, "mask") > 0
    assert 2 * (mask & (right | left)).sum() / (mask.sum() + (right | left).sum()) > 0.99


def test_on_grid_maps_edges_to_edges():
    mask = np.array([[0, 1], [0, 1]])
    expected = np.repeat([[0, 0, 1, 1]], 4, axis=0)
    np.testing.assert_array_equal(radiographs.on_grid(mask, (4, 4)), expected)
    np.testing.assert_array_equal(radiographs.on_grid(mask * 255, (2, 2)), mask)


def test_merged_set_takes_both_names_of_masks(tmp_path):
    layouts.chest_xray_masks_and_labels(tmp_path)
    examples, builder = served("chest_xray_masks_and_labels", tmp_path)
    assert sorted(examples) == ["CHNCXR_0001_0", "CHNCXR_0002_1", "MCUCXR_0001_0", "MCUCXR_0002_1"]
    assert builder.info.metadata["left_out"] == {"without a mask": 1}


def test_files_of_other_names_are_refused(tmp_path):
    folder = layouts.chest_xray_masks_and_labels(tmp_path)
    (folder / "CXR_png" / "MCUCXR_0001_0.png").rename(folder / "CXR_png" / "first.png")
    (folder / "masks" / "MCUCXR_0001_0.png").rename(folder / "masks" / "first.png")
    refused("chest_xray_masks_and_labels", tmp_path, folder / "CXR_png" / "first.png", "named")


NLM, KAGGLE = "ChinaSet_AllFiles/CXR_png", "COVID-19_Radiography_Dataset/COVID"


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("montgomery", "MontgomerySet/CXR_png", "no such folder"),
        ("montgomery", "MontgomerySet/ManualMask/rightMask", "no such folder"),
        ("montgomery", "MontgomerySet/ManualMask/rightMask/MCUCXR_0264_1.png", "is missing"),
        ("montgomery", "MontgomerySet/CXR_png/MCUCXR_0264_1.png", "has no image"),
        ("shenzhen", NLM, "no such folder"),
        ("shenzhen", "mask/mask/CHNCXR_0002_1_mask.png", "96 other images"),
        ("shenzhen", f"{NLM}/CHNCXR_0002_1.png", "has no image"),
        ("jsrt", "All247images", "no such folder"),
        ("jsrt", "scratch/fold2/masks/right lung", "no such folder"),
        ("jsrt", "scratch/fold2/masks/right lung/JPCLN002.gif", "is missing"),
        ("jsrt", "All247images/JPCNN001.IMG", "is missing"),
        ("covid_cxr", "images", "no such folder"),
        ("covid_cxr", "masks/1_0.png", "is missing"),
        ("covid_cxr", "images/film-1.jpg", "is missing"),
        ("covid_cxr", "metadata.csv", "clone again"),
        ("covid_cxr", "structure.csv", "clone again"),
        ("covid19_radiography", f"{KAGGLE}/masks", "no such folder"),
        ("covid19_radiography", f"{KAGGLE}/masks/COVID-2.png", "no mask of COVID-2"),
        ("covid19_radiography", f"{KAGGLE}/images/COVID-2.png", "has no image"),
        ("chest_xray_masks_and_labels", "Lung Segmentation/masks", "no such folder"),
        ("chest_xray_masks_and_labels", "Lung Segmentation/CXR_png/MCUCXR_0001_0.png", "no image"),
        ("chexmask", "images", "no such folder"),
        ("chexmask", "images/images_000/00000001_001.png", "is missing"),
        ("chexmask", "Data_Entry_2017_v2020.csv", "no such file"),
    ],
)
def test_what_was_moved_is_named_with_a_remedy(tmp_path, monkeypatch, name, damage, words):
    monkeypatch.setattr(jsrt, "SIDE", 32)
    options = {
        "shenzhen": {"without_mask": 96, "shape": (6, 6)},
        "covid19_radiography": {"count": 2},
    }
    getattr(layouts, name)(tmp_path, **options.get(name, {}))
    path = tmp_path / name / damage
    path.rename(tmp_path / "elsewhere")
    remedy = "unpack", "fetch", "clone"
    with pytest.raises(InputError) as caught:
        prepare(name, tmp_path / "tfds", tmp_path)
    message = str(caught.value)
    assert "\n" not in message and words in message, message
    # By its name: of a mask, that of its image; of a folder with several places, the first.
    assert path.name in message or path.stem.removesuffix("_mask") in message, message
    assert str(tmp_path / name) in message and any(word in message for word in remedy), message
    assert len(message) < 500 and message.count(str(tmp_path)) == 1, message


@pytest.mark.parametrize("name", ["montgomery", "shenzhen", "jsrt", "covid_cxr", "chexmask"])
def test_a_damaged_image_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr(jsrt, "SIDE", 32)
    getattr(layouts, name)(tmp_path)
    suffix = ".IMG" if name == "jsrt" else ".png"
    files = sorted((tmp_path / name).rglob(f"*{suffix}"))
    path = next(p for p in files if not {"masks", "mask", "ManualMask"} & {*p.parts})
    path.write_bytes(path.read_bytes()[:-20])
    refused(name, tmp_path, path)


def test_the_label_convention_is_read_with_the_set(tmp_path):
    layouts.covid_cxr(tmp_path)
    _, builder = served("covid_cxr", tmp_path)
    again = tfds.builder("jaxlung_covid_cxr", data_dir=tmp_path / "tfds")
    assert again.info.metadata["label_convention"] == CATALOG["covid_cxr"].convention


def test_crops_of_another_size_than_the_image_are_not_drawn(tmp_path):
    folder = layouts.covid_cxr(tmp_path)
    layouts.save(folder / "images" / "film-1.jpg", layouts.film((60, 88)))
    examples, builder = served("covid_cxr", tmp_path)
    assert sorted(examples) == ["film-0", "film-2"]
    assert builder.info.metadata["left_out"]["annotated at another size"] == 1


@pytest.mark.parametrize(
    ("text", "sex", "age"),
    [
        ("Patient's Sex: F \nPatient's Age: 027Y\nnormal", "F", 27),
        ("male 45yrs\nnormal", "M", 45),
        ("Female, 28yrs\nPTB", "F", 28),
        ("femal 32yrs", "F", 32),
        ("female24yrs", "F", 24),
        ("male 16month", "M", 16 / 12),
        ("female 64days", "F", 64 / 365.25),
        ("", "", None),
    ],
)
def test_readings(text, sex, age):
    reading = nlm.parse_reading(text)
    assert reading.sex == sex
    assert np.isnan(reading.age) if age is None else reading.age == pytest.approx(age)


def test_decode_runs_by_hand():
    """Starts count from 1, along rows; a run may go on in the next row."""
    np.testing.assert_array_equal(
        outlines.decode_runs("1 1 4 3", (2, 4)), [[1, 0, 0, 1], [1, 1, 0, 0]]
    )
    np.testing.assert_array_equal(outlines.decode_runs("8 1", (2, 4))[1], [0, 0, 0, 1])
    right, left, heart = layouts.lungs((13, 17))
    for mask in (right, left, heart):
        np.testing.assert_array_equal(outlines.decode_runs(layouts.runs(mask), (13, 17)), mask)


@pytest.mark.parametrize("text", ["", "1", "0 1", "8 2", "1 0", "1 1 x 2", "-3 1"])
def test_bad_runs_are_refused(text):
    with pytest.raises(InputError):
        outlines.decode_runs(text, (2, 4))


def test_coco_counts_run_down_the_columns():
    mask = outlines.coco_mask({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3))
    np.testing.assert_array_equal(mask, [[0, 1, 0], [1, 0, 0]])
    for bad in ({"size": [2, 3], "counts": "compressed"}, {"counts": [1, 2]}, None):
        with pytest.raises(InputError):
            outlines.coco_mask(bad, (2, 3))


def test_no_image_deeper_than_the_feature_is_cut(tmp_path):
    image, mask = layouts.film((4, 4), 0, np.uint16), np.ones((4, 4), bool)
    with pytest.raises(InputError, match="16 bits"):
        radiographs.example("a", image, {"mask": mask}, depth=8, patient="a")
    path = tmp_path / "float.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(InputError, match="float32"):
        radiographs.read_grey(path)
