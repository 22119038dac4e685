"""CT volumes with masks, pair by pair: what reading each shows. One pair is in memory at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.config import DataConfig
from jaxlung.data.duplicates import perceptual_hash, standardise
from jaxlung.data.folder import Pair
from jaxlung.data_check import alignment
from jaxlung.data_check.files import Reading, Record, relative
from jaxlung.data_check.findings import Compared, find_copies
from jaxlung.data_check.kinds import Finding
from jaxlung.errors import InputError, format_shape
from jaxlung.io.ct.hounsfield import apply_window, read_scan, to_hounsfield
from jaxlung.io.ct.labels import is_same_grid, read_label_volume
from jaxlung.io.volumes import Grid, Volume, read_volume
from jaxlung.predict.volumes import check_lungs
from jaxlung.preprocess import to_canvas
from jaxlung.system.digests import digest_array

# What is worth a warning; docs/data_check.md has the evidence.
GAIN = 0.05  # of Dice with the air inside of the body, by moving or turning the mask
UNLIKE = 0.5  # Dice below which a mask does not lie on lungs
CUT = 0.1  # share of tissue in the planes at both ends of an axis across which a body is cut
STRAY = 0.02  # of the mask, beyond its two largest pieces
SECOND = 0.1  # of the larger lung: a smaller second piece is no lung
PIXEL, SLICE, FIELD = (0.2, 3.0), (0.2, 10.0), (150, 800)  # mm that a chest CT may have
_INVERTED = 0.5  # share of the frame of all slices
_SIDE = 256  # of the canvas that copies are looked for on


class VolumeFacts(NamedTuple):
    """What is kept of a pair that can be trained on."""

    image_digest: str
    mask_digest: str
    hash_32: np.ndarray  # of `perceptual_hash`, of the scan seen from the front
    evidence: dict[str, float]  # kind to evidence, in units of what is worth a warning


def read_volume_pair(directory: Path, pair: Pair) -> tuple[Record, VolumeFacts | None]:
    """Reads both files and measures what can be measured; never raises InputError.

    Returns:
        the record, whose size is slices, height and width; and what is kept for comparisons, None
        where an error leaves nothing to compare.
    """
    image_file, mask_file = relative(directory, pair.image), relative(directory, pair.mask)
    reading = Reading(pair.id, image_file, mask_file)
    scan = mask = None
    with reading.keep_fault("unreadable", image_file, pair.image):
        scan = read_volume(pair.image, rounded=True)
        if not scan.placed:
            reading.add("default_header", image_file, f"has a {scan.warnings[0]}")
        with reading.keep_fault("not_hu", image_file, pair.image):
            said = len(scan.warnings)
            scan = to_hounsfield(scan, pair.image)
            for warning in scan.warnings[said:]:
                reading.add("shifted_hu", image_file, f"is {warning}")
    with reading.keep_fault("mask_values", mask_file, pair.mask):
        mask = read_label_volume(pair.mask)
    if scan and mask and not is_same_grid(scan.grid, mask.grid):
        reading.add("other_grid", mask_file, _describe_grids(mask.grid, scan.grid))
    if mask and not mask.voxels_ZxHxW.any():
        reading.add("empty_mask", mask_file, "marks no lung: every voxel is 0")
    elif mask and mask.voxels_ZxHxW.all():
        reading.add("full_mask", mask_file, "marks the whole scan as lung")
    elif mask and (frame := _measure_frame(mask.voxels_ZxHxW)) > _INVERTED:
        message = f"covers {frame:.0%} of the slices' frames: exchange 0 and the other value"
        reading.add("inverted_mask", mask_file, message)
    facts = None
    broken = {f.kind for f in reading.findings} - {"default_header", "shifted_hu"}
    if scan and mask and not broken:
        facts = _measure(reading, scan, mask)
    size = scan.voxels_ZxHxW.shape if scan else None
    formats = [f"{v.voxels_ZxHxW.dtype}, {_format_spacing(v)}" if v else "" for v in (scan, mask)]
    return Record(pair.id, size, formats[0], formats[1], tuple(reading.findings), None), facts


def compare_volumes(
    facts: Mapping[str, VolumeFacts], splits: Mapping[str, str]
) -> tuple[dict[str, Compared], list[Finding]]:
    """Finds copies among the scans; returns what each pair shows, and the copies."""
    compared = {name: Compared(own.evidence) for name, own in facts.items()}
    return compared, find_copies(facts, splits)


def read_middle(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Reads the slice with most lung, for a picture: uint8 and bool [H, W]."""
    scan, mask = read_scan(pair.image), read_label_volume(pair.mask)
    z = int(np.argmax(np.count_nonzero(mask.voxels_ZxHxW, axis=(1, 2))))
    if scan.voxels_ZxHxW.shape != mask.voxels_ZxHxW.shape:
        raise InputError(f"{pair.mask}: lies on another grid than its scan")
    low, high = DataConfig.window_low, DataConfig.window_high
    return apply_window(scan.voxels_ZxHxW[z], low, high), mask.voxels_ZxHxW[z] > 0


def _describe_grids(mask: Grid, scan: Grid) -> str:
    own, other = format_shape(mask.shape), format_shape(scan.shape)
    if sorted(mask.shape) != sorted(scan.shape):
        return f"has {own} voxels but its scan {other}"
    if mask.shape != scan.shape:
        return f"has {own} voxels but its scan {other}: were its axes exchanged?"
    if not np.allclose(mask.affine_4x4[:3, :3], scan.affine_4x4[:3, :3], 1e-3, 1e-3):
        return "has its scan's shape but other spacings or directions of its axes"
    apart = np.linalg.norm(mask.affine_4x4[:3, 3] - scan.affine_4x4[:3, 3])
    return f"has its scan's shape but lies {apart:.4g} mm beside it"


def _measure_frame(mask_ZxHxW: np.ndarray) -> float:
    sides = mask_ZxHxW[:, [0, -1]], mask_ZxHxW[:, :, [0, -1]]
    return sum(map(np.count_nonzero, sides)) / sum(side.size for side in sides)


def _format_spacing(volume: Volume) -> str:
    if not volume.placed:
        return "spacing unknown"
    return f"{'x'.join(f'{side:.3g}' for side in volume.spacing)} mm"


def _measure(reading: Reading, scan: Volume, mask: Volume) -> VolumeFacts:
    """Adds what is worth a warning to the findings, and keeps what comparisons need."""
    lung_ZxHxW = mask.voxels_ZxHxW > 0
    weighed = weigh_pair(scan, lung_ZxHxW)
    for kind, (evidence, message) in weighed.items():
        if evidence >= 1:
            finding = Finding(kind, (reading.id,), message, reading.mask_file, evidence)
            reading.findings.append(finding)
    labels = np.flatnonzero(np.bincount(mask.voxels_ZxHxW.ravel(), minlength=256))
    if len(labels) > 2:
        shown = " ".join(map(str, labels[1:9]))
        message = f"holds {len(labels) - 1} labels ({shown}); all but 0 counts as lung"
        reading.add("labels", reading.mask_file, message)
    low, high = DataConfig.window_low, DataConfig.window_high
    hu_ZxHxW = scan.voxels_ZxHxW[alignment.coarse_steps(lung_ZxHxW.shape)]
    front_ZxW = apply_window(hu_ZxHxW, low, high).mean(axis=1)[::-1]
    canvas_SxS, _, _ = to_canvas(front_ZxW.astype(np.uint8), size=_SIDE, fit="stretch")
    return VolumeFacts(
        digest_array(scan.voxels_ZxHxW),
        digest_array(lung_ZxHxW),
        perceptual_hash(standardise(canvas_SxS)),
        {kind: evidence for kind, (evidence, _) in weighed.items()},
    )


def weigh_pair(scan: Volume, lung_ZxHxW: np.ndarray) -> dict[str, tuple[float, str]]:
    """Weighs what is odd about a scan in Hounsfield units and its mask, bool [Z, H, W].

    Returns:
        kind to evidence, in units of what is worth a warning, and message.
    """
    steps = alignment.coarse_steps(lung_ZxHxW.shape)
    hu_ZxHxW, coarse_ZxHxW = scan.voxels_ZxHxW[steps], lung_ZxHxW[steps]
    weighed = {
        **_weigh_place(coarse_ZxHxW, hu_ZxHxW, steps),
        **_weigh_axes(coarse_ZxHxW, hu_ZxHxW, tuple(step.step for step in steps), scan),
    }
    if scan.placed:
        for message in check_lungs(lung_ZxHxW, scan):
            weighed["lung_volume"] = 1.0, message
        weighed["spacing"] = _weigh_spacing(scan)
    return weighed


_Weighed = dict[str, tuple[float, str]]  # kind to evidence and message


def _weigh_place(mask_ZxHxW: np.ndarray, hu_ZxHxW: np.ndarray, steps: Sequence[slice]) -> _Weighed:
    """Weighs where the mask lies against the air inside of the body."""
    air_ZxHxW = alignment.find_inner_air(hu_ZxHxW)
    a = alignment.measure_alignment(mask_ZxHxW, air_ZxHxW, tuple(steps))
    turned, moved = a.turn_gain >= a.shift_gain, a.shift_gain > a.turn_gain
    ways = [
        f"{abs(places)} {name}"
        for places, name in zip(a.shift_ZYX, ("slices", "rows", "columns"), strict=True)
        if places
    ]
    agrees = f"agrees with the air inside of the body by Dice {a.dice:.2f}"
    explained = max(a.turn_gain, a.shift_gain) >= GAIN and (
        a.dice + max(a.turn_gain, a.shift_gain) > UNLIKE
    )
    return {
        "mirrored_mask": (
            a.turn_gain / GAIN if turned and explained else 0.0,
            f"{agrees}, {a.turn} by {a.dice + a.turn_gain:.2f}",
        ),
        "misaligned_mask": (
            a.shift_gain / GAIN if moved and explained else 0.0,
            f"{agrees}, moved by about {' and '.join(ways)} by {a.dice + a.shift_gain:.2f}",
        ),
        "not_on_lung": (
            0.0 if explained else UNLIKE / max(a.dice, 0.01),
            f"{agrees} wherever it is moved: is it of another scan or structure?",
        ),
    }


def _weigh_axes(
    mask_ZxHxW: np.ndarray, hu_ZxHxW: np.ndarray, steps: tuple[int, ...], scan: Volume
) -> _Weighed:
    """Weighs the directions of the axes by the body, and the pieces of the mask."""
    along, rows, columns = alignment.measure_ends(hu_ZxHxW)
    across, name = max((rows, "front to back"), (columns, "right to left"))
    swapped = across / CUT if across > 2 * along else 0.0
    message = (
        f"goes on beyond the scan {name} ({across:.0%} tissue at both ends), not from feet to head "
        f"({along:.0%}): does the header name the axes in their order?"
    )
    sizes_N, centres_Nx3 = alignment.find_pieces(mask_ZxHxW)
    second = sizes_N[1] / sizes_N[0] if len(sizes_N) > 1 else 0.0
    if second >= SECOND:
        apart_3 = np.abs(centres_Nx3[0] - centres_Nx3[1]) * steps * scan.spacing
        beside = ("feet to head", "front to back", "right to left")[int(np.argmax(apart_3))]
        if beside != "right to left":
            swapped = max(swapped, float(apart_3.max() / max(apart_3[2], 1e-6)))
            message = (
                f"has its two lungs side by side from {beside}: does the header name the axes in "
                f"their order?"
            )
    centre = np.average(np.arange(hu_ZxHxW.shape[2]), weights=(hu_ZxHxW > -300).sum((0, 1)) + 1e-9)
    halves = mask_ZxHxW[:, :, : round(centre)].sum(), mask_ZxHxW[:, :, round(centre) :].sum()
    lesser = min(halves) / max(1, sum(halves))
    stray = float(sizes_N[2:].sum() / max(1, sizes_N.sum()))
    return {
        "swapped_axes": (swapped, message),
        "one_lung": (
            2 - lesser / SECOND if lesser <= SECOND else 0.0,
            f"has {lesser:.0%} of its volume on one side of the body's middle",
        ),
        "pieces": (
            stray / STRAY,
            f"is in {len(sizes_N)} pieces; {stray:.1%} of its volume is beyond two lungs",
        ),
    }


def _weigh_spacing(scan: Volume) -> tuple[float, str]:
    along, *pixel = scan.spacing
    field = [side * count for side, count in zip(pixel, scan.voxels_ZxHxW.shape[1:], strict=True)]
    limits = [(along, SLICE), *((side, PIXEL) for side in pixel), *((f, FIELD) for f in field)]
    evidence = max(max(low / value, value / high) for value, (low, high) in limits)
    message = (
        f"has voxels of {_format_spacing(scan)}, and slices of {field[0]:.0f} x "
        f"{field[1]:.0f} mm: are these of the scanner?"
    )
    return (evidence if evidence > 1 else 0.0), message
