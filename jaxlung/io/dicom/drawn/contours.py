"""Contours of a radiotherapy structure set (RTSTRUCT, DICOM PS3.3 A.19) as masks.

A pixel is inside a contour where its centre is, by the even-odd rule. So an inner contour that is
joined to the outer one by a narrow channel, the "keyhole" of PS3.3 C.8.8.6.3, is a hole.

Contours of one slice are joined, from the largest to the smallest:

- CLOSEDPLANAR_XOR: by exclusive or, as PS3.3 C.8.8.6.3 demands.
- CLOSED_PLANAR: by or. Many planning systems write holes as such contours too, against the
  standard. A contour whose pixels all lie on what is marked so far is therefore a hole, and is
  taken out; an island in it is put back. A contour that stands twice counts once.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.dicom.drawn.names import choose_lungs, name_lung
from jaxlung.io.dicom.drawn.target import BITS, DrawnLungs, Target, check_references
from jaxlung.io.dicom.file import name_damage, read_dataset
from jaxlung.io.viewers.drawing import fill_polygon

_READ = ("StructureSetROISequence", "ROIContourSequence", "ReferencedFrameOfReferenceSequence")
_XOR = "CLOSEDPLANAR_XOR"
_CLOSED = ("CLOSED_PLANAR", _XOR)
_BEYOND = 1.0  # pixels that a contour may lie outside the image
_GAPS = 0.1  # the share of slices between a lung's ends that may have no contour


class _Contour(NamedTuple):
    kind: str  # one of _CLOSED
    points_Nx2: np.ndarray  # x and y, where pixel (row i, column j) covers [j, j+1) x [i, i+1)


def read_contours(path: Path, target: Target) -> DrawnLungs:
    """Reads the lungs of a structure set on the grid of its series. Call it in `silence`.

    Contours of one or two points enclose nothing and are passed over.

    Raises:
        InputError: the file is damaged, of another series, or draws no lung or one of two; a
            contour is open, lies between slices or outside the image, or has bad points; or slices
            in the course of a lung have no contour.
    """
    dataset = read_dataset(path, _READ)
    with name_damage(path):
        sequences = {
            int(item.ReferencedROINumber): item.get("ContourSequence") or ()
            for item in dataset.get("ROIContourSequence") or ()
        }
        rois = {int(roi.ROINumber): roi for roi in dataset.get("StructureSetROISequence") or ()}
        named = {n: name_lung(str(rois[n].get("ROIName") or "")) for n in rois if sequences.get(n)}
        chosen = choose_lungs(named, path, "ROI")
        frames = list(dataset.get("ReferencedFrameOfReferenceSequence") or ())
        own_frames = [rois[number].get("ReferencedFrameOfReferenceUID") for number in chosen]
        of_file = [frame.get("FrameOfReferenceUID") for frame in frames]
        known = [*filter(None, own_frames)] or [*filter(None, of_file)]
        check_references(path, target, known, _find_series(frames))
        bits_SxRxC = target.new_bits()
        for number, lung in chosen.items():
            _draw(sequences[number], target, path, number, bits_SxRxC, BITS[lung])
    return target.to_lungs(bits_SxRxC, chosen.values())


def _find_series(frames: list[Any]) -> list[Any]:
    """Lists the UIDs of the series that the frames of reference hold."""
    return [
        series.get("SeriesInstanceUID")
        for frame in frames
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
    ]


def _draw(
    sequence: Any, target: Target, path: Path, number: int, bits_SxRxC: np.ndarray, bit: int
) -> None:
    """Fills the contours of an ROI."""
    contours: dict[int, list[_Contour]] = defaultdict(list)
    for item in sequence:
        kind = str(item.get("ContourGeometricType") or "")
        points_Nx3 = _read_points(item, path, number)
        if kind not in _CLOSED:
            raise InputError(
                f"{path}: ROI {number} has a contour that is not closed; close it, or remove it"
            )
        if len(points_Nx3) < 3:
            continue
        index = target.find_slice(points_Nx3)
        if index is None:
            raise InputError(
                f"{path}: ROI {number} has a contour that lies on no slice of {target.place}, but "
                f"between or beyond them; draw it on the slices"
            )
        contours[index].append(_Contour(kind, _to_pixels(points_Nx3, target, index, path, number)))
    if not contours:
        raise InputError(f"{path}: ROI {number} has no contour that encloses anything; draw it")
    first, last = min(contours), max(contours)
    gaps = last - first + 1 - len(contours)
    if gaps > _GAPS * (last - first + 1):
        raise InputError(
            f"{path}: ROI {number} has no contour on {gaps} of the {last - first + 1} slices from "
            f"its first to its last; interpolate them"
        )
    for index, of_slice in contours.items():
        mask_RxC = join_contours(of_slice, target.slices[0].shape)
        bits_SxRxC[index] |= mask_RxC.astype(np.uint8) * bit


def _read_points(item: Any, path: Path, number: int) -> np.ndarray:
    """Reads the points of a contour, [N, 3] in mm (L, P, S)."""
    raw = item.get_item("ContourData").value if "ContourData" in item else b""
    try:
        # pydicom's decimals take ten times as long.
        texts = (raw or b"").decode("ascii").rstrip("\0 ").replace(",", ".").split("\\")
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        numbers = np.empty(0)
    expected = int(item.get("NumberOfContourPoints") or len(numbers) // 3)
    if not len(numbers) or len(numbers) != 3 * expected or not np.isfinite(numbers).all():
        raise InputError(f"{path}: ROI {number} has a contour with damaged points; export it again")
    return numbers.reshape(-1, 3)


def _to_pixels(
    points_Nx3: np.ndarray, target: Target, index: int, path: Path, number: int
) -> np.ndarray:
    """Brings points into the pixels of a slice (PS3.3 C.7.6.2.1.1)."""
    one = target.slices[index]
    centres_Nx2 = (points_Nx3 - one.position_3) @ one.directions_2x3.T / one.spacing_2[::-1]
    sides_2 = np.array(one.shape[::-1])
    if (centres_Nx2 < -0.5 - _BEYOND).any() or (centres_Nx2 > sides_2 - 0.5 + _BEYOND).any():
        raise InputError(
            f"{path}: ROI {number} has a contour that leaves the image; it is drawn on another "
            f"series, or damaged"
        )
    return centres_Nx2 + 0.5


def join_contours(contours: list[_Contour], shape: tuple[int, int]) -> np.ndarray:
    """Joins the contours of one slice and one structure, bool [H, W]: see above.

    Example:
        >>> outer, inner = (np.array([(a, a), (b, a), (b, b), (a, b)]) for a, b in ((0, 5), (1, 4)))
        >>> closed = [_Contour("CLOSED_PLANAR", points) for points in (inner, outer)]
        >>> int(join_contours(closed, (5, 5)).sum())
        16
    """
    # A contour that stands twice, perhaps from another point on, fills the same pixels.
    every = [(kind, fill_polygon(points_Nx2, shape)) for kind, points_Nx2 in contours]
    filled = list({(kind, inside.tobytes()): (kind, inside) for kind, inside in every}.values())
    filled.sort(key=lambda pair: -int(pair[1].sum()))
    mask_HxW = np.zeros(shape, bool)
    for kind, inside_HxW in filled:
        if kind == _XOR or mask_HxW[inside_HxW].all():
            mask_HxW ^= inside_HxW
        else:
            mask_HxW |= inside_HxW
    return mask_HxW
