"""From a network's slices to what a chest holds: two lungs, whole, without holes. Of numpy.

A mask of a whole scan has a byte a voxel. Beside it only a slice's pieces are in memory: pieces of
neighbouring slices that touch are joined by their numbers.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from jaxlung.masks.shape import SECOND_LUNG
from jaxlung.masks.sides import SIDES, label_sides


class Bodies(NamedTuple):
    """The N bodies of a mask, joined by faces of voxels, and which pieces of a slice are theirs."""

    body_Zx: list[np.ndarray]  # for each slice, by a piece's number: the body; -1 for number 0
    sizes_N: np.ndarray  # voxels
    columns_N: np.ndarray  # mean column of the voxels
    spreads_N: np.ndarray  # standard deviation of the voxels' columns
    is_open_N: np.ndarray  # bool: reaches the frame of the scan


def keep_lung_bodies(mask_ZxHxW: np.ndarray) -> np.ndarray:
    """Keeps the two largest bodies of a scan's mask and fills their holes.

    Lungs are two bodies, or one where they touch. Other bodies are the windpipe, gas in the bowel
    or air beside the patient. A second body that has less than SECOND_LUNG (a tenth) of the first
    one's voxels is dropped too. A hole is a body of background that does not reach the frame of
    the scan, such as a vessel or a nodule. Bodies and holes are joined by faces (6-connected).

    Args:
        mask_ZxHxW: bool, slices of a whole scan.

    Returns:
        bool [Z, H, W]. It is empty only if the argument is empty. Applying the function twice
        changes nothing more.

    Example:
        >>> mask = np.zeros((3, 3, 6), bool)
        >>> mask[:, :, :3] = True
        >>> mask[1, 1, 1] = mask[0, 0, 5] = False
        >>> mask[2, 2, 5] = True  # a speck
        >>> kept = keep_lung_bodies(mask)
        >>> bool(kept[:, :, :3].all()), bool(kept[:, :, 3:].any())
        (True, False)
    """
    if not mask_ZxHxW.any():
        return np.zeros_like(mask_ZxHxW)
    background = find_bodies(~mask_ZxHxW)
    filled_ZxHxW = mask_ZxHxW | _select(~mask_ZxHxW, background, ~background.is_open_N)
    bodies = find_bodies(filled_ZxHxW)
    return _select(filled_ZxHxW, bodies, _are_lungs(bodies))


def label_lung_bodies(mask_ZxHxW: np.ndarray) -> np.ndarray:
    """Labels the patient's right and left lung in the mask of a scan.

    Two bodies that lie side by side, neither of less than a third of the other's voxels, are a lung
    each, and so keep their labels in slices that show one lung alone. If one body holds both lungs,
    or there are no such two, each slice is labelled for itself (`sides.label_sides`).

    Args:
        mask_ZxHxW: bool, slices of a whole scan; columns run from the patient's right to left.

    Returns:
        uint8 [Z, H, W]: the labels of SIDES on the mask's voxels, 0 elsewhere.

    Example:
        >>> mask = np.array([[[1, 1, 0, 0, 1, 1]], [[0, 0, 0, 0, 1, 1]]], bool)
        >>> label_lung_bodies(mask)[:, 0].tolist()
        [[1, 1, 0, 0, 2, 2], [0, 0, 0, 0, 2, 2]]
    """
    bodies = find_bodies(mask_ZxHxW)
    lungs = np.flatnonzero(_are_lungs(bodies)) if len(bodies.sizes_N) else np.array([], int)
    if len(lungs) != 2 or not _are_side_by_side(bodies, lungs):
        return np.stack([label_sides(mask_HxW) for mask_HxW in mask_ZxHxW])
    middle = bodies.columns_N[lungs].mean()
    side_N = np.where(bodies.columns_N < middle, SIDES["right"], SIDES["left"]).astype(np.uint8)
    label_ZxHxW = np.zeros(mask_ZxHxW.shape, np.uint8)
    for z, piece_HxW in enumerate(_pieces_of(mask_ZxHxW)):
        side_P = np.append(0, side_N[bodies.body_Zx[z][1:]]).astype(np.uint8)
        label_ZxHxW[z] = side_P[piece_HxW]
    return label_ZxHxW


def find_bodies(mask_ZxHxW: np.ndarray) -> Bodies:
    """Finds the bodies of a mask, bool [Z, H, W]; a mask without voxels has none.

    Example:
        >>> bodies = find_bodies(np.array([[[1, 0, 1]], [[1, 0, 0]]], bool))
        >>> bodies.sizes_N.tolist(), bodies.columns_N.tolist()
        ([2, 1], [0.0, 2.0])
    """
    from scipy import sparse  # takes longer to import than a film to predict

    last = len(mask_ZxHxW) - 1
    counts, touching, sizes, sums, squares, is_open = [0], [], [], [], [], []
    before_HxW: np.ndarray | None = None
    for z, piece_HxW in enumerate(_pieces_of(mask_ZxHxW)):
        count = int(piece_HxW.max())
        first = counts[-1]  # of this slice's pieces, among those of all slices
        counts.append(first + count)
        size_P = np.bincount(piece_HxW.ravel(), minlength=count + 1)[1:]
        columns_HxW = np.broadcast_to(np.arange(piece_HxW.shape[1]), piece_HxW.shape)
        sum_P = np.bincount(piece_HxW.ravel(), columns_HxW.ravel(), count + 1)[1:]
        open_P = np.full(count, z in (0, last))
        frame = (piece_HxW[0], piece_HxW[-1], piece_HxW[:, 0], piece_HxW[:, -1])
        on_frame = np.unique(np.concatenate(frame))
        open_P[on_frame[on_frame > 0] - 1] = True
        sizes.append(size_P)
        sums.append(sum_P)
        squares.append(
            np.bincount(piece_HxW.ravel(), columns_HxW.ravel().astype(np.float64) ** 2, count + 1)[
                1:
            ]
        )
        is_open.append(open_P)
        if before_HxW is not None:
            both_HxW = (piece_HxW > 0) & (before_HxW > 0)
            # One number for each pair: sorting pairs of numbers takes 20 times as long.
            pair = before_HxW[both_HxW] * np.int64(count + 1) + piece_HxW[both_HxW]
            other, own = np.divmod(np.unique(pair), count + 1)
            touching.append(np.stack([own - 1 + first, other - 1 + counts[-3]], axis=1))
        before_HxW = piece_HxW
    total = counts[-1]
    pairs_Tx2 = np.concatenate([np.zeros((0, 2), int), *touching])
    graph = sparse.coo_matrix((np.ones(len(pairs_Tx2), bool), pairs_Tx2.T), (total, total))
    number, body_T = sparse.csgraph.connected_components(graph, directed=False)
    size_N = np.bincount(body_T, np.concatenate(sizes), number)
    sum_N = np.bincount(body_T, np.concatenate(sums), number)
    square_N = np.bincount(body_T, np.concatenate(squares), number)
    open_N = np.bincount(body_T, np.concatenate(is_open), number) > 0
    column_N = sum_N / np.maximum(size_N, 1)
    variance_N = square_N / np.maximum(size_N, 1) - column_N**2
    body_Zx = [
        np.append(-1, body_T[first:end]) for first, end in zip(counts[:-1], counts[1:], strict=True)
    ]
    spread_N = np.sqrt(np.maximum(variance_N, 0))
    return Bodies(body_Zx, size_N.astype(np.int64), column_N, spread_N, open_N)


def _are_lungs(bodies: Bodies) -> np.ndarray:
    """Says of each body whether it is one of the lungs: bool [N]."""
    is_lung_N = np.zeros(len(bodies.sizes_N), bool)
    largest = np.argsort(-bodies.sizes_N, kind="stable")[:2]
    enough = bodies.sizes_N[largest] >= SECOND_LUNG * bodies.sizes_N[largest[0]]
    is_lung_N[largest[enough]] = True
    return is_lung_N


def _are_side_by_side(bodies: Bodies, lungs_2: np.ndarray) -> bool:
    """Says whether two bodies are a lung each: of like size, further apart than either is wide."""
    sizes_2, spreads_2 = bodies.sizes_N[lungs_2], bodies.spreads_N[lungs_2]
    apart = float(np.ptp(bodies.columns_N[lungs_2]))
    return bool(sizes_2.min() >= sizes_2.max() / 3 and apart > spreads_2.sum())


def _select(mask_ZxHxW: np.ndarray, bodies: Bodies, chosen_N: np.ndarray) -> np.ndarray:
    """Returns the voxels of the chosen bodies of a mask, bool [Z, H, W]."""
    out_ZxHxW = np.zeros(mask_ZxHxW.shape, bool)
    for z, piece_HxW in enumerate(_pieces_of(mask_ZxHxW)):
        out_ZxHxW[z] = np.append(False, chosen_N[bodies.body_Zx[z][1:]])[piece_HxW]
    return out_ZxHxW


def _pieces_of(mask_ZxHxW: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers the 4-connected pieces of each slice from 1 on, always alike: int32 [H, W]."""
    for mask_HxW in mask_ZxHxW:
        yield cv2.connectedComponents(mask_HxW.astype(np.uint8), connectivity=4)[1]
