"""A folder's faults, each planted in a clean set, are found by name; a clean set has none."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxlung.cli.main import main
from jaxlung.config import DataConfig
from jaxlung.data.folder import find_pairs, load_folder_splits
from jaxlung.data_check import consensus
from jaxlung.data_check.check import check, ranking
from jaxlung.data_check.consensus import Disagreement
from jaxlung.data_check.files import list_pairs, value_kind
from jaxlung.data_check.kinds import ERROR, KINDS
from jaxlung.data_check.report import format_summary, to_json
from jaxlung.errors import InputError
from jaxlung.preprocess import to_canvas
from tests.data_check.conftest import COUNT, SIZE

HINTS = {"square_files"}  # of a small set of square phantoms, rightly


@pytest.fixture(scope="session")
def clean(tmp_path_factory, phantoms):
    """Pairs p00 to p31; a test copies it before it plants a fault."""
    root = tmp_path_factory.mktemp("clean")
    for name, arrays in zip(("images", "masks"), phantoms, strict=True):
        (root / name).mkdir()
        for i, pixels in enumerate(arrays):
            scale = 255 if name == "masks" else 1
            Image.fromarray(pixels * np.uint8(scale)).save(root / name / f"p{i:02d}.png")
    return root


@pytest.fixture
def folder(tmp_path, clean):
    return shutil.copytree(clean, tmp_path / "set")


def read(folder, name, stem):
    return np.asarray(Image.open(folder / name / f"{stem}.png"))


def write(folder, name, stem, pixels, suffix=".png", **options):
    Image.fromarray(pixels).save(folder / name / f"{stem}{suffix}", **options)


def found(result):
    """Kind to the ids that it names."""
    kinds = {}
    for finding in result.findings:
        kinds.setdefault(finding.kind, set()).update(finding.ids)
    return {kind: ids for kind, ids in kinds.items() if kind not in HINTS}


def test_a_clean_set_has_no_finding(clean):
    result = check(clean)
    assert found(result) == {} and result.errors() == []
    assert {r.id for r in result.records} == set(result.splits)


def invert(folder, stem="p07"):
    write(folder, "masks", stem, 255 - read(folder, "masks", stem))


def truncate(folder, stem="p07"):
    path = folder / "images" / f"{stem}.png"
    path.write_bytes(path.read_bytes()[:-2000])


def damage_mask(folder, stem="p07"):
    (folder / "masks" / f"{stem}.png").write_bytes(b"no image at all")


def empty(folder, stem="p07"):
    write(folder, "masks", stem, np.zeros((SIZE, SIZE), np.uint8))


def full(folder, stem="p07"):
    write(folder, "masks", stem, np.full((SIZE, SIZE), 255, np.uint8))


def blank(folder, stem="p07"):
    write(folder, "images", stem, np.full((SIZE, SIZE), 40, np.uint8))


def all_but_blank(folder, stem="p07"):
    image = np.full((SIZE, SIZE), 40, np.uint8)
    image[5, 5] = 255
    write(folder, "images", stem, image)


def resize_mask(folder, stem="p07"):
    write(folder, "masks", stem, read(folder, "masks", stem)[:-1])


def grey_mask(folder, stem="p07"):
    ramp = np.tile(np.arange(SIZE, dtype=np.uint8) + 40, (SIZE, 1))
    write(folder, "masks", stem, np.where(ramp < 160, ramp, 255).astype(np.uint8))


def remove_mask(folder, stem="p07"):
    (folder / "masks" / f"{stem}.png").unlink()


def remove_image(folder, stem="p07"):
    (folder / "images" / f"{stem}.png").unlink()


def double_stem(folder, stem="p07"):
    write(folder, "images", stem, read(folder, "images", stem), ".bmp")


def spoil_metadata(folder, stem="p07"):
    (folder / "metadata.csv").write_text("id,patient\np00,a\n")


def make_ct(folder, stem="p07"):
    pytest.importorskip("pydicom", reason="needs jaxlung[dicom]")
    from tests.helpers.dicom_files import dicom, saved

    (folder / "images" / f"{stem}.png").unlink()
    pixels = np.tile(np.arange(SIZE, dtype=np.uint16), (SIZE, 1))
    saved(folder / "images" / f"{stem}.dcm", dicom(pixels, Modality="CT"))


ERRORS = {
    "inverted_mask": invert,
    "unreadable": truncate,
    "unreadable ": damage_mask,
    "empty_mask": empty,
    "full_mask": full,
    "blank_image": blank,
    "blank_image ": all_but_blank,
    "size_mismatch": resize_mask,
    "mask_values": grey_mask,
    "no_mask": remove_mask,
    "no_image": remove_image,
    "same_stem": double_stem,
    "metadata": spoil_metadata,
    "not_xray": make_ct,
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_are_named_and_nothing_else_is(folder, kind):
    ERRORS[kind](folder)
    named = set() if kind == "metadata" else {"p07"}
    result = check(folder)
    assert found(result) == {kind.strip(): named}
    assert KINDS[kind.strip()].severity == ERROR and result.errors()


def test_every_kind_of_error_is_planted_above():
    errors = {kind for kind, about in KINDS.items() if about.severity == ERROR}
    of_volumes = {"other_grid", "not_hu"}  # in test_volumes.py
    assert {kind.strip() for kind in ERRORS} | {"empty_split"} | of_volumes == errors


def test_a_split_that_training_refuses_is_an_error(folder):
    result = check(folder, validation_fraction=0)
    assert [(f.kind, f.ids) for f in result.errors()] == [("empty_split", ())]
    with pytest.raises(InputError, match="validation split is empty"):
        load_folder_splits(DataConfig(dir=str(folder), validation_fraction=0))


def test_a_name_that_is_not_utf8_is_named_and_can_be_printed(folder):
    name = os.fsencode(folder / "images") + b"/p\xff7.png"
    try:
        os.rename(os.fsencode(folder / "images" / "p07.png"), name)
    except OSError:
        pytest.skip("the file system has UTF-8 names alone")
    result = check(folder)
    assert found(result) == {"unreadable": set(), "no_image": {"p07"}}
    shown = format_summary(result) + json.dumps(to_json(result), ensure_ascii=False)
    assert "images/p\\xff7.png" in shown.encode().decode() and "UTF-8" in shown


def test_every_kind_is_explained():
    explained = (Path(__file__).parents[2] / "docs" / "data_check.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in explained] == []


def test_one_fault_hides_no_other(folder):
    planted = [plant for kind, plant in ERRORS.items() if kind != "metadata"]
    for n, plant in enumerate(planted):
        plant(folder, f"p{n:02d}")
    named = {i for finding in check(folder).errors() for i in finding.ids}
    assert named == {f"p{n:02d}" for n in range(len(planted))}


def shift(folder):
    write(folder, "masks", "p07", np.roll(read(folder, "masks", "p07"), SIZE // 8, axis=1))


def swap(folder):
    first, second = read(folder, "masks", "p07"), read(folder, "masks", "p08")
    write(folder, "masks", "p07", second)
    write(folder, "masks", "p08", first)


def turn(folder):
    write(folder, "masks", "p07", read(folder, "masks", "p07")[::-1])


def drop_lung(folder):
    mask = read(folder, "masks", "p07").copy()
    mask[:, : SIZE // 2] = 0
    write(folder, "masks", "p07", mask)


def crumble(folder):
    mask = read(folder, "masks", "p07").copy()
    mask[2:50:6, 2] = 255
    write(folder, "masks", "p07", mask)


def pierce(folder):
    mask = read(folder, "masks", "p07").copy()
    y, x = np.argwhere(_eroded(mask > 0, 6))[20]
    mask[y - 5 : y + 6, x - 5 : x + 6] = 0
    write(folder, "masks", "p07", mask)


def _eroded(mask, times):
    for _ in range(times):
        for axis in (0, 1):
            mask = mask & np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    return mask


def join(folder):
    mask = read(folder, "masks", "p07").copy()
    y = np.flatnonzero((mask > 0).sum(1) == (mask > 0).sum(1).max())[0]
    columns = np.flatnonzero(mask[y])
    mask[y, columns[0] : columns[-1]] = 255
    write(folder, "masks", "p07", mask)


def negative(folder):
    write(folder, "images", "p07", 255 - read(folder, "images", "p07"))


def squeeze(folder):
    """8 bits, of which one pixel takes nearly the whole range."""
    pixels = read(folder, "images", "p07") // 6
    pixels[0, 0] = 255
    write(folder, "images", "p07", pixels)


def draw_on(folder):
    pixels = np.repeat(read(folder, "images", "p07")[..., None], 3, -1).copy()
    pixels[60:64, 20:40] = (255, 0, 0)
    write(folder, "images", "p07", pixels)


WARNINGS = {
    "misaligned_mask": shift,
    "swapped_masks": swap,
    "mirrored_mask": turn,
    "one_lung": drop_lung,
    "pieces": crumble,
    "holes": pierce,
    "joined_lungs": join,
    "inverted_image": negative,
    "low_contrast": squeeze,
    "colour": draw_on,
}


def test_a_dead_pixel_of_16_bits_squeezes_nothing(folder):
    pixels = read(folder, "images", "p07").astype(np.uint16)
    pixels[0, 0] = 65535
    write(folder, "images", "p07", pixels)
    assert found(check(folder)) == {"mixed_formats": {"p07"}}


@pytest.mark.parametrize("kind", WARNINGS)
def test_warnings_are_named_and_no_other_pair_is(folder, kind):
    WARNINGS[kind](folder)
    result = check(folder)
    named = {"p07", "p08"} if kind == "swapped_masks" else {"p07"}
    assert result.errors() == []
    assert found(result)[kind] == named
    assert set().union(*found(result).values()) <= named
    assert {i for i, value, _ in ranking(result) if value >= 1} == named
    assert ranking(result)[0][0] in named


def copy(change):
    def plant(folder):
        pixels = change(read(folder, "images", "p07"))
        if change is encode:
            write(folder, "images", "zz", pixels, ".jpg", quality=60)
        else:
            write(folder, "images", "zz", pixels)
        mask = Image.open(folder / "masks" / "p07.png")
        mask.resize(pixels.shape[::-1], Image.Resampling.NEAREST).save(folder / "masks" / "zz.png")

    return plant


def same(pixels):
    return pixels


def encode(pixels):
    return pixels


def enlarge(pixels):
    return np.asarray(Image.fromarray(pixels).resize((150, 140)))


def brighten(pixels):
    return np.clip(pixels.astype(int) + 30, 0, 255).astype(np.uint8)


def mirror(pixels):
    return pixels[:, ::-1]


def negate(pixels):
    return 255 - pixels


@pytest.mark.parametrize("change", [same, encode, enlarge, brighten, mirror, negate])
def test_copies_are_named_and_nothing_else_is(folder, change):
    copy(change)(folder)
    result = check(folder, validation_fraction=0, test_fraction=0)
    copies = [f for f in result.findings if f.kind == "near_duplicate"]
    assert [f.ids for f in copies] == [("p07", "zz")]
    assert ("the same pixels" in copies[0].message) == (change in (same,))
    assert "duplicate_mask" not in found(result)  # one finding for a copy is enough
    word = {mirror: "mirrored", negate: "inverted"}.get(change)
    assert word is None or word in copies[0].message


def test_copies_in_two_splits_are_told_apart(folder, tmp_path):
    copy(brighten)(folder)
    stems = [f"p{i:02d}" for i in range(COUNT)]
    path = tmp_path / "lists.json"

    def kinds(lists):
        path.write_text(json.dumps(lists))
        return found(check(folder, split_file=path))

    lists = {"train": stems[2:], "validation": stems[:2], "test": ["zz"]}
    assert kinds(lists)["duplicate_across_splits"] == {"p07", "zz"}
    lists = {"train": [*stems[2:], "zz"], "validation": stems[:1], "test": stems[1:2]}
    assert kinds(lists)["near_duplicate"] == {"p07", "zz"}
    lists = {"train": stems[2:], "validation": stems[:1], "test": stems[1:2]}  # zz is unused
    assert "duplicate_across_splits" not in kinds(lists)


def test_a_patient_in_two_splits(folder, tmp_path):
    stems = [f"p{i:02d}" for i in range(COUNT)]
    path, metadata = tmp_path / "lists.json", tmp_path / "rows.csv"
    path.write_text(json.dumps({"train": stems[2:], "validation": ["p00"], "test": ["p01"]}))
    rows = [f"{stem},{'Doe' if stem in ('p01', 'p09') else stem}" for stem in stems]
    metadata.write_text("\n".join(["id,patient", *rows]))
    result = check(folder, split_file=path, metadata=metadata)
    assert found(result) == {"patient_across_splits": {"p01", "p09"}}
    assert not any("Doe" in finding.message for finding in result.findings)
    assert found(check(folder, metadata=metadata)) == {}  # by hash a patient stays together


def test_one_mask_for_two_images(folder):
    shutil.copy(folder / "masks" / "p07.png", folder / "masks" / "p08.png")
    assert found(check(folder))["duplicate_mask"] == {"p07", "p08"}


def test_thresholds_rise_where_the_set_says_little_of_what_to_expect():
    agree = Disagreement(0.9, 0.1, True, 0.5, 0.5, 0.07, 0.1, 0.0, 0.0, 0.06)
    assert consensus.measure_slack(0.95) == 1
    assert consensus.measure_slack(0.84) == pytest.approx(2)
    assert all(
        value > 1 for kind, value in consensus.weigh_evidence(agree).items() if "mirr" not in kind
    )
    assert all(value < 1 for value in consensus.weigh_evidence(agree, 2.0).values())


def test_images_that_have_nothing_to_do_with_their_masks(clean, folder):
    for i in range(COUNT):
        mask = read(clean, "masks", f"p{i:02d}")
        write(folder, "masks", f"p{(i + 7) % COUNT:02d}", np.roll(mask, 11 * i, axis=(0, 1)))
    assert "unrelated" in found(check(folder))


def test_formats_labels_and_files_that_are_not_read(folder):
    write(folder, "masks", "p07", np.where(read(folder, "masks", "p07") > 0, 2, 0).astype("u1"))
    mask = (read(folder, "masks", "p08") > 0).astype(np.uint8)
    mask[:, : SIZE // 2] *= 2
    write(folder, "masks", "p08", mask)
    (folder / "images" / "p00.mhd").write_bytes(b"")
    (folder / "images" / ".hidden.png").write_bytes(b"")
    result = check(folder)
    messages = {f.kind: f.message for f in result.findings}
    assert found(result) == {"labels": {"p08"}, "mixed_formats": {"p07", "p08"}, "not_read": set()}
    assert "0 1 2" in messages["labels"] and "0 and 2 (1)" in messages["mixed_formats"]
    assert ".mhd (1)" in messages["not_read"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], "0 and 255"),
        ([0, 1], "0 and 1"),
        ([0, 1, 2], "labels 0 1 2"),
        ([0, 128, 255], "labels 0 128 255"),
        (range(0, 256, 5), "soft edges"),
        ([7], "7"),
    ],
)
def test_kind_of_values(values, kind):
    for dtype in (np.uint8, np.uint16, np.float32):
        assert value_kind(np.array([list(values)], dtype)) == kind


def test_names_and_their_order_do_not_matter(folder):
    """The same pairs under names that sort the other way round give the same findings."""
    for plant in (swap, crumble):
        plant(folder)
    copy(brighten)(folder)
    options = {"validation_fraction": 0.0, "test_fraction": 0.0}
    before = check(folder, **options)
    stems = sorted(record.id for record in before.records)
    renamed = dict(zip(stems, [f"q{len(stems) - n:02d}" for n in range(len(stems))], strict=True))
    for stem, name in renamed.items():
        for part in ("images", "masks"):
            (folder / part / f"{stem}.png").rename(folder / part / f"{name}.png")
    after = check(folder, **options)
    assert {k: {renamed[i] for i in ids} for k, ids in found(before).items()} == found(after)
    values = {i: value for i, value, _ in ranking(after)}
    for stem, value, _ in ranking(before):
        assert values[renamed[stem]] == pytest.approx(value, abs=0.05)


def test_pairs_are_those_of_training(folder):
    shutil.move(folder / "masks" / "p03.png", folder / "masks" / "p03_mask.png")
    pairs, findings = list_pairs(folder)
    assert [tuple(pair) for pair in pairs] == find_pairs(folder) and findings == []


@pytest.mark.parametrize("count", [1, 2, 7, 9])
def test_small_sets(clean, tmp_path, count):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(count):
            shutil.copy(clean / name / f"p{i:02d}.png", tmp_path / name)
    few = {"empty_split": set()}  # for three splits, perhaps
    assert {**found(check(tmp_path)), **few} == few
    invert(tmp_path, "p00")
    assert {**found(check(tmp_path)), **few} == {**few, "inverted_mask": {"p00"}}


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (300, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_odd_sizes_and_depths_end_in_findings_alone(tmp_path, shape, dtype):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    suffix = ".tif" if dtype in (np.int32, np.float32) else ".png"
    for i in range(26):
        write(tmp_path, "images", f"p{i}", rng.integers(0, 200, shape).astype(dtype), suffix)
        write(tmp_path, "masks", f"p{i}", rng.integers(0, 2, shape).astype(np.uint8))
    result = check(tmp_path)
    assert len(result.records) == 26
    json.dumps(to_json(result), allow_nan=False)
    assert format_summary(result)


def test_a_layout_that_cannot_be_used_is_named(folder, monkeypatch):
    """Whatever `to_canvas` refuses is a finding of that file."""

    def refuse(image, mask, **options):
        if (image == read(folder, "images", "p07")).all():
            raise InputError("image has shape (9, 9, 2)")
        return to_canvas(image, mask, **options)

    monkeypatch.setattr("jaxlung.data_check.files.to_canvas", refuse)
    assert found(check(folder)) == {"unreadable": {"p07"}}


def run(*arguments):
    """The exit status."""
    try:
        main(["data", "check", *map(str, arguments)])
    except SystemExit as exit:
        return exit.code
    return 0


def test_exit_status_console_and_files(folder, tmp_path, capsys):
    out = tmp_path / "report"
    assert run(folder) == 0 and not out.exists()
    assert "training can go ahead" in capsys.readouterr().out
    truncate(folder)
    assert run(folder, "--out", out) == 1
    shown = capsys.readouterr().out
    assert "images/p07.png" in shown and "not fit for training" in shown
    report = json.loads((out / "check.json").read_text())
    assert report["fit_for_training"] is False and report["summary"]["errors"] == 1
    assert report["findings"][0]["file"] == "images/p07.png"
    assert len(report["images"]) == COUNT
    ranks = sorted(i["rank"] for i in report["images"] if i["rank"])
    assert ranks == list(range(1, COUNT))
    before = (out / "check.json").read_bytes()
    assert run(folder, "--out", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "check.json").read_bytes() == before
    assert run(folder, "--out", out, "--overwrite") == 1


def test_bad_usage(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "bare" / "images").mkdir(parents=True)
    for arguments, word in (
        ([tmp_path / "nowhere"], "nowhere"),
        ([tmp_path / "bare"], "masks"),
        ([folder, "--out", tmp_path / "file"], "file"),
        (["lctsc"], "name the folder of its volumes"),
        ([folder, "--metadata", tmp_path / "no.csv"], "no.csv"),
        ([folder, "--split-file", tmp_path / "no.json"], "no.json"),
        ([folder, "--patient-pattern", "("], "patient_pattern"),
        ([folder, "--test-fraction", "1.5"], "--test-fraction"),
        ([folder, "--validation-fraction", "0.6", "--test-fraction", "0.6"], "fraction"),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and word in error and "Traceback" not in error


def test_little_is_kept_of_a_pair(clean):
    """So that tens of thousands fit in memory, whatever their size."""
    for record in check(clean).records:
        arrays = [value for value in record.content if isinstance(value, np.ndarray)]
        assert sum(array.nbytes for array in arrays) < 8 * 1024


@pytest.mark.slow  # each fault is planted in phantoms above
def test_shenzhen_with_planted_faults(shared_data, tmp_path):
    """Each is named, and the clean set itself has no error."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for path in sorted((shared_data / "shenzhen" / name).glob("*.png"))[::2]:
            (tmp_path / name / path.name).symlink_to(path.resolve())
    stems = sorted(path.stem for path in (tmp_path / "images").iterdir())
    inverted, shifted, first, second, truncated, copied = (stems[n] for n in range(20, 140, 20))
    assert check(tmp_path).errors() == []

    def replace(name, stem, pixels):
        (tmp_path / name / f"{stem}.png").unlink()
        write(tmp_path, name, stem, pixels)

    replace("masks", inverted, 255 - read(tmp_path, "masks", inverted))
    replace("masks", shifted, np.roll(read(tmp_path, "masks", shifted), 51, axis=1))
    masks = [read(tmp_path, "masks", stem) for stem in (first, second)]
    replace("masks", first, masks[1])
    replace("masks", second, masks[0])
    data = (tmp_path / "images" / f"{truncated}.png").read_bytes()
    (tmp_path / "images" / f"{truncated}.png").unlink()
    (tmp_path / "images" / f"{truncated}.png").write_bytes(data[: len(data) // 2])
    image = Image.open(tmp_path / "images" / f"{copied}.png")
    small = image.resize((480, 480)).point(lambda value: min(255, value + 20))
    small.save(tmp_path / "images" / "copy.jpg", quality=70)
    Image.open(tmp_path / "masks" / f"{copied}.png").resize((480, 480), 0).save(
        tmp_path / "masks" / "copy.png"
    )
    kinds = found(check(tmp_path))
    assert kinds["inverted_mask"] == {inverted}
    assert kinds["misaligned_mask"] == {shifted}
    assert kinds["swapped_masks"] == {first, second}
    assert kinds["unreadable"] == {truncated}
    copies = kinds.get("near_duplicate", set()) | kinds.get("duplicate_across_splits", set())
    assert copies == {copied, "copy"}
    assert not re.search("empty|full|size", " ".join(kinds))
