"""Scores of one image: by hand, against the functions they are made of, and by symmetry."""

import numpy as np
import pytest

from jaxlung import metrics
from jaxlung.masks.sides import lungs_from_labels, split_lungs
from jaxlung.metrics import assd, hausdorff, nsd, surface_distances
from jaxlung.metrics.image import FLAGS, Tolerance, count_stray_pieces, flag_failures, score_masks

SHAPE = (40, 60)
PICTURE_LEFT, PICTURE_RIGHT = (10, 30, 8, 24), (10, 30, 36, 52)  # top, bottom, left, right


def boxes(*edges, shape=SHAPE):
    mask = np.zeros(shape, bool)
    for top, bottom, left, right in edges:
        mask[top:bottom, left:right] = True
    return mask


def noise(seed, share=0.3):
    return np.random.default_rng(seed).random(SHAPE) < share


EMPTY, TRUTH = boxes(), boxes(PICTURE_LEFT, PICTURE_RIGHT)


def test_names_and_their_order():
    distances = [
        f"{name}_{unit}" for unit in ("px", "mm") for name in ("hd", "hd95", "assd", "nsd")
    ]
    overlap = ["tp", "fp", "fn", "tn", "dice", "iou", "precision", "recall", "accuracy"]
    apart = [f"{name}_{side}" for side in ("right", "left") for name in ("dice", *distances)]
    for lungs in (None, split_lungs(TRUTH, TRUTH)):
        for spacing in (None, (1.0, 1.0)):
            scores = score_masks(TRUTH, TRUTH, lungs=lungs, spacing=spacing)
            assert list(scores) == overlap + distances + apart
            assert {type(value) for value in scores.values()} == {float}


def test_by_hand():
    # The right lung, on the picture's left, lacks the two inner of its 16 columns.
    prediction = boxes((10, 30, 8, 22), PICTURE_RIGHT)
    lungs = split_lungs(prediction, TRUTH)
    scores = score_masks(prediction, TRUTH, lungs=lungs, tolerance=Tolerance(px=2.0))
    expected = {
        "tp": 600,
        "fp": 0,
        "fn": 40,
        "tn": 1760,
        "dice": 1200 / 1240,
        "iou": 600 / 640,
        "precision": 1,
        "recall": 600 / 640,
        "accuracy": 2360 / 2400,
        "hd_px": 2,
        "nsd_px": 1,
        "dice_right": 560 / 600,
        "hd_px_right": 2,
        "hd95_px_right": 2,
        "nsd_px_right": 1,
        "dice_left": 1,
        "hd_px_left": 0,
        "hd95_px_left": 0,
        "assd_px_left": 0,
        "nsd_px_left": 1,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    stricter = score_masks(prediction, TRUTH, lungs=lungs, tolerance=Tolerance(px=1.0))
    assert 0 < stricter["nsd_px_right"] < stricter["nsd_px"] < 1 == stricter["nsd_px_left"]


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_functions_it_is_made_of(seed):
    prediction, truth = noise(seed), TRUTH ^ noise(seed + 10, 0.02)
    lungs = {"right": (noise(1), noise(2)), "left": (noise(3), noise(4))}
    spacing, tolerance = (0.5, 2.0), Tolerance(px=1.0, mm=3.0)
    scores = score_masks(prediction, truth, lungs=lungs, spacing=spacing, tolerance=tolerance)
    counts = metrics.count_pixels(prediction[None], truth[None])
    for name in ("dice", "iou", "precision", "recall", "accuracy"):
        assert scores[name] == getattr(metrics, name)(counts)[0]
    for end, masks in {
        "": (prediction, truth),
        "_right": lungs["right"],
        "_left": lungs["left"],
    }.items():
        assert scores[f"dice{end}"] == metrics.dice(metrics.count_pixels(*(m[None] for m in masks)))
        for unit, size, limit in (("px", (1.0, 1.0), 1.0), ("mm", spacing, 3.0)):
            distances = surface_distances(*masks, size)
            assert scores[f"hd_{unit}{end}"] == hausdorff(distances)
            assert scores[f"hd95_{unit}{end}"] == hausdorff(distances, 95)
            assert scores[f"assd_{unit}{end}"] == assd(distances)
            assert scores[f"nsd_{unit}{end}"] == nsd(distances, limit)


@pytest.mark.parametrize("spacing", [0.25, 0.5, 4.0])  # exact in binary: no ties are broken
def test_mm_are_pixels_times_spacing(spacing):
    prediction = noise(0) & TRUTH
    scores = score_masks(
        prediction,
        TRUTH,
        lungs=split_lungs(prediction, TRUTH),
        spacing=(spacing, spacing),
        tolerance=Tolerance(px=1.0, mm=spacing),
    )
    for end in ("", "_right", "_left"):
        for name in ("hd", "hd95", "assd"):
            assert scores[f"{name}_px{end}"] > 0
            expected = spacing * scores[f"{name}_px{end}"]
            assert scores[f"{name}_mm{end}"] == pytest.approx(expected)
        assert scores[f"nsd_mm{end}"] == pytest.approx(scores[f"nsd_px{end}"])
        assert 0 < scores[f"nsd_px{end}"] < 1


def test_what_is_not_known_is_nan():
    def unknown(**given):
        return {
            name for name, value in score_masks(TRUTH, TRUTH, **given).items() if value != value
        }

    names = set(score_masks(TRUTH, TRUTH))
    in_mm = {name for name in names if "_mm" in name}
    of_a_lung = {name for name in names if name.endswith(("_right", "_left"))}
    lungs = split_lungs(TRUTH, TRUTH)
    assert unknown(lungs=lungs, spacing=(1.0, 2.0)) == set()
    assert unknown(lungs=lungs) == in_mm
    assert unknown(spacing=(1.0, 2.0)) == of_a_lung
    assert unknown() == in_mm | of_a_lung


def test_right_lung_is_on_the_pictures_left():
    prediction = boxes((12, 28, 10, 20), (12, 28, 40, 50))
    lungs = split_lungs(prediction, TRUTH)
    for side, edges, part in (
        ("right", PICTURE_LEFT, (12, 28, 10, 20)),
        ("left", PICTURE_RIGHT, (12, 28, 40, 50)),
    ):
        np.testing.assert_array_equal(lungs[side][0], boxes(part))
        np.testing.assert_array_equal(lungs[side][1], boxes(edges))


def test_a_bridge_is_divided_midway():
    lungs = split_lungs(boxes((10, 30, 8, 52)), TRUTH)
    np.testing.assert_array_equal(lungs["right"][0], boxes((10, 30, 8, 30)))
    np.testing.assert_array_equal(lungs["left"][0], boxes((10, 30, 30, 52)))


@pytest.mark.parametrize(("side", "third"), [("right", (33, 36, 4, 7)), ("left", (2, 6, 55, 58))])
def test_a_third_piece_goes_to_the_nearer_lung(side, third):
    truth, other = TRUTH | boxes(third), {"right": "left", "left": "right"}[side]
    lungs = split_lungs(truth, truth)
    for mask in lungs[side]:
        assert mask[boxes(third)].all()
    for mask in lungs[other]:
        assert not mask[boxes(third)].any()


@pytest.mark.parametrize("seed", range(3))
def test_each_pixel_is_of_one_lung(seed):
    masks = noise(seed), TRUTH | noise(seed + 10, 0.02)
    lungs = split_lungs(*masks)
    for mask, right, left in zip(masks, lungs["right"], lungs["left"], strict=True):
        np.testing.assert_array_equal(right.astype(int) + left, mask)


@pytest.mark.parametrize(
    "truth",
    [
        EMPTY,
        boxes(PICTURE_LEFT),
        boxes(PICTURE_LEFT, (29, 31, 24, 36), PICTURE_RIGHT),  # joined
        boxes(PICTURE_LEFT, (30, 34, 24, 40)),  # joined by a corner
        boxes((2, 18, 8, 24), (20, 38, 8, 24)),  # stacked
        boxes((2, 18, 8, 24), (20, 38, 16, 32)),  # centres half a width apart
        boxes((2, 18, 8, 24), (20, 38, 20, 28)),  # half the wider one's
        boxes((2, 18, 20, 28), (20, 38, 8, 24)),
        boxes((0, 7, 0, 13), (0, 1, 30, 40)),  # 91 and 10 pixels
    ],
)
def test_no_two_lungs_side_by_side(truth):
    assert split_lungs(truth, truth) is None


@pytest.mark.parametrize(
    "truth",
    [
        boxes((2, 18, 8, 24), (20, 38, 17, 33)),  # centres a pixel more than half a width apart
        boxes((0, 9, 0, 10), (0, 1, 30, 40)),  # 90 and 10 pixels
    ],
)
def test_just_two_lungs(truth):
    lungs = split_lungs(EMPTY, truth)
    assert lungs["right"][1].any() and lungs["left"][1].any()


@pytest.mark.parametrize("seed", range(5))
def test_a_flip_swaps_right_and_left(seed):
    rng = np.random.default_rng(seed)
    # Of the same rows, with an even number of columns between them: no pixel is as near to both.
    a, b = int(rng.integers(2, 14)), int(rng.integers(46, 58))
    truth, prediction = boxes((10, 30, a, 24), (10, 30, 36, b)), noise(seed)
    options = {"spacing": (0.5, 0.25), "tolerance": Tolerance(px=1.0, mm=0.5)}
    there = score_masks(prediction, truth, lungs=split_lungs(prediction, truth), **options)
    prediction, truth = prediction[:, ::-1], truth[:, ::-1]
    back = score_masks(prediction, truth, lungs=split_lungs(prediction, truth), **options)
    swap = {"right": "left", "left": "right"}
    names = {name: "_".join(swap.get(part, part) for part in name.split("_")) for name in there}
    assert there == pytest.approx({name: back[other] for name, other in names.items()})
    assert there["dice_right"] != pytest.approx(there["dice_left"])


def test_lungs_of_labels():
    truth, prediction = np.array([[1, 1, 0, 2]], np.uint8), np.array([[1, 2, 2, 0]], np.uint8)
    lungs = lungs_from_labels(prediction, truth)
    assert list(lungs) == ["right", "left"]
    assert [mask.tolist() for mask in lungs["right"]] == [[[1, 0, 0, 0]], [[1, 1, 0, 0]]]
    assert [mask.tolist() for mask in lungs["left"]] == [[[0, 1, 1, 0]], [[0, 0, 0, 1]]]
    assert {mask.dtype for masks in lungs.values() for mask in masks} == {np.dtype(bool)}
    scores = score_masks(prediction > 0, truth > 0, lungs=lungs)
    assert (scores["dice"], scores["dice_right"], scores["dice_left"]) == (4 / 6, 2 / 3, 0)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (TRUTH, TRUTH, (0, 0)),
        (EMPTY, TRUTH, (0, 0)),
        (EMPTY, EMPTY, (0, 0)),
        (TRUTH, EMPTY, (2, 640)),
        (boxes(PICTURE_LEFT, (2, 4, 2, 5), (35, 36, 50, 58)), TRUTH, (2, 14)),
        (boxes(PICTURE_LEFT, (30, 32, 24, 26)), TRUTH, (0, 0)),  # a corner joins it to a lung
        (boxes((2, 3, 2, 3), (3, 4, 3, 4)), TRUTH, (1, 2)),  # a corner joins both pixels
        (boxes((10, 30, 24, 26)), TRUTH, (1, 40)),  # beside the truth, not on it
        (boxes((10, 30, 24, 37)), TRUTH, (0, 0)),  # one column on it
    ],
)
def test_stray_pieces(prediction, truth, expected):
    assert count_stray_pieces(prediction, truth) == expected


BIG, SMALL = (0, 20, 0, 20), (0, 6, 40, 50)  # 400 and 60 pixels
UNLIKE = boxes(BIG, SMALL)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (TRUTH, TRUTH, ()),
        (EMPTY, EMPTY, ()),
        (EMPTY, TRUTH, ("empty", "low_dice")),
        (boxes(BIG), UNLIKE, ("lung_missing",)),
        (boxes(BIG, (0, 1, 40, 45)), UNLIKE, ("lung_missing",)),  # 5 of 60 pixels found
        (boxes(BIG, (0, 1, 40, 46)), UNLIKE, ()),  # a tenth is found
        (boxes(SMALL), UNLIKE, ("lung_missing", "low_dice")),
        (boxes((0, 1, 0, 5), (0, 1, 40, 42)), UNLIKE, ("lung_missing", "low_dice")),  # both
        (boxes((12, 28, 10, 22), (12, 28, 38, 50)), TRUTH, ("low_dice",)),
        (boxes(PICTURE_LEFT, PICTURE_RIGHT, (2, 4, 2, 4)), TRUTH, ("stray_pieces",)),
        (boxes(BIG, (30, 31, 30, 31)), UNLIKE, ("lung_missing", "stray_pieces")),
        (TRUTH, EMPTY, ("low_dice", "stray_pieces")),
    ],
)
def test_flags(prediction, truth, expected):
    lungs = split_lungs(prediction, truth)
    assert flag_failures(prediction, truth, lungs) == expected
    others = [flag for flag in expected if flag != "empty"]
    assert flag_failures(prediction, truth, lungs, missing=True) == ("missing", *others)
    assert list(expected) == [flag for flag in FLAGS if flag in expected]


def test_without_lungs_apart_none_is_missing():
    assert flag_failures(boxes(BIG), UNLIKE, None) == ()


@pytest.mark.parametrize("shift", [100, 101])
def test_dice_of_just_0_9_is_not_low(shift):
    truth, prediction = boxes((0, 1, 0, 1000), shape=(1, 1200)), np.zeros((1, 1200), bool)
    prediction[:, shift : shift + 1000] = True
    assert flag_failures(prediction, truth, None) == (() if shift == 100 else ("low_dice",))


@pytest.mark.parametrize("label", [1, 2])
def test_a_lung_that_the_truth_has_not_is_not_missing(label):
    truth = np.zeros(SHAPE, np.uint8)
    truth[5:25, 5:25] = 1
    lungs = lungs_from_labels(truth * np.uint8(label), truth)
    expected = () if label == 1 else ("lung_missing",)  # labelled as the other lung
    assert flag_failures(truth > 0, truth > 0, lungs) == expected


def test_lungs_with_each_others_labels_are_missing():
    truth = np.zeros(SHAPE, np.uint8)
    truth[5:25, 5:15], truth[5:25, 30:40] = 1, 2
    swapped = np.where(truth > 0, 3 - truth, 0)
    lungs = lungs_from_labels(swapped, truth)
    assert flag_failures(swapped > 0, truth > 0, lungs) == ("lung_missing",)


def test_a_lung_missing_from_labels():
    truth = np.zeros(SHAPE, np.uint8)
    truth[5:25, 5:25], truth[5:25, 25:28] = 1, 2  # they touch: only labels tell them apart
    prediction = np.where(truth == 1, 1, 0)
    lungs = lungs_from_labels(prediction, truth)
    assert flag_failures(prediction > 0, truth > 0, lungs) == ("lung_missing",)
