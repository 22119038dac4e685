"""Surface distances: by hand, by symmetry, and against google-deepmind's surface-distance."""

import warnings

import numpy as np
import pytest

from jaxlung.metrics import assd, hausdorff, nsd, surface, surface_distances


def random_pairs() -> dict[str, tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Masks of many kinds, with spacings: (prediction, truth, spacing), none of them empty."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :40]

    def blob():
        y, x, a, b = rng.uniform((14, 12, 4, 4), (34, 28, 16, 14))
        return ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1

    def spacing():
        return tuple(rng.uniform(0.1, 3.0, 2))

    pairs = {f"blobs_{i}": (blob(), blob() | blob(), spacing()) for i in range(25)}
    pairs |= {
        f"noise_{i}": (rng.random((30, 37)) < p, rng.random((30, 37)) < 0.3, spacing())
        for i, p in enumerate(np.linspace(0.02, 0.98, 15))
    }
    full, dot, other = np.ones((9, 7), bool), np.zeros((9, 7), bool), np.zeros((9, 7), bool)
    dot[4, 3], other[0, 6] = True, True
    line, corners = np.zeros((9, 7), bool), np.zeros((9, 7), bool)
    line[:, 2], corners[[0, 0, 8, 8], [0, 6, 0, 6]] = True, True
    diagonal = np.eye(9, 7, dtype=bool)
    shapes = {
        "full": full,
        "dot": dot,
        "other": other,
        "line": line,
        "corners": corners,
        "diagonal": diagonal,
    }
    for name, prediction in shapes.items():
        for truth in ("full", "dot", "diagonal"):
            pairs[f"{name}_{truth}"] = (prediction, shapes[truth], (0.5, 2.0))
            pairs[f"{name}_{truth}_px"] = (prediction, shapes[truth], (1.0, 1.0))
    for i in range(6):
        z, y, x = np.ogrid[:14, :20, :18]
        balls = [
            ((z - c) / a) ** 2 + ((y - 10) / 7) ** 2 + ((x - b) / 6) ** 2 <= 1
            for c, a, b in rng.uniform((4, 2, 5), (9, 6, 12), (2, 3))
        ]
        pairs[f"volume_{i}"] = (balls[0], balls[0] | balls[1], tuple(rng.uniform(0.4, 5.0, 3)))
    noise = rng.random((2, 9, 8, 11)) < 0.5
    pairs["volume_noise"] = (noise[0], noise[1], (3.0, 0.7, 0.9))
    pairs["volume_full"] = (np.ones((5, 6, 7), bool), noise[0, :5, :6, :7], (1.0, 1.0, 1.0))
    return pairs


PAIRS = random_pairs()


def test_there_are_at_least_50_pairs():
    assert len(PAIRS) >= 50


@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_surface_distance(name, monkeypatch):
    reference = pytest.importorskip("surface_distance", reason="pip install -e '.[test]'")
    prediction, truth, spacing = PAIRS[name]
    ours = surface_distances(prediction, truth, spacing)
    with warnings.catch_warnings():  # it uses names that SciPy has moved
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = reference.compute_surface_distances(truth, prediction, spacing)
    for percentile in (100, 95, 50):
        expected = reference.compute_robust_hausdorff(theirs, percentile)
        assert hausdorff(ours, percentile) == pytest.approx(expected, abs=1e-6)
    for tolerance in (0.0, 0.5, 1.0, 2.0, 5.0):
        expected = reference.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert nsd(ours, tolerance) == pytest.approx(expected, abs=1e-6)
    # It gives the two directed means; ours is their mean weighted by the outlines' lengths.
    directed = reference.compute_average_surface_distance(theirs)
    lengths = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
    assert assd(ours) == pytest.approx(np.average(directed, weights=lengths), abs=1e-6)


def test_two_dots_by_hand():
    prediction, truth = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    prediction[5, 5], truth[5, 9] = True, True
    distances = surface_distances(prediction, truth, (3.0, 2.0))
    # Corners of the dots are columns 5, 6 and 9, 10: 3 pixels and 4 pixels of 2 mm away, half each.
    np.testing.assert_allclose(distances.truth_to_prediction, [6, 6, 8, 8])
    assert hausdorff(distances) == 8 and hausdorff(distances, 50) == 6
    assert assd(distances) == pytest.approx(7)
    assert nsd(distances, 5.9) == 0 and nsd(distances, 6) == 0.5 and nsd(distances, 8) == 1
    np.testing.assert_allclose(distances.truth_lengths.sum(), 4 * 0.5 * np.hypot(3, 2))


def test_two_dots_of_a_volume_by_hand():
    """Corners two and three voxels of 2 mm away, half each; a voxel has eight cut corners."""
    prediction, truth = np.zeros((9, 7, 12), bool), np.zeros((9, 7, 12), bool)
    prediction[4, 3, 2], truth[4, 3, 5] = True, True
    distances = surface_distances(prediction, truth, (5.0, 1.5, 2.0))
    np.testing.assert_allclose(distances.truth_to_prediction, [4] * 4 + [6] * 4)
    assert (hausdorff(distances), hausdorff(distances, 50), assd(distances)) == (6, 4, 5)
    assert nsd(distances, 3.9) == 0 and nsd(distances, 4) == 0.5 and nsd(distances, 6) == 1
    # A triangle from mid-edge to mid-edge has an eighth of the faces' areas as its normal.
    cut = np.sqrt((1.5 * 2) ** 2 + (5 * 2) ** 2 + (5 * 1.5) ** 2) / 8
    np.testing.assert_allclose(distances.truth_lengths, [cut] * 8)


def test_slabs_of_a_volume_by_hand():
    """A slab of 50x50 pixels and 10 slices, moved by one slice of 3 mm."""
    truth = np.zeros((20, 60, 60), bool)
    truth[5:15, 5:55, 5:55] = True
    distances = surface_distances(np.roll(truth, 1, axis=0), truth, (3.0, 0.5, 0.5))
    faces = 2 * (49 * 0.5) ** 2
    rims = 4 * (49 * 0.5) * (9 * 3.0)
    edges = 8 * (49 * 0.5) * 0.5 * np.hypot(3, 0.5)  # cut at 45 degrees of the grid
    posts = 4 * (9 * 3.0) * 0.5 * np.hypot(0.5, 0.5)
    tips = 8 * np.sqrt(1.5**2 + 1.5**2 + 0.25**2) / 8
    area = faces + rims + edges + posts + tips
    assert distances.truth_lengths.sum() == pytest.approx(area, abs=1e-9)
    assert hausdorff(distances) == 3.0
    # All but one face and half of the other, which lies on the other slab's rims.
    assert nsd(distances, 0.0) == pytest.approx((rims + posts + (edges + tips) / 2) / area)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.7, 1.3)])
def test_every_neighbourhood_of_a_volume_has_the_area_of_surface_distance(spacing):
    lookup_tables = pytest.importorskip("surface_distance").lookup_tables
    areas = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    for code, area in enumerate(areas):
        inside = (code & lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL) > 0
        if inside.all() or not inside.any():
            continue
        # Of the corner in the middle; beside it lie corners that other neighbourhoods have.
        corners, lengths = surface._outline(inside, spacing)
        middle = (corners == 1).all(axis=1)
        assert lengths[middle] == pytest.approx(area, abs=1e-12), code


@pytest.mark.parametrize("left", range(0, 30, 3))
def test_a_distance_equal_to_the_tolerance_is_within_wherever_the_masks_lie(left):
    """10 pixels of 0.2 mm are 2 mm, and no rounding of a position may make them more."""
    prediction, truth = np.zeros((60, 100), bool), np.zeros((60, 100), bool)
    prediction[5:35, left + 15 : left + 45], truth[5:35, left + 5 : left + 35] = True, True
    assert nsd(surface_distances(prediction, truth, (0.2, 0.2)), 2.0) == 1.0


def test_rectangle_has_the_length_of_its_outline():
    mask = np.zeros((30, 30), bool)
    mask[10:20, 5:25] = True
    lengths = surface_distances(mask, mask, (1.0, 1.0)).truth_lengths
    # 9 + 19 whole sides twice, and four cut corners.
    assert lengths.sum() == pytest.approx(2 * (9 + 19) + 4 * np.sqrt(0.5))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (3.0, 0.5, 2.0)])
def test_empty_masks(spacing):
    shape = (30, 40, 5)[: len(spacing)]
    empty, dot = np.zeros(shape, bool), np.zeros(shape, bool)
    dot[3, 4] = True
    both = surface_distances(empty, empty, spacing)
    assert (hausdorff(both), hausdorff(both, 95), assd(both), nsd(both, 1)) == (0, 0, 0, 1)
    diagonal = np.linalg.norm(np.multiply(shape, spacing))
    for prediction, truth in ((empty, dot), (dot, empty)):
        one = surface_distances(prediction, truth, spacing)
        worst = hausdorff(one), hausdorff(one, 95), assd(one)
        np.testing.assert_allclose(worst, diagonal)
        assert nsd(one, 1e9) == 0


@pytest.mark.parametrize("name", [*list(PAIRS)[::7], "volume_0", "volume_noise"])
def test_symmetric_scaled_and_bounded(name):
    prediction, truth, spacing = PAIRS[name]
    there = surface_distances(prediction, truth, spacing)
    back = surface_distances(truth, prediction, spacing)
    turned = surface_distances(prediction.T, truth.T, spacing[::-1])
    doubled = surface_distances(prediction, truth, tuple(2 * side for side in spacing))
    margins = ((3, 1), (2, 9), (4, 0))[: truth.ndim]
    moved = surface_distances(np.pad(prediction, margins), np.pad(truth, margins), spacing)
    for metric in (hausdorff, lambda d: hausdorff(d, 95), assd):
        for same in (back, turned, moved):
            assert metric(same) == pytest.approx(metric(there))
        assert metric(doubled) == pytest.approx(2 * metric(there))
        assert 0 <= metric(there) <= there.worst
    assert nsd(doubled, 2.0) == pytest.approx(nsd(there, 1.0))
    assert assd(there) <= hausdorff(there) and hausdorff(there, 95) <= hausdorff(there)
    identical = surface_distances(truth, truth, spacing)
    assert (hausdorff(identical), assd(identical), nsd(identical, 0.0)) == (0, 0, 1)


@pytest.mark.parametrize(
    ("prediction", "spacing"),
    [
        (np.ones((3, 4), bool), (1, 1)),
        (np.ones((3, 3), bool), (1, 0)),
        (np.ones((3, 3), bool), (1, np.nan)),
        (np.ones((3, 3), bool), (1,)),
        (np.ones((3, 3), bool), (1, 1, 1)),
        (np.ones((3, 3, 3), bool), (1, 1, 1)),
    ],
)
def test_refuses(prediction, spacing):
    with pytest.raises(ValueError):
        surface_distances(prediction, np.ones((3, 3), bool), spacing)
