"""The sanity gate: wrong inputs are told in words, and films that are merely different are not."""

import cv2
import jax
import numpy as np
import pytest

from benchmarks.quality.corruptions import CORRUPTIONS
from benchmarks.quality.gate import MORE_CHANGES, changed, of_film
from jaxlung import phantom, preprocess
from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits
from jaxlung.errors import InputError
from jaxlung.gate import Verdict, check_mask, examine
from jaxlung.gate import image as gate_image
from jaxlung.gate.classifier import CLASSES, WEIGHTS, read_gate
from jaxlung.gate.image import WORDS, is_coloured
from jaxlung.io.ct.hounsfield import apply_window, read_scan
from jaxlung.io.grey import to_grey8
from jaxlung.metrics.calibration import expected_dice
from jaxlung.predict import predictor
from jaxlung.weights import bundled
from tests.helpers.ct_scans import body
from tests.helpers.imports import modules_after


@pytest.fixture(scope="module")
def phantoms():
    """Others than those that the gate was fitted to."""
    return phantom.radiographs(jax.random.key(77), 8, size=128)[0]


def words(image):
    return " ".join(examine(image).warnings)


def test_import_needs_neither_jax_nor_tensorflow():
    assert not {"jax", "tensorflow"} & modules_after("gate")


def test_simulated_films_pass_in_every_form(phantoms):
    for image in phantoms:
        deep = image.astype(np.uint16) * 5 + 900
        marked, dead = deep.copy(), deep.copy()
        marked[3:15, 3:15] = 65535
        dead[40, 40] = 65535
        tinted = np.stack([image * 0.8, image, image * 0.9], -1).astype(np.uint8)
        for form in (
            image,
            image[:, ::-1],
            image[..., None],
            np.stack([image] * 4, -1),
            deep,
            marked,
            dead,
            image / 255.0 - 3,
            tinted,
            np.pad(image, ((0, 0), (30, 30))),
        ):
            assert examine(form) == Verdict(False, ()), words(form)


def test_simulated_films_turned_and_halved_are_told(phantoms):
    for image in phantoms:
        assert "90 degrees clockwise" in words(np.rot90(image, -1))
        assert "upside down" in words(np.rot90(image, 2))
        assert "upside down" in words(image[::-1])
        assert "counter-clockwise" in words(np.rot90(image))
        assert words(image[:, : image.shape[1] // 2])


def test_inverted_films_are_turned_over_where_that_is_sure(phantoms):
    turned_over = 0
    for image in phantoms:
        verdict = examine(255 - image)
        assert "inverted" in " ".join(verdict.warnings)
        assert verdict.inverted == (verdict.warnings == (WORDS["inverted"],))
        turned_over += verdict.inverted
        assert not examine(255 - np.rot90(image)).inverted  # turning it over is not enough
    assert turned_over >= 6


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((200, 200), np.uint8), "blank"),
        (np.full((200, 200), 900, np.uint16), "blank"),
        (np.full((200, 200, 3), 0.5), "blank"),
        (np.random.default_rng(0).normal(90, 1, (300, 300)).astype(np.uint8), "blank"),
        (np.repeat(np.arange(90, 96, dtype=np.uint8), 50 * 300).reshape(300, 300), "low contrast"),
        (np.random.default_rng(0).random((300, 300)), "no frontal chest"),
        (np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8), "in colour"),
        (np.random.default_rng(0).random((40, 300)), "is tiny (40x300 pixels)"),
        (np.random.default_rng(0).random((100, 400)), "4.0 times as wide as high"),
        (np.random.default_rng(0).random((400, 100)), "4.0 times as high as wide"),
    ],
)
def test_checks_without_fitting(image, told):
    assert told in words(image)


def test_smallest_images_get_a_verdict():
    for shape in ((1, 1), (1, 9), (2, 2), (3, 500), (1, 1, 3)):
        for image in (np.zeros(shape), np.arange(np.prod(shape)).reshape(shape)):
            assert examine(image).warnings and not examine(image).inverted


def test_a_few_coloured_marks_are_no_colour_picture(phantoms):
    image = np.stack([phantoms[0]] * 3, -1)
    image[:10, :30] = (255, 0, 0)
    assert not is_coloured(image)
    image[50:100] = (200, 40, 0)
    assert is_coloured(image) and is_coloured(image.astype(np.uint16) * 257)


def test_the_gate_is_small_no_model_and_tells_damage(tmp_path):
    assert WEIGHTS.stat().st_size < 300_000
    assert "gate" not in bundled.list_models()
    for data in (b"", b"PK", WEIGHTS.read_bytes()[:5000]):
        (tmp_path / "gate.npz").write_bytes(data)
        with pytest.raises(InputError, match=r"gate\.npz: is damaged"):
            read_gate(tmp_path / "gate.npz")
        read_gate.cache_clear()
    np.savez(tmp_path / "gate.npz", classes=np.array(["upright"]))
    with pytest.raises(InputError, match="other classes"):
        read_gate(tmp_path / "gate.npz")
    with pytest.raises(InputError, match="No such file"):
        read_gate(tmp_path / "nowhere.npz")


def lungs(left=60, right=60, size=256):
    """A mask of two ellipses; radii 0 leave one out."""
    mask = np.zeros((size, size), np.uint8)
    for x, radius in ((size // 4, left), (3 * size // 4, right)):
        if radius:
            cv2.ellipse(mask, (x, size // 2), (radius * 2 // 3, radius), 0, 0, 360, 1, -1)
    return mask > 0


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (lungs(), ""),
        (lungs(60, 45), ""),
        (lungs(0, 0), "no lung was found"),
        (lungs(60, 0), "only one lung"),
        (lungs(0, 60, 512), "only one lung"),
        (lungs(14, 14), "implausibly small"),
        (np.ones((64, 64), bool), "implausibly large"),
        (lungs(60, 25), "times the other's size"),
    ],
)
def test_masks_are_judged_by_shape(mask, told):
    warnings = check_mask(mask, expected_dice(mask.astype(np.float32), mask), 0.94)
    assert told in " ".join(warnings) and bool(warnings) == bool(told), warnings


def test_masks_are_judged_by_certainty():
    """Expected Dice 2 sum(pm) / (sum(p) + sum(m)); with p = 0.8 in the mask alone, 1.6 / 1.8."""
    mask = lungs()
    sure, unsure = (expected_dice(p * mask.astype(np.float32), mask) for p in (0.97, 0.8))
    assert check_mask(mask, sure, 0.94) == ()
    [warning] = check_mask(mask, unsure, 0.94)
    assert "expected Dice 0.89" in warning
    assert check_mask(mask, unsure) == check_mask(mask, unsure, 0.88) == ()


WINDOWS = [(-1350, 150), (-1000, 1000), (-160, 240), (-1024, 3071)]


def likely_a_slice(*_):
    return {"ct": 0.9, "upright": 0.1}, True


@pytest.mark.parametrize("window", WINDOWS)
def test_a_slice_with_bright_corners_is_a_negative(monkeypatch, window):
    monkeypatch.setattr(gate_image, "_judge", likely_a_slice)
    slice_HxW = body((96, 80, 5))[0][:, ::-1, 2].T
    shown = apply_window(slice_HxW, *window)
    assert gate_image.examine_slice(shown) == Verdict(False, ())
    assert gate_image.examine_slice(255 - shown) == Verdict(True, (WORDS["inverted"],))
    # A round field of view, filled with less than air; and one that ends within the body.
    round_HxW = np.where(np.hypot(*np.mgrid[-1:1:80j, -1:1:96j]) > 1, 0, shown)
    assert gate_image.examine_slice(255 - round_HxW).inverted
    inside = shown[24:-24, 30:-30]
    assert not gate_image.examine_slice(inside).inverted
    labelled = 255 - shown
    labelled[-8:, :8] = 0  # one dark corner is enough to leave it
    assert gate_image.examine_slice(labelled) == Verdict(False, ())


def test_the_whole_range_of_a_scanner_is_spread(monkeypatch):
    """Nearly to the window of configs/ct.py; other windows stay as they are."""
    monkeypatch.setattr(gate_image, "_judge", likely_a_slice)
    slice_HxW = body((96, 80, 5))[0][:, ::-1, 2].T.copy()
    slice_HxW[36:44, 44:52] = 380  # a vertebra
    shown, _ = gate_image.show_slice(apply_window(slice_HxW, -1024, 3071))
    expected = apply_window(slice_HxW, -1024, 600)
    assert abs(shown.astype(int) - expected).max() <= 4
    for window in WINDOWS[:-1]:
        grey = apply_window(slice_HxW, *window)
        np.testing.assert_array_equal(gate_image.show_slice(grey)[0], grey)
        np.testing.assert_array_equal(gate_image.show_slice(255 - grey)[0], grey)


def test_one_bright_corner_alone_is_only_warned_of(monkeypatch):
    monkeypatch.setattr(gate_image, "_judge", likely_a_slice)
    grey = np.full((100, 100), 128, np.uint8)
    grey[20:40, 20:80] = 0
    grey[-10:, -10:] = 255
    assert gate_image.examine_slice(grey) == Verdict(False, (gate_image.MAYBE_INVERTED,))


def test_a_negative_of_a_slice_goes_to_the_model_of_ct(monkeypatch):
    """Whatever the gate takes it for as it is."""

    def judge(square_SxS, _):
        name = "ct" if square_SxS[0, 0] < 128 else "inverted"
        return {**dict.fromkeys(CLASSES, 0.0), name: 0.9}, True

    monkeypatch.setattr(gate_image, "_judge", judge)
    shown = 255 - apply_window(body((96, 80, 5))[0][:, :, 2].T, -1000, 400)
    assert examine(shown) == Verdict(False, (WORDS["ct"],), is_ct=True)


def test_slices_of_a_real_scan(shared_data):
    """In windows that people use no slice is turned over, and every negative or warned of."""
    pytest.importorskip("nibabel")
    scan = read_scan(shared_data / "ct" / "chest.nii.gz").voxels_ZxHxW[4::24, ::2, ::2]
    for slice_HxW in scan:
        for window in WINDOWS:
            shown = apply_window(slice_HxW, *window)
            assert not gate_image.examine_slice(shown).inverted
            assert gate_image.examine_slice(255 - shown).warnings


def test_a_film_becomes_grey_once(phantoms, model, monkeypatch):
    """And the gate still sees its colours."""
    converted = []

    def counted(image):
        if image.dtype != np.uint8 or image.ndim != 2:  # any other costs nothing
            converted.append(image.shape)
        return to_grey8(image)

    for module in (predictor, gate_image, preprocess):
        monkeypatch.setattr(module, "to_grey8", counted)
    film = np.stack([phantoms[0]] * 3, -1)
    film[50:100] = (200, 40, 0)
    assert "is in colour" in model.prediction(film).warnings[0]
    assert converted == [film.shape]


@pytest.mark.parametrize("name", ["montgomery", "shenzhen"])
def test_real_films(shared_data, name):
    """A few of the test split, which the gate was not fitted to; quality/gate.py has all."""
    split = load_splits(DataConfig(name="folder", dir=str(shared_data / name)))["test"]
    wrong, warned, right = 0, 0, 0
    for i in range(0, len(split.ids), len(split.ids) // 4):
        example = split.read(i)
        grey = to_grey8(example.image)
        for change in (*CORRUPTIONS, *MORE_CHANGES):
            assert not words(changed(change, grey, example.mask, i)), (split.ids[i], change)
        assert check_mask(example.mask, 1.0, 0.94) == ()
        for case in of_film(grey, example.mask, np.random.default_rng(i)):
            verdict = examine(case.image)
            wrong += 1
            warned += bool(verdict.warnings)
            right += case.words in " ".join(verdict.warnings)
            assert verdict.inverted == (case.kind == "inverted")
    assert warned >= 0.9 * wrong and right >= 0.9 * wrong
