"""Public sets by name: splits by patient, random access, weighted mixtures."""

import itertools
import json
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxlung.catalog import CATALOG, NO_SETS
from jaxlung.cli import data
from jaxlung.config import DataConfig, parse_config
from jaxlung.data import prepared
from jaxlung.data.builders import jsrt
from jaxlung.data.canvases import check_canvases, make_canvases
from jaxlung.data.datasets import load_splits
from jaxlung.data.input_pipeline import batches, epoch_order, train_indices
from jaxlung.data.prepare import prepare
from jaxlung.data.prepared import (
    INDEX,
    _make_index,
    data_dir_of,
    make_builder,
    open_records,
    open_set,
    to_example,
)
from jaxlung.data.public import load_public_splits, refuse_doubles
from jaxlung.data.splits import SPLITS, Block, Example, Split, join_splits, select_examples
from jaxlung.data.splitting import split_by_size
from jaxlung.errors import InputError
from jaxlung.evaluation.choice import choose_split
from jaxlung.structures import LUNG, LUNG_AND_HEART
from tests.helpers import official_layouts as layouts

# TFDS and TensorFlow warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")
FRACTIONS = {"validation_fraction": 0.3, "test_fraction": 0.3}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Three sets, prepared."""
    root = tmp_path_factory.mktemp("sets")
    layouts.montgomery(root, stems=[f"MCUCXR_{i:04d}_{(i + 1) % 2}" for i in range(20)])
    layouts.shenzhen(root, count=18, without_mask=2)
    layouts.jsrt(root, films=[f"JPCLN{i:03d}" for i in range(1, 13)])
    layouts.covid_cxr(root)
    layouts.chest_xray_masks_and_labels(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsrt, "SIDE", 32)
        for name in ("montgomery", "shenzhen", "jsrt", "covid_cxr", "chest_xray_masks_and_labels"):
            prepare(name, root / "tfds", root)
    return str(root / "tfds")


def refused(config, *words):
    with pytest.raises(InputError) as caught:
        load_splits(parse_config({"data": config}).data)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def test_a_set_is_read_by_index(data_dir):
    whole = open_set("montgomery", data_dir)
    assert whole.ids == tuple(sorted(whole.ids)) and len(whole.ids) == 20
    for i in (19, 0, 7):
        example = whole.read(i)
        right, left, _ = layouts.lungs((40, 48), i)
        np.testing.assert_array_equal(example.image, layouts.film((40, 48), i))
        np.testing.assert_array_equal(example.mask, right | left)
        assert example.image.dtype == np.uint8 and example.mask.dtype == bool
        assert example.spacing is None
    assert whole.groups["finding"][:2] == ("tuberculosis", "normal")
    assert set(whole.groups["sex"]) == {"F", "M"}


def test_spacing_and_depth_come_with_the_example(data_dir):
    example = open_set("jsrt", data_dir).read(3)
    assert example.spacing == (0.175, 0.175) and example.image.dtype == np.uint16


def test_every_record_of_every_split_is_reached(data_dir):
    """JSRT's two folds are splits of their own on disk."""
    whole = open_set("jsrt", data_dir)
    for i in range(12):
        values = np.random.default_rng(i).integers(0, 4096, (32, 32))  # dark where film is bright
        np.testing.assert_array_equal(whole.read(i).image, 4095 - values)


def test_a_record_s_content_is_its_image_mask_and_heart():
    class Features(dict):
        def deserialize_example_np(self, record, decoders):
            return record

    record = {"id": b"a", "patient": b"p", "image": b"1", "mask": b"2", "heart": b"3"}
    changed = [{**record, name: b"4"} for name in ("image", "mask", "heart")]
    records = [record, *changed, {**record, "id": b"b"}]
    digests = _make_index(Features(record), ("id", "patient"), records)["digest"]
    assert len(set(digests[:4])) == 4 and digests[4] == digests[0]


def test_every_text_of_a_set_is_a_column_and_no_image_but_those_used_is_decoded(data_dir):
    """As the set's own features say, so that a new set needs no change in the reader."""
    builder = make_builder(CATALOG["covid_cxr"], data_dir)
    index, fetch = open_records(builder)
    assert set(index) == {"id", "patient", "finding", "view", "sex", "license", "digest", "empty"}
    assert index["license"] == ["CC BY"] * 3
    features = fetch(0)
    assert {name for name, value in features.items() if isinstance(value, np.ndarray)} == {
        *("image", "mask", "heart", "spacing_mm"),
    }
    assert isinstance(features["mask_right"], bytes)


def test_examples_are_read_when_asked_for(data_dir, monkeypatch):
    read = []
    decode = to_example
    monkeypatch.setattr(prepared, "to_example", lambda *a: read.append(a) or decode(*a))
    splits = load_splits(DataConfig(name="montgomery", dir=data_dir, **FRACTIONS))
    assert not read
    splits["train"].read(0)
    assert len(read) == 1


def test_the_index_is_kept_and_made_again_when_damaged(data_dir, monkeypatch):
    whole = open_set("shenzhen", data_dir)
    path = next((data_dir_of(data_dir) / "jaxlung_shenzhen").glob("*/jaxlung_index*"))
    good = path.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "_make_index", None)  # not called
        assert open_set("shenzhen", data_dir).ids == whole.ids
    columns = json.loads(good)
    for damaged in (
        "{",
        "[]",
        '{"id": ["a"]}',
        json.dumps({**columns, "patient": columns["patient"][:-1]}),
        json.dumps({name: columns[name] for name in columns if name != "digest"}),
        json.dumps({**columns, "unknown": columns["id"]}),
    ):
        path.write_text(damaged)
        assert open_set("shenzhen", data_dir).ids == whole.ids
        assert json.loads(path.read_text()) == json.loads(good)


def test_content_names_a_record_without_reading_it(data_dir):
    """So that a large set's fingerprint costs no reading."""
    montgomery, shenzhen = open_set("montgomery", data_dir), open_set("shenzhen", data_dir)
    stats = [montgomery.stat(i) for i in range(20)]
    assert len(set(stats)) == 20 and all(len(stat) == 32 for stat in stats)
    order = [3, 0, 11]
    chosen = select_examples(montgomery, [montgomery.ids[i] for i in order], "train")
    joined = join_splits("train", ["montgomery", "shenzhen"], [chosen, shenzhen])
    assert [joined.stat(i) for i in range(3)] == [stats[i] for i in order]
    assert joined.stat(3) == shenzhen.stat(0)
    canvases = make_canvases(joined, size=16, fit="letterbox")
    digests = check_canvases(canvases, limit=4, sample=2)
    assert list(digests.values())[:3] == [stats[i] for i in order]


def test_both_conventions_of_covid_cxr(data_dir):
    fields = open_set("covid_cxr", data_dir)
    hearts = open_set("covid_cxr_lung_and_heart", data_dir)
    for i in range(3):
        right, left, heart = layouts.lungs((30, 44), i)
        np.testing.assert_array_equal(fields.read(i).mask, (right | left) & ~heart)
        np.testing.assert_array_equal(hearts.read(i).mask, right | left | heart)
    conventions = {CATALOG[name].convention for name in ("covid_cxr", "covid_cxr_lung_and_heart")}
    assert conventions == {LUNG, LUNG_AND_HEART}


@pytest.fixture(scope="module")
def partly_drawn(tmp_path_factory):
    """covid_cxr without the heart of its first film, and JSRT without one clavicle of its first."""
    root = tmp_path_factory.mktemp("partly")
    table = layouts.covid_cxr(root) / "structure.csv"
    rows = table.read_text().splitlines(keepends=True)
    is_heart = ["Cardiomediastinum" in row and "film-0" in row for row in rows]
    assert sum(is_heart) == 1
    table.write_text("".join(row for row, cut in zip(rows, is_heart, strict=True) if not cut))
    layouts.jsrt(root, films=["JPCLN001", "JPCLN002", "JPCLN003", "JPCLN004"])
    [clavicle] = (root / "jsrt").rglob("left clavicle/JPCLN001.gif")
    layouts.save(clavicle, np.zeros((16, 16), np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsrt, "SIDE", 32)
        for name in ("covid_cxr", "jsrt"):
            prepare(name, root / "tfds", root)
    return str(root / "tfds")


def test_a_heart_that_was_not_drawn_is_not_labelled(partly_drawn):
    whole = open_set("covid_cxr", partly_drawn)
    assert whole.ids == ("film-0", "film-1", "film-2")
    lungs_alone = ("lung", "right_lung", "left_lung")
    assert [whole.labels_of(i) for i in range(3)] == [lungs_alone, *[(*lungs_alone, "heart")] * 2]
    canvases = make_canvases(whole, size=16, fit="letterbox", outputs=("lung", "heart"))
    assert [canvases.read(i).labelled_C.tolist() for i in range(3)] == [
        [True, False],
        [True, True],
        [True, True],
    ]
    # Its lungs with no heart are no mask of lung and heart.
    both = open_set("covid_cxr_lung_and_heart", partly_drawn)
    assert both.ids == ("film-1", "film-2")
    right, left, heart = layouts.lungs((30, 44), 1)
    np.testing.assert_array_equal(both.read(0).mask, right | left | heart)
    assert both.labels_of(0)[0] == "lung_and_heart" and both.read(0).mask_of("heart").any()


def test_one_side_that_was_not_drawn_takes_the_other_with_it(partly_drawn):
    whole = open_set("jsrt", partly_drawn)
    clavicles = ("right_clavicle", "left_clavicle")
    assert [set(clavicles) <= set(whole.labels_of(i)) for i in range(4)] == [False, *[True] * 3]
    assert whole.labels_of(0) == ("lung", "right_lung", "left_lung", "heart")
    outputs = ("lung", *clavicles)
    canvases = make_canvases(whole, size=16, fit="letterbox", outputs=outputs)
    assert canvases.read(0).labelled_C.tolist() == [True, False, False]


def test_a_set_that_is_not_prepared_says_how(tmp_path):
    refused(
        {"name": "jsrt", "dir": str(tmp_path)},
        tmp_path,
        "jaxlung data prepare jsrt",
        f"--data-dir {tmp_path}",
    )


def test_a_damaged_record_is_named(data_dir):
    whole = open_set("montgomery", data_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared, "to_example", lambda *_: 1 / 0)
        with pytest.raises(InputError, match="MCUCXR_0002_1: cannot be read"):
            whole.read(2)


def test_a_folder_that_is_not_ours_or_damaged_says_what_to_do(tmp_path):
    import tensorflow_datasets as tfds

    layouts.montgomery(tmp_path)
    options = tfds.download.DownloadConfig(manual_dir=tmp_path)
    builder = tfds.builder("jaxlung_montgomery", data_dir=tmp_path / "other")
    builder.download_and_prepare(download_config=options)  # in TFDS's own default format
    remedy = "jaxlung data prepare"
    refused({"name": "montgomery", "dir": str(tmp_path / "other")}, tmp_path / "other", remedy)
    prepared = Path(prepare("montgomery", tmp_path / "tfds", tmp_path).data_path)
    for path in (*prepared.glob("*.array_record*"), prepared / INDEX):
        path.unlink()
    refused({"name": "montgomery", "dir": str(tmp_path / "tfds")}, prepared, "prepare the set")


def test_preparing_again_does_not_hide_damage(tmp_path):
    """TFDS takes any folder of the set's name for a prepared set, whatever is in it."""
    layouts.montgomery(tmp_path)
    folder = Path(prepare("montgomery", tmp_path / "tfds", tmp_path).data_path)
    [records] = folder.glob("*.array_record*")
    records.write_bytes(records.read_bytes()[:3000])
    (folder / INDEX).unlink()
    info = folder / "dataset_info.json"
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            prepare("montgomery", tmp_path / "tfds", tmp_path)
        message = str(caught.value)
        assert str(folder) in message and "delete it and prepare the set again" in message
        info.unlink(missing_ok=True)


def test_a_preparation_that_was_killed_counts_for_nothing(tmp_path):
    layouts.montgomery(tmp_path)
    folder = Path(prepare("montgomery", tmp_path / "tfds", tmp_path).data_path)
    folder.rename(folder.with_name("incomplete.ABC123_1.0.0"))  # as TFDS names what it writes to
    refused({"name": "montgomery", "dir": str(tmp_path / "tfds")}, "is not prepared")
    assert prepare("montgomery", tmp_path / "tfds", tmp_path).info.splits["train"].num_examples == 3


def test_two_that_prepare_one_set_at_once_both_have_it(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    layouts.montgomery(tmp_path)
    alone = tfds.core.DatasetBuilder.download_and_prepare

    def overtaken(self, **options):
        monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", alone)
        prepare("montgomery", tmp_path / "tfds", tmp_path)
        raise FileExistsError("the other was first")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", overtaken)
    builder = prepare("montgomery", tmp_path / "tfds", tmp_path)
    assert builder.info.splits["train"].num_examples == 3
    assert len(open_set("montgomery", tmp_path / "tfds").ids) == 3


def test_two_records_of_one_id_are_refused(data_dir, monkeypatch):
    path = next((data_dir_of(data_dir) / "jaxlung_jsrt").glob("*/jaxlung_index*"))
    path.unlink()
    real = _make_index

    def doubled(*arguments):
        index = real(*arguments)
        return {**index, "id": [index["id"][1], *index["id"][1:]]}

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "_make_index", doubled)
        with pytest.raises(InputError, match=r"2 records have the id 'JPCLN\d+'"):
            open_set("jsrt", data_dir)
    assert not path.exists() and len(open_set("jsrt", data_dir).ids) == 12


def patients(split):
    return set(split.patients or split.ids)


def test_hash_splits_cover_the_set_and_keep_patients_together(data_dir):
    config = DataConfig(name="montgomery", dir=data_dir, **FRACTIONS)
    splits = load_public_splits(config)
    whole = open_set("montgomery", data_dir)
    assert sorted(i for split in splits.values() for i in split.ids) == sorted(whole.ids)
    for a, b in itertools.combinations(SPLITS, 2):
        assert not patients(splits[a]) & patients(splits[b])
    again = load_public_splits(config)
    assert {name: s.ids for name, s in splits.items()} == {n: s.ids for n, s in again.items()}
    refused({"name": "montgomery", "dir": data_dir, "test_fraction": 0.001}, "test split is empty")


@pytest.mark.parametrize("fold", ["fold1", "fold2"])
def test_official_folds(data_dir, fold):
    config = DataConfig(name="jsrt", dir=data_dir, split=fold, validation_fraction=0.5)
    splits = load_public_splits(config)
    odd = {f"JPCLN{i:03d}" for i in range(1, 13, 2)}
    even = {f"JPCLN{i:03d}" for i in range(2, 13, 2)}
    training, test = (odd, even) if fold == "fold1" else (even, odd)
    assert set(splits["test"].ids) == test
    assert set(splits["train"].ids) | set(splits["validation"].ids) == training
    assert not set(splits["train"].ids) & set(splits["validation"].ids)


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.published])
def test_published_sizes_are_exact_and_disjoint_by_patient(name):
    sizes = CATALOG[name].published
    assert sum(sizes) == CATALOG[name].n
    ids = [f"image{i}" for i in range(sum(sizes))]
    owners = ["one patient" if i in (3, 70) else f"patient{i}" for i in range(len(ids))]
    splits = split_by_size(name, ids, owners, sizes)
    assert tuple(len(splits[split]) for split in SPLITS) == sizes
    assert sorted(i for part in splits.values() for i in part) == sorted(ids)
    owner = dict(zip(ids, owners, strict=True))
    for a, b in itertools.combinations(SPLITS, 2):
        assert not {owner[i] for i in splits[a]} & {owner[i] for i in splits[b]}
    order = np.random.default_rng(0).permutation(len(ids))
    shuffled = split_by_size(name, [ids[i] for i in order], [owners[i] for i in order], sizes)
    assert {s: set(shuffled[s]) for s in SPLITS} == {s: set(splits[s]) for s in SPLITS}


def test_published_splits_are_the_same_on_every_machine_and_in_every_version():
    """They go by the patients' hashes alone: SHA-256 orders p7 p0 p3 | p5 | p6 p4; p1 has two."""
    owners = ["p0", "p1", "p1", "p3", "p4", "p5", "p6", "p7"]
    splits = split_by_size("x", [f"image{i}" for i in range(8)], owners, (4, 1, 3))
    assert splits["test"] == ["image0", "image3", "image7"]
    assert splits["validation"] == ["image5"]


def test_published_sizes_need_the_whole_set(data_dir):
    refused(
        {"name": "montgomery", "dir": data_dir, "split": "published"}, "20 images", "96, 14 and 28"
    )
    with pytest.raises(InputError, match="published"):
        split_by_size("x", list("abcd"), ["p", "p", "q", "r"], (1, 1, 2))
    with pytest.raises(InputError, match="x has 5 images"):
        split_by_size("x", list("abcde"), list("abcde"), (1, 1, 2))


def test_lists_of_ids_win(data_dir, tmp_path):
    path = tmp_path / "lists.json"
    lists = {
        "train": ["MCUCXR_0003_0", "CHNCXR_0001_0"],
        "validation": ["CHNCXR_0002_1"],
        "test": ["MCUCXR_0000_1"],
    }
    path.write_text(json.dumps(lists))
    config = DataConfig(name="montgomery+shenzhen", dir=data_dir, split_file=str(path))
    splits = load_public_splits(config)
    assert {name: list(split.ids) for name, split in splits.items()} == lists
    path.write_text(json.dumps({**lists, "train": ["MCUCXR_0003_0"]}))
    refused(
        {"name": "montgomery+shenzhen", "dir": data_dir, "split_file": str(path)},
        "shenzhen",
        "train split is empty",
        "data.split_file",
    )


def test_a_mixture_holds_every_set(data_dir):
    config = DataConfig(name="montgomery+shenzhen", dir=data_dir, **FRACTIONS)
    splits = load_public_splits(config)
    alone = [
        load_public_splits(DataConfig(name=name, dir=data_dir, **FRACTIONS))
        for name in ("montgomery", "shenzhen")
    ]
    for name in SPLITS:
        split, parts = splits[name], [s[name] for s in alone]
        assert split.ids == parts[0].ids + parts[1].ids and not split.blocks
        count = len(parts[0].ids)
        assert split.groups["set"] == ("montgomery",) * count + ("shenzhen",) * len(parts[1].ids)
        for part, start in ((parts[0], 0), (parts[1], count)):
            for i in range(len(part.ids)):
                mine, its = split.read(start + i), part.read(i)
                np.testing.assert_array_equal(mine.image, its.image)
                np.testing.assert_array_equal(mine.mask, its.mask)
        assert split.patients[0] == f"montgomery:{parts[0].patients[0]}"
        assert split.sources == parts[0].sources + parts[1].sources


def test_folds_of_a_mixture_are_those_of_each_set(data_dir):
    names = ("montgomery", "shenzhen")
    plain = load_public_splits(DataConfig(name="+".join(names), dir=data_dir, **FRACTIONS))
    validated = []
    for fold in range(2):
        own = {"dir": data_dir, **FRACTIONS, "folds": 2, "fold": fold}
        splits = load_public_splits(DataConfig(name="+".join(names), weights=(1.0, 1.0), **own))
        alone = [load_public_splits(DataConfig(name=name, **own)) for name in names]
        for split in SPLITS:
            assert splits[split].ids == alone[0][split].ids + alone[1][split].ids
        sizes = [block.size for block in splits["train"].blocks]
        assert sizes == [len(part["train"].ids) for part in alone]
        assert splits["test"].ids == plain["test"].ids
        validated += splits["validation"].ids
    assert sorted(validated) == sorted(plain["train"].ids + plain["validation"].ids)
    refused({"name": "montgomery", "dir": data_dir, "folds": 50}, "montgomery: data.folds=50")


def test_a_subgroup_of_one_set_is_unknown_of_the_others(data_dir):
    wholes = [open_set(name, data_dir) for name in ("montgomery", "jsrt", "covid_cxr")]
    joined = join_splits("all", ["montgomery", "jsrt", "covid_cxr"], wholes)
    assert joined.groups["fold"] == ("",) * 20 + ("fold1", "fold2") * 6 + ("",) * 3
    assert {len(values) for values in joined.groups.values()} == {len(joined.ids)} == {35}


def test_the_same_images_in_two_sets_are_refused(data_dir):
    name = "montgomery+chest_xray_masks_and_labels"
    refused({"name": name, "dir": data_dir}, "holds the images of montgomery", "name one")
    same = open_set("montgomery", data_dir)
    with pytest.raises(InputError, match="MCUCXR_0000_1.*two of the sets, a and b"):  # nobody knew
        refuse_doubles({"a": same, "b": same})
    name = "covid_cxr+covid_cxr_lung_and_heart"
    refused({"name": name, "dir": data_dir, "allow_mixed_conventions": True}, "the images of covid")


@pytest.mark.parametrize("other", ["covid_cxr", "chexmask", "kermany_v7"])
def test_sets_with_some_images_in_common_have_to_be_asked_for(other):
    config = {"name": f"{other}+covid19_radiography"}
    refused(config, f"covid19_radiography and {other} have images in", "data.allow_shared_images")
    assert parse_config({"data": {**config, "allow_shared_images": True}})


@pytest.fixture(scope="module")
def lists(data_dir, tmp_path_factory):
    """A split file of ten Montgomery films and all films of covid_cxr to train on."""
    montgomery, covid = (open_set(name, data_dir).ids for name in ("montgomery", "covid_cxr"))
    path = tmp_path_factory.mktemp("lists") / "lists.json"
    train = [*montgomery[:10], *covid]
    path.write_text(
        json.dumps({"train": train, "validation": montgomery[10:12], "test": montgomery[12:14]})
    )
    return str(path)


def test_sets_of_two_conventions_teach_two_outputs(data_dir, lists):
    name = "montgomery+covid_cxr_lung_and_heart"
    config = {"name": name, "dir": data_dir, "split_file": lists}
    parsed = parse_config({"data": config})
    assert parsed.model.outputs == ("lung", "lung_and_heart")
    children = parse_config({"data": {"name": "montgomery+kermany_v7"}})
    assert children.model.outputs == ("lung", "lung_and_heart")
    whole = load_public_splits(parsed.data)
    canvases = make_canvases(whole["train"], size=16, fit="letterbox", outputs=parsed.model.outputs)
    for i, its_set in enumerate(whole["train"].groups["set"]):
        _, mask_SxSx2, labelled_2 = canvases.read(i)
        # The second set keeps heart and lung apart, and so labels both.
        assert labelled_2.tolist() == [True, its_set != "montgomery"]
        assert mask_SxSx2[..., 1].any() == (its_set != "montgomery")
        assert (mask_SxSx2[..., 0] <= mask_SxSx2[..., 1]).all() or its_set == "montgomery"


def test_sets_may_teach_one_output_all_the_same(data_dir, lists):
    name = "montgomery+covid_cxr_lung_and_heart"
    config = {"name": name, "dir": data_dir, "split_file": lists, "allow_mixed_conventions": True}
    parsed = parse_config({"data": config})
    assert parsed.model.outputs == ("lung",)
    train = load_public_splits(parsed.data)["train"]
    last = len(train.ids) - 1
    assert train.labels_of(last) == ("lung",)
    mask = open_set("covid_cxr_lung_and_heart", data_dir)
    index = mask.ids.index(train.ids[last])
    np.testing.assert_array_equal(train.read(last).mask_of("lung"), mask.read(index).mask)
    config["name"] = "covid_cxr_lung_and_heart+montgomery"
    parsed = parse_config({"data": config})
    assert parsed.model.outputs == ("lung_and_heart",)
    train = load_public_splits(parsed.data)["train"]
    assert {train.labels_of(i) for i in range(len(train.ids))} == {("lung_and_heart",)}


def test_a_set_that_teaches_no_output_is_refused(data_dir):
    config = {"data": {"name": "shenzhen+jsrt", "dir": data_dir}, "model": {"outputs": ("heart",)}}
    with pytest.raises(InputError, match="masks of shenzhen mark lung, and model.outputs"):
        parse_config(config)
    config["data"]["name"] = "jsrt"
    assert parse_config(config).model.outputs == ("heart",)


def test_the_five_masks_of_jsrt_are_outputs(data_dir):
    outputs = ("lung", "right_lung", "left_lung", "heart", "right_clavicle", "left_clavicle")
    canvases = make_canvases(open_set("jsrt", data_dir), size=32, fit="stretch", outputs=outputs)
    _, mask_SxSx6, labelled_6 = canvases.read(0)
    assert labelled_6.all()
    lung, right, left, heart, *clavicles = np.moveaxis(mask_SxSx6 > 127, -1, 0)
    np.testing.assert_array_equal(lung, right | left)
    assert heart.any() and all(one.any() for one in clavicles)
    np.testing.assert_array_equal(np.moveaxis(mask_SxSx6, -1, 0)[0], lung * 255)


def test_left_and_right_need_each_other():
    with pytest.raises(InputError, match="left_lung becomes right_lung where an image is mirrored"):
        parse_config({"model": {"outputs": ("lung", "left_lung")}})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "nowhere"}, ["'nowhere'", "montgomery"]),
        ({"name": "montgmery"}, ["'montgmery'", "did you mean montgomery?"]),
        ({"name": "phantom", "dir": "films"}, ["data.dir", "data.name=folder"]),
        ({"name": "montgomery+"}, ["''"]),
        ({"name": "phantom+montgomery"}, ["'phantom'"]),
        ({"name": "montgomery+montgomery"}, ["twice", "data.weights"]),
        ({"name": "montgomery+shenzhen", "weights": (1.0,)}, ["1 numbers for 2 sets"]),
        ({"name": "montgomery+shenzhen", "weights": (1.0, 0.0)}, ["data.weights", "0.0"]),
        ({"name": "montgomery+shenzhen", "weights": (1.0, float("nan"))}, ["data.weights", "nan"]),
        ({"name": "montgomery+shenzhen", "weights": (1.0, "2")}, ["data.weights", "'2'"]),
        ({"name": "montgomery+shenzhen", "weights": "1:2"}, ["data.weights", "tuple"]),
        ({"name": "phantom", "weights": (1.0,)}, ["data.weights", "public sets"]),
        ({"name": "folder", "dir": "x", "split": "published"}, ["data.split", "public sets"]),
        ({"name": "covid_cxr", "split": "published"}, ["no sizes", "covid_cxr"]),
        ({"name": "montgomery", "split": "fold1"}, ["no official folds", "montgomery"]),
        ({"name": "montgomery", "split": "third"}, ["data.split"]),
        ({"name": "jsrt", "split": "fold1", "split_file": "x.json"}, ["'fold1'", "split_file"]),
        ({"name": "montgomery", "patient_pattern": "(x)"}, ["data.patient_pattern", "folders"]),
    ],
)
def test_bad_fields_are_refused_before_anything_is_read(fields, words):
    refused(fields, *words)


def test_weights_are_a_flag(monkeypatch):
    from absl import flags
    from ml_collections import config_flags

    from jaxlung.config import default_config

    argv = ["train", "--config.data.name=montgomery+shenzhen", "--config.data.weights=(1, 2.5)"]
    monkeypatch.setattr("sys.argv", argv)
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", default_config(), flag_values=values)
    values(argv)
    assert parse_config(values.config).data.weights == (1.0, 2.5)


def draws(order, blocks):
    ends = np.cumsum([block.size for block in blocks])
    return np.bincount(np.searchsorted(ends, order, side="right"), minlength=len(blocks))


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [
        ((10, 40), (1, 1)),
        ((10, 40), (1, 4)),
        ((7, 5, 3), (1, 2, 10)),
        ((100, 3), (1000, 1)),
        ((4, 3, 3), (1, 1, 1)),
    ],
)
def test_an_epoch_visits_each_block_by_its_weight(sizes, weights):
    blocks = tuple(Block(*pair) for pair in zip(sizes, weights, strict=True))
    count = sum(sizes)
    for epoch in range(5):
        order = epoch_order(3, epoch, count, blocks)
        assert len(order) == count and order.min() >= 0 and order.max() < count
        expected = np.array(weights) / sum(weights) * count
        assert (np.abs(draws(order, blocks) - expected) <= 1).all()
        visits = np.bincount(order, minlength=count)
        for block, start in zip(blocks, np.cumsum((0, *sizes)), strict=False):
            own = visits[start : start + block.size]
            assert own.max() - own.min() <= 1  # nobody is drawn twice before all are once
    orders = {tuple(epoch_order(3, epoch, count, blocks)) for epoch in range(5)}
    assert len(orders) == 5
    assert tuple(epoch_order(3, 2, count, blocks)) in orders


def test_every_example_of_a_weighted_block_is_visited_in_time():
    blocks = (Block(6, 1.0), Block(6, 5.0))
    seen = Counter(int(i) for e in range(60) for i in epoch_order(0, e, 12, blocks))
    assert set(seen) == set(range(12))
    assert min(seen[i] for i in range(6)) > 0.4 * max(seen[i] for i in range(6))


def test_a_weight_that_would_leave_a_set_out_is_refused(data_dir):
    config = {"name": "montgomery+shenzhen", "dir": data_dir, **FRACTIONS}
    count = len(load_splits(parse_config({"data": config}).data)["train"].ids)
    refused({**config, "weights": (count, 1.0)}, "data.weights", "shenzhen would never be visited")
    train = load_splits(parse_config({"data": {**config, "weights": (count - 1, 1.0)}}).data)[
        "train"
    ]
    for epoch in range(5):
        order = epoch_order(0, epoch, count, train.blocks)
        assert draws(order, train.blocks).tolist() == [count - 1, 1]


def test_weighted_indices_resume_in_mid_stream():
    blocks = (Block(5, 1.0), Block(9, 3.0))
    straight = list(itertools.islice(train_indices(5, 0, 14, 4, blocks), 12))
    for start in (1, 3, 7):
        resumed = itertools.islice(train_indices(5, start, 14, 4, blocks), 12 - start)
        np.testing.assert_array_equal(list(resumed), straight[start:])


def test_a_weighted_mixture_is_the_same_from_both_loaders(data_dir):
    config = DataConfig(name="montgomery+shenzhen", dir=data_dir, weights=(3.0, 1.0), **FRACTIONS)
    train = load_public_splits(config)["train"]
    assert [block.weight for block in train.blocks] == [3.0, 1.0]
    assert sum(block.size for block in train.blocks) == len(train.ids)
    canvases = make_canvases(train, size=16, fit="letterbox")
    fed = []
    for loader in ("memory", "tfdata"):
        indices = itertools.islice(train_indices(1, 2, len(train.ids), 4, train.blocks), 6)
        fed.append(list(batches(canvases, indices, loader=loader)))
    for mine, its in zip(*fed, strict=True):
        for key in mine:
            np.testing.assert_array_equal(mine[key], its[key])
    # Without weights, and in the other splits, nothing is weighed.
    unweighted = load_public_splits(DataConfig(name=config.name, dir=data_dir, **FRACTIONS))
    assert not any(split.blocks for split in unweighted.values())
    assert not load_public_splits(config)["validation"].blocks


def test_a_mixture_of_one_read_is_read_from_its_own_part():
    parts = [Split(n, (n,), (n,), lambda i, n=n: Example(n, i)) for n in "abc"]
    joined = join_splits("train", "abc", parts)
    assert [joined.read(i)[:2] for i in range(3)] == [(n, 0) for n in "abc"]


def test_training_on_a_name(data_dir, tmp_path):
    from configs import tiny
    from jaxlung.train.loop import train_and_evaluate
    from tests.helpers.tiny_runs import no_steps

    config = tiny.get_config()
    config.data.update(
        name="montgomery+shenzhen", dir=data_dir, weights=(1.0, 2.0), loader="memory", **FRACTIONS
    )
    config.train.num_epochs = 1
    config.train.batch_size = 2
    with no_steps():
        state = train_and_evaluate(config, tmp_path / "run")
        again = train_and_evaluate(config, tmp_path / "run")  # reads the record back
    assert int(state.step) == int(again.step) > 0


def test_a_set_can_be_evaluated_by_name(data_dir, monkeypatch):
    monkeypatch.chdir(data_dir)  # where no folder has the name
    folder = DataConfig(name="folder", dir="no place of prepared sets")
    for config in (DataConfig(name="shenzhen", dir=data_dir), DataConfig(), folder):
        if config.name in NO_SETS:
            monkeypatch.setattr(prepared, "DEFAULT_DATA_DIR", data_dir)
        split, warning = choose_split(config, Path("jsrt"), None)
        assert len(split.ids) == 12 and split.name == "all" and warning is None
        assert split.groups == {"fold": ("fold1", "fold2") * 6}


def test_list_says_what_there_is(data_dir):
    text = data.list_sets(data_dir)
    for entry in CATALOG.values():
        line = next(line for line in text.splitlines() if line.startswith(f"{entry.name} "))
        assert str(entry.n) in line and entry.convention in line
        assert line.endswith(
            "yes"
            if entry.name
            in (
                "montgomery",
                "shenzhen",
                "jsrt",
                "covid_cxr",
                "covid_cxr_lung_and_heart",
                "chest_xray_masks_and_labels",
            )
            else "no"
        )
    assert all(len(line) <= 100 for line in text.splitlines()[:-1])


def test_prepare_says_what_was_left_out_and_what_is_next(data_dir, tmp_path):
    text = data.prepare_set("shenzhen", data_dir, tmp_path)  # already there: nothing to fetch
    assert "shenzhen: 18 images" in text and "left out: 2 without a mask" in text
    assert "CC BY-NC-SA" in text
    assert f"--config.data.name=shenzhen --config.data.dir={data_dir}" in text


def test_a_folder_with_a_space_stays_one_word_of_the_next_command(tmp_path):
    layouts.montgomery(tmp_path)
    folder = tmp_path / "my sets"
    refused({"name": "montgomery", "dir": str(folder)}, f"--data-dir '{folder}'")
    text = data.prepare_set("montgomery", folder, tmp_path)
    assert f"--config.data.dir={folder}" in shlex.split(text.splitlines()[-1])


def test_commands(data_dir, tmp_path, capsys):
    from jaxlung.cli.main import main

    main(["data", "list", "--data-dir", data_dir])
    assert "montgomery" in capsys.readouterr().out
    main(["data", "prepare", "montgomery", "--data-dir", data_dir])
    assert "20 images" in capsys.readouterr().out
    for argv, word in (
        (["prepare", "nowhere"], "invalid choice"),
        (["prepare", "jsrt", "--data-dir", str(tmp_path)], "no such folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["data", *argv])
        assert caught.value.code == 2 and word in capsys.readouterr().err
    with pytest.raises(InputError, match="is no set"):
        prepare("nowhere")


def test_a_prepared_set_is_checked_by_name(data_dir, tmp_path, monkeypatch, capsys):
    from jaxlung.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    main(["data", "check", "montgomery", "--out", "report"])
    assert "montgomery: 20 pairs" in capsys.readouterr().out
    report = json.loads((tmp_path / "report" / "check.json").read_text())
    assert report["source"] == "montgomery" and report["fit_for_training"]
    whole = open_set("montgomery", data_dir)
    assert [image["id"] for image in report["images"]] == list(whole.ids)
    for i, image in enumerate(report["images"]):
        assert (image["height"], image["width"]) == (40, 48)
        assert image["coverage"] == pytest.approx(whole.read(i).mask.mean(), abs=1e-5)
    splits = load_public_splits(DataConfig(name="montgomery", dir=data_dir))
    split_of = {image_id: name for name, split in splits.items() for image_id in split.ids}
    assert {image["id"]: image["split"] for image in report["images"]} == split_of
    for argv in (["--patient-pattern", "(x)"], ["--metadata", "m.csv"]):
        with pytest.raises(SystemExit):
            main(["data", "check", "montgomery", *argv])
        assert "is for folders" in capsys.readouterr().err


def test_what_is_neither_folder_nor_set_is_said_so(data_dir, tmp_path, monkeypatch, capsys):
    from jaxlung.cli.main import main

    monkeypatch.chdir(tmp_path)
    for name in ("montgomry", "montgomery+shenzhen"):
        with pytest.raises(SystemExit) as caught:
            main(["data", "check", name])
        error = capsys.readouterr().err
        assert caught.value.code == 2 and name in error and "nor a set" in error
        with pytest.raises(InputError, match="no such folder, nor a set"):
            choose_split(DataConfig(name="montgomery", dir=data_dir), Path(name), None)
    with pytest.raises(SystemExit):
        main(["data", "check", str(tmp_path), "--data-dir", data_dir])
    assert "--data-dir is for prepared sets" in capsys.readouterr().err


def test_a_folder_of_a_set_s_name_is_the_folder(data_dir, tmp_path, monkeypatch):
    """As docs/datasets.md says: a name stands for the set where no folder has it."""
    monkeypatch.chdir(tmp_path)
    config = DataConfig(name="shenzhen", dir=data_dir)
    assert len(choose_split(config, Path("montgomery"), None)[0].ids) == 20
    for kind in ("images", "masks"):
        layouts.save(tmp_path / "montgomery" / kind / "own.png", layouts.white(np.eye(8) > 0))
    split, warning = choose_split(config, Path("montgomery"), None)
    assert split.ids == ("own",) and warning is None


def test_a_damaged_record_of_a_set_is_found_by_the_check(data_dir, monkeypatch):
    from jaxlung.data_check.check import check

    real = to_example

    def damaged(features, *options):
        example = real(features, *options)
        if features["id"] in (b"MCUCXR_0003_0", "MCUCXR_0003_0"):
            raise ValueError("cut short")
        if features["id"] in (b"MCUCXR_0004_1", "MCUCXR_0004_1"):
            return example._replace(mask=np.zeros_like(example.mask))
        return example

    monkeypatch.setattr(prepared, "to_example", damaged)
    result = check("montgomery", data_dir=data_dir)
    found = {finding.kind: finding.ids for finding in result.errors()}
    assert found == {"unreadable": ("MCUCXR_0003_0",), "empty_mask": ("MCUCXR_0004_1",)}
    assert len(result.records) == 20


def test_a_name_that_is_neither_set_nor_folder(capsys):
    from jaxlung.cli.main import main

    with pytest.raises(SystemExit):
        main(["data", "check", "shenzen"])
    assert "no such folder, nor a set" in (said := capsys.readouterr().err)
    assert "did you mean shenzhen?" in said


def test_where_sets_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data_dir_of("") == tmp_path
    assert data_dir_of("~") == Path.home()
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert data_dir_of("") == Path.home() / "tensorflow_datasets"


def test_a_set_that_a_model_was_trained_on_is_evaluated_by_its_test_split(data_dir, monkeypatch):
    monkeypatch.chdir(data_dir)
    config = DataConfig(name="montgomery+shenzhen", dir=data_dir, **FRACTIONS)
    for name in ("montgomery", "shenzhen"):
        split, warning = choose_split(config, Path(name), None)
        alone = load_public_splits(DataConfig(name=name, dir=data_dir, **FRACTIONS))["test"]
        assert split.ids == alone.ids and split.name == "test" and warning is None
        assert "set" not in split.groups  # no subgroup of one value
        split, warning = choose_split(config, Path(name), "all")
        assert len(split.ids) == (20 if name == "montgomery" else 18) and "trained on" in warning
    with pytest.raises(InputError, match="trained on CT"):
        choose_split(DataConfig(name="ct", dir=data_dir), Path("montgomery"), None)


def test_a_set_without_images_in_the_test_split_is_not_given_those_of_another(
    data_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(data_dir)
    path = tmp_path / "lists.json"
    lists = {
        "train": ["MCUCXR_0003_0", "CHNCXR_0001_0"],
        "validation": ["CHNCXR_0002_1"],
        "test": ["MCUCXR_0000_1", "MCUCXR_0001_0"],
    }
    path.write_text(json.dumps(lists))
    config = DataConfig(name="montgomery+shenzhen", dir=data_dir, split_file=str(path))
    assert choose_split(config, Path("montgomery"), None)[0].ids == tuple(lists["test"])
    with pytest.raises(InputError, match="--data shenzhen: the test split has no image of it"):
        choose_split(config, Path("shenzhen"), None)


def test_a_read_only_folder_is_no_obstacle(data_dir, monkeypatch):
    whole = open_set("montgomery", data_dir)
    path = next((data_dir_of(data_dir) / "jaxlung_montgomery").glob("*/jaxlung_in*"))
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "write_text", lambda *_: (_ for _ in ()).throw(OSError()))
        assert open_set("montgomery", data_dir).ids == whole.ids
    assert not path.exists()
