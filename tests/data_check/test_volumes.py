"""Faults planted in CT volumes with masks: each is found by name, and a sound pair has none."""

import json

import numpy as np
import pytest

from jaxlung.cli import main
from jaxlung.data_check.check import check, ranking
from jaxlung.data_check.report import write_report
from tests.helpers.ct_scans import affine_of, body, nibabel, save

SIDES = (2.8, 2.8, 9.0)  # mm: slices of 336 x 280 mm, and 4 l of lung
SHAPE = (120, 100, 30)


def sound(seed=0):
    hu, lungs = body(SHAPE)
    return hu + np.random.default_rng(seed).integers(-20, 20, SHAPE), lungs


def mirrored(hu, lungs):
    return hu, lungs[::-1]


def to_the_front(hu, lungs):
    return hu, np.roll(lungs, 12, axis=1)


def in_the_middle(hu, _):
    mask = np.zeros(SHAPE, bool)
    mask[55:65, 45:55, 5:25] = True
    return hu, mask


def eight_bits(hu, lungs):
    return np.clip(hu / 4 + 128, 0, 255), lungs


def without_intercept(hu, lungs):
    return hu + 1024, lungs


def right_lung_alone(hu, lungs):
    return hu, lungs & (np.arange(SHAPE[0]) > SHAPE[0] // 2)[:, None, None]


def with_specks(hu, lungs):
    mask = lungs.copy()
    mask[4:20, 40:60, 4:26:4] = True
    return hu, mask


def empty(hu, lungs):
    return hu, lungs & False


def whole(hu, lungs):
    return hu, lungs | True


def inverted(hu, lungs):
    return hu, ~lungs


def lobes(hu, lungs):
    return hu, lungs * (1 + (np.arange(SHAPE[2]) > 15))


PLANTED = {
    mirrored: ["mirrored_mask"],
    to_the_front: ["misaligned_mask"],
    in_the_middle: ["not_on_lung", "lung_volume"],
    eight_bits: ["not_hu"],
    without_intercept: ["shifted_hu"],
    right_lung_alone: ["one_lung"],
    with_specks: ["pieces"],
    empty: ["empty_mask"],
    whole: ["full_mask"],
    inverted: ["inverted_mask"],
    lobes: ["labels"],
}


def write(root, name, hu, mask, affine=None, mask_affine=None, axes="RAS"):
    affine = affine_of(SIDES) if affine is None else affine
    save(root / "images" / f"{name}.nii", hu, affine, axes)
    mask_affine = affine if mask_affine is None else mask_affine
    save(root / "masks" / f"{name}.nii", mask, mask_affine, "RAS")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    write(root, "sound", *sound(), axes="LPS")
    write(root, "copy", *sound())
    for seed, plant in enumerate(PLANTED, start=1):
        write(root, plant.__name__, *plant(*sound(seed)))
    write(root, "one_slice_off", *sound(20), mask_affine=affine_of(SIDES, (10.0, -20.0, 14.0)))
    write(root, "default_header", *sound(21), affine=np.eye(4))
    write(root, "centimetres", *sound(22), affine=affine_of([side / 10 for side in SIDES]))
    hu, lungs = sound(23)
    write(root, "slices_first", hu.transpose(2, 1, 0), lungs.transpose(2, 1, 0))
    write(root, "on_its_side", hu.transpose(1, 0, 2), lungs.transpose(1, 0, 2))
    write(root, "exchanged", hu, lungs)
    save(root / "masks/exchanged.nii", lungs.transpose(2, 1, 0), affine_of(SIDES[::-1]))
    write(root, "truncated", hu, lungs)
    path = root / "images/truncated.nii"
    path.write_bytes(path.read_bytes()[:5000])
    fractions = nibabel.Nifti1Image(np.full(SHAPE, 0.4, np.float32), affine_of(SIDES))
    write(root, "fractions", hu, lungs)
    nibabel.save(fractions, root / "masks/fractions.nii")
    save(root / "images/alone.nii", hu, affine_of(SIDES))
    return root


@pytest.fixture(scope="module")
def result(folder):
    return check(folder)


EXPECTED = {plant.__name__: kinds for plant, kinds in PLANTED.items()} | {
    "one_slice_off": ["other_grid"],
    "default_header": ["default_header"],
    "centimetres": ["lung_volume", "spacing"],
    "slices_first": ["swapped_axes"],
    "on_its_side": ["swapped_axes"],
    "exchanged": ["other_grid"],
    "truncated": ["unreadable"],
    "fractions": ["mask_values"],
    "alone": ["no_mask"],
    "sound": [],
}
COPIES = ("near_duplicate", "duplicate_across_splits", "duplicate_mask")


@pytest.mark.parametrize("name", EXPECTED)
def test_each_fault_is_found_by_name(result, name):
    kinds = {f.kind for f in result.findings if name in f.ids} - set(COPIES)
    for kind in EXPECTED[name]:
        assert kind in kinds, [f for f in result.findings if name in f.ids]
    if len(EXPECTED[name]) < 2 and name not in ("slices_first", "on_its_side"):
        assert kinds == set(EXPECTED[name]), [f for f in result.findings if name in f.ids]


def message_of(result, name, kind):
    [found] = [f for f in result.findings if f.kind == kind and name in f.ids]
    return found.message


def test_messages_say_what_and_how_far(result):
    assert "mirrored left to right" in message_of(result, "mirrored", "mirrored_mask")
    assert "moved by about 12 rows" in message_of(result, "to_the_front", "misaligned_mask")
    assert "lies 9 mm beside it" in message_of(result, "one_slice_off", "other_grid")
    assert "were its axes exchanged?" in message_of(result, "exchanged", "other_grid")
    assert "1024 was subtracted" in message_of(result, "without_intercept", "shifted_hu")
    assert "holds 2 labels (1 2)" in message_of(result, "lobes", "labels")


def test_copies_are_found_in_whatever_orientation(result):
    [copies] = [f for f in result.findings if f.kind in COPIES[:2] and "sound" in f.ids]
    assert "copy" in copies.ids


def test_the_report_draws_volumes(result, tmp_path):
    assert all(value >= 0 for _, value, _ in ranking(result))
    write_report(result, tmp_path)
    report = json.loads((tmp_path / "check.json").read_text())
    of = {image["id"]: image for image in report["images"]}
    assert [of["sound"][key] for key in ("slices", "height", "width")] == [30, 100, 120]
    assert of["to_the_front"]["suspicion_kind"] == "misaligned_mask"
    page = (tmp_path / "check.html").read_text()
    assert 'alt="to_the_front with the outline of its mask"' in page


def test_the_command_stops_training_on_errors(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(folder)])
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "scan that is not in Hounsfield units (1)" in printed
    root = tmp_path / "two"
    names = ("train", "validation", "test")
    for seed, name in enumerate(names):
        write(root, name, *sound(seed))
    (tmp_path / "lists.json").write_text(json.dumps({name: [name] for name in names}))
    main(["data", "check", str(root), f"--split-file={tmp_path / 'lists.json'}"])
    assert "training can go ahead" in capsys.readouterr().out
