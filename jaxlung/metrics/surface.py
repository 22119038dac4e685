"""Distances between the outlines of two masks, in pixels or millimetres. On the host, float64.

Outlines and their weights follow google-deepmind's surface-distance, with which tests compare them
to 1e-6. An outline is the set of pixel *corners* whose four pixels are not all alike; outside of
the image is background. Each corner weighs the length of outline that passes through its 2 x 2
neighbourhood. Tools that weigh every boundary pixel alike, or measure from pixel centres, give
other figures for the same masks (Podobnik and Vrtovec 2024, arXiv 2410.02630).

The order of use is `surface_distances`, once for two masks, and then any of `hausdorff`, `assd` and
`nsd` of the result.
"""

from typing import NamedTuple

import numpy as np


class SurfaceDistances(NamedTuple):
    """Distances from each corner of an outline to the nearest one of the other, and their lengths.

    Truth has T corners and the prediction P. Distances are sorted, smallest first, and lengths are
    in the same order. An empty mask has no corner: its two arrays are empty, and all distances of
    the other mask are infinite. All are in the unit of the spacing: pixels or mm.
    """

    truth_to_prediction: np.ndarray  # float64 [T]
    truth_lengths: np.ndarray  # float64 [T], of outline
    prediction_to_truth: np.ndarray  # float64 [P]
    prediction_lengths: np.ndarray  # float64 [P]
    worst: float  # the image's diagonal: the distance if only one of the masks is empty


def surface_distances(
    prediction_HxW: np.ndarray, truth_HxW: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)
) -> SurfaceDistances:
    """Measures the distances between the outlines of two masks, in both directions.

    Args:
        prediction_HxW: bool [H, W].
        truth_HxW: bool [H, W].
        spacing: height and width of a pixel, in mm; (1, 1) measures in pixels.

    Raises:
        ValueError: the shapes differ or are not two-dimensional, or the spacing is not positive.

    Example:
        >>> truth = np.zeros((8, 8), bool)
        >>> truth[2:6, 2:6] = True
        >>> distances = surface_distances(np.roll(truth, 1, axis=0), truth, spacing=(0.5, 0.5))
        >>> hausdorff(distances), nsd(distances, tolerance=0.2)
        (0.5, 0.5)
    """
    if prediction_HxW.shape != truth_HxW.shape or truth_HxW.ndim != 2:
        raise ValueError(
            f"shapes {prediction_HxW.shape} and {truth_HxW.shape}; expected one [H, W]"
        )
    if len(spacing) != 2 or not all(np.isfinite(side) and side > 0 for side in spacing):
        raise ValueError(f"spacing {spacing} is not two positive numbers")
    truth_Tx2, truth_lengths = _outline(truth_HxW, spacing)
    prediction_Px2, prediction_lengths = _outline(prediction_HxW, spacing)
    return SurfaceDistances(
        *_nearest(truth_Tx2, prediction_Px2, truth_lengths, spacing),
        *_nearest(prediction_Px2, truth_Tx2, prediction_lengths, spacing),
        worst=float(np.hypot(*(np.array(truth_HxW.shape) * spacing))),
    )


def scale_distances(distances: SurfaceDistances, side: float) -> SurfaceDistances:
    """Converts distances in pixels to mm, for square pixels. It is faster than measuring again.

    Args:
        distances: in pixels, as `surface_distances` returns them.
        side: of a pixel, in mm.

    Example:
        >>> mask = np.ones((3, 4), bool)
        >>> scale_distances(surface_distances(mask, mask), 0.5).worst
        2.5
    """
    return SurfaceDistances(
        side * distances.truth_to_prediction,
        side * distances.truth_lengths,
        side * distances.prediction_to_truth,
        side * distances.prediction_lengths,
        side * distances.worst,
    )


def hausdorff(distances: SurfaceDistances, percentile: float = 100.0) -> float:
    """Computes the Hausdorff distance, or its robust form: HD95 is percentile 95.

    In each direction it is the distance within which `percentile` per cent of the outline's length
    lies. The larger of the two directions is returned (Huttenlocher et al. 1993; weighted by length
    as in surface-distance).

    Args:
        distances: as `surface_distances` returns them.
        percentile: above 0, at most 100.

    Returns:
        in pixels or mm, at least 0. It is 0 if both masks are empty, and the image's diagonal if
        only one is.

    Example:
        >>> truth = np.zeros((40, 40), bool)
        >>> truth[10:30, 10:30] = True
        >>> prediction = truth.copy()
        >>> prediction[0, 0] = True  # a speck far away
        >>> distances = surface_distances(prediction, truth)
        >>> round(hausdorff(distances), 2), round(hausdorff(distances, 95), 2)
        (14.14, 0.0)
    """
    empty = _value_if_empty(distances, both=0.0, one=distances.worst)
    if empty is not None:
        return empty
    return max(
        _weighted_percentile(distances.truth_to_prediction, distances.truth_lengths, percentile),
        _weighted_percentile(
            distances.prediction_to_truth, distances.prediction_lengths, percentile
        ),
    )


def assd(distances: SurfaceDistances) -> float:
    """Computes the average symmetric surface distance: the mean over both outlines, by length.

    Both outlines are pooled (Yeghiazaryan and Voiculescu 2018). The mean of the two directed means,
    which some tools call ASSD too, is MASD.

    Args:
        distances: as `surface_distances` returns them.

    Returns:
        in pixels or mm, at least 0. It is 0 if both masks are empty, and the image's diagonal if
        only one is.

    Example:
        >>> empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
        >>> assd(surface_distances(full, full)), assd(surface_distances(empty, full))
        (0.0, 5.0)
    """
    empty = _value_if_empty(distances, both=0.0, one=distances.worst)
    if empty is not None:
        return empty
    total = (
        distances.truth_to_prediction @ distances.truth_lengths
        + distances.prediction_to_truth @ distances.prediction_lengths
    )
    return float(total / (distances.truth_lengths.sum() + distances.prediction_lengths.sum()))


def nsd(distances: SurfaceDistances, tolerance: float) -> float:
    """Computes the normalised surface distance: the share of both outlines within a tolerance.

    It is also called surface Dice (Nikolov et al. 2021).

    Args:
        distances: as `surface_distances` returns them.
        tolerance: in the unit of the spacing: pixels or mm. A distance that equals it, but for
            rounding, is within.

    Returns:
        in [0, 1]. It is 1 if both masks are empty, and 0 if only one is.

    Example:
        >>> truth = np.zeros((8, 8), bool)
        >>> truth[2:6, 2:6] = True
        >>> distances = surface_distances(np.roll(truth, 1, axis=0), truth)
        >>> nsd(distances, tolerance=1.0)
        1.0
    """
    empty = _value_if_empty(distances, both=1.0, one=0.0)
    if empty is not None:
        return empty
    tolerance *= 1 + 1e-9
    within = (
        distances.truth_lengths[distances.truth_to_prediction <= tolerance].sum()
        + distances.prediction_lengths[distances.prediction_to_truth <= tolerance].sum()
    )
    return float(within / (distances.truth_lengths.sum() + distances.prediction_lengths.sum()))


def _outline(mask_HxW: np.ndarray, spacing: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Finds the corners on an outline, int [N, 2], and the length that each stands for, [N]."""
    rows, columns = (np.flatnonzero(mask_HxW.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.empty((0, 2), np.int64), np.empty(0)
    top, left = rows[0], columns[0]
    inside = np.pad(mask_HxW[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.uint8)
    code = inside[:-1, :-1] | inside[:-1, 1:] << 1 | inside[1:, :-1] << 2 | inside[1:, 1:] << 3
    corners_Nx2 = np.argwhere((code != 0) & (code != 15))
    lengths = _corner_lengths(spacing)[code[corners_Nx2[:, 0], corners_Nx2[:, 1]]]
    return corners_Nx2 + [top, left], lengths


def _corner_lengths(spacing: tuple[float, float]) -> np.ndarray:
    """Computes the length of outline in each of the 16 neighbourhoods, by the code of `_outline`.

    One pixel in or out cuts the corner off, from mid-edge to mid-edge. Two on a diagonal make two
    such cuts. Two side by side make a straight line across.
    """
    height, width = spacing
    cut = 0.5 * np.hypot(height, width)
    lengths = np.full(16, cut)
    lengths[[0b0000, 0b1111]] = 0.0
    lengths[[0b0110, 0b1001]] = 2 * cut
    lengths[[0b0011, 0b1100]] = width
    lengths[[0b0101, 0b1010]] = height
    return lengths


def _nearest(
    from_Nx2: np.ndarray, to_Mx2: np.ndarray, lengths_N: np.ndarray, spacing: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Measures from each corner to the nearest of the others; sorts distances and lengths."""
    if not len(to_Mx2):
        return np.full(len(from_Nx2), np.inf), lengths_N
    if not len(from_Nx2):
        return np.empty(0), lengths_N
    # Points on a lattice: the default, balanced tree is half as fast to build.
    from scipy.spatial import cKDTree  # a fifth of the imports of a training, which needs it not

    tree = cKDTree(to_Mx2 * spacing, balanced_tree=False, compact_nodes=False)
    _, nearest_N = tree.query(from_Nx2 * spacing)
    # From whole pixels, so that where a mask lies cannot round a distance past the tolerance.
    offset_Nx2 = (from_Nx2 - to_Mx2[nearest_N]) * spacing
    distances_N = np.sqrt((offset_Nx2**2).sum(axis=1))
    order = np.lexsort((lengths_N, distances_N))
    return distances_N[order], lengths_N[order]


def _weighted_percentile(sorted_N: np.ndarray, lengths_N: np.ndarray, percentile: float) -> float:
    share_N = np.cumsum(lengths_N) / lengths_N.sum()
    index = int(np.searchsorted(share_N, percentile / 100))
    return float(sorted_N[min(index, len(sorted_N) - 1)])


def _value_if_empty(distances: SurfaceDistances, *, both: float, one: float) -> float | None:
    """Returns `both` or `one` if both masks or one of them are empty; None if neither is."""
    elements = len(distances.truth_lengths), len(distances.prediction_lengths)
    if not any(elements):
        return both
    return None if all(elements) else one
