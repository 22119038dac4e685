"""From the records of a set's pairs to findings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxlung.data.duplicates import BITS, find_duplicates
from jaxlung.data_check import consensus
from jaxlung.data_check.consensus import Disagreement
from jaxlung.data_check.files import Content, Record
from jaxlung.data_check.kinds import KINDS, Finding, list_counts
from jaxlung.masks.shape import (
    HOLES,
    ONE_LUNG,
    OUTLIER,
    has_one_lung,
    is_inverted,
    lungs_joined,
    outliers,
    strays,
)

LOW_CONTRAST = 64  # grey levels of 255 between the 1st and 99th percentile
INVERTED_IMAGE = -0.1  # of `measure_contrast`
SIDES_RATIO = 2.0  # longer over shorter side of a file


Evidence = dict[
    str, dict[str, float]
]  # id to kind to evidence, in units of what is worth a warning


class Compared(NamedTuple):
    """What comparing the pairs with one another shows, in the order of `ids`."""

    ids: tuple[str, ...]
    expected_NxGxG: np.ndarray | None  # uint8; None: too few pairs
    disagreements: tuple[Disagreement, ...]  # () likewise
    suspicion: Evidence
    findings: tuple[Finding, ...]


def compare_pairs(records: Sequence[Record], splits: Mapping[str, str]) -> Compared:
    """Compares the pairs with one another, and weighs the shape of each mask.

    Args:
        records: sorted by id; those without content are left out.
        splits: id to split.
    """
    files = {r.id: r.content for r in records if r.content is not None}
    inverted = [i for i, c in files.items() if is_inverted(c.shape)]
    findings = [_describe_inverted(i, files[i]) for i in inverted]
    findings += _find_copies(files, splits)
    usual = {i: c for i, c in files.items() if i not in inverted}
    ids = tuple(usual)
    evidence = {i: _weigh_shape(c) for i, c in usual.items()}
    if len(ids) >= 8:  # fewer have no spread to speak of
        coverage_N, aspect_N = outliers([c.shape for c in usual.values()])
        for i, coverage, aspect in zip(ids, coverage_N, aspect_N, strict=True):
            evidence[i]["coverage"] = abs(float(coverage)) / OUTLIER
            evidence[i]["aspect"] = abs(float(aspect)) / OUTLIER
    expected = None
    disagreements: tuple[Disagreement, ...] = ()
    if len(ids) >= consensus.MIN_PAIRS:
        masks = np.stack([c.mask_GxG for c in usual.values()])
        expected = consensus.expected_masks(
            np.stack([c.appearance_D for c in usual.values()]), masks
        )
        disagreements = tuple(map(consensus.measure_disagreement, masks, expected))
        slack = consensus.measure_slack(disagreements)
        for i, d in zip(ids, disagreements, strict=True):
            evidence[i] |= consensus.weigh_evidence(d, slack)
        swaps = _find_swaps(ids, disagreements, masks, expected, slack)
        findings += swaps
        evidence = _explain_by_swaps(evidence, swaps)
        median = float(np.median([d.agreement for d in disagreements]))
        if median < consensus.FOLLOWS:
            message = (
                f"the masks follow the images badly (median Dice {median:.2f} between a mask and "
                f"what the other pairs lead to expect): are names mixed up, or the films of "
                f"different kinds?"
            )
            findings.append(Finding("unrelated", (), "", message))
    for n, i in enumerate(ids):
        messages = _describe_shape(usual[i])
        if disagreements:
            messages |= _describe_place(disagreements[n])
        findings += [
            Finding(kind, (i,), "", messages[kind], value)
            for kind, value in evidence[i].items()
            if value >= 1 and kind != "swapped_masks"
        ]
    return Compared(ids, expected, disagreements, evidence, tuple(findings))


def _describe_inverted(image_id: str, content: Content) -> Finding:
    shape = content.shape
    message = (
        f"covers {shape.border:.0%} of the picture's frame and {shape.coverage:.0%} of the picture:"
        f" exchange 0 and the other value"
    )
    return Finding("inverted_mask", (image_id,), "", message, shape.border)


def _weigh_shape(content: Content) -> dict[str, float]:
    """Weighs what a pair alone shows, in units of what is worth a warning."""
    shape = content.shape
    return {
        "one_lung": 2 - shape.lesser_half / ONE_LUNG if has_one_lung(shape) else 0.0,
        "pieces": strays(shape),
        "holes": shape.holes / HOLES,
        "joined_lungs": float(lungs_joined(shape)),
        "inverted_image": max(0.0, shape.contrast / INVERTED_IMAGE),
        "low_contrast": LOW_CONTRAST / max(content.spread, 1) if content.spread else 0.0,
        "colour": float(content.is_coloured),
    }


def _describe_shape(content: Content) -> dict[str, str]:
    """Writes the message of each kind of finding about a pair alone."""
    shape = content.shape
    return {
        "one_lung": f"has {shape.lesser_half:.0%} of its area in one half of the picture",
        "pieces": f"is in {shape.pieces} pieces; {shape.stray:.2%} of its area is beyond two lungs",
        "holes": f"has holes of {shape.holes:.1%} of its area",
        "joined_lungs": "has both lungs in one piece, so that they cannot be scored apart",
        "coverage": f"covers {shape.coverage:.1%} of the picture, far from this set's usual share",
        "aspect": f"lungs are {shape.aspect:.2f} times as wide as high in the file, unlike this "
        f"set's others: was it stretched or turned?",
        "inverted_image": "shows the lungs brighter than what surrounds them: a negative?",
        "low_contrast": f"99 % of it lies within {content.spread:.0f} of 255 grey levels: a few "
        f"extreme pixels may squeeze the rest",
        "colour": "is coloured: are there annotations drawn on it?",
    }


def _describe_place(d: Disagreement) -> dict[str, str]:
    """Writes the message of each kind of finding about a mask beside the expected one."""
    away = []
    if d.shift_x:
        side = "right" if d.shift_x > 0 else "left"
        away.append(f"{abs(d.shift_x):.0%} of the width to the {side}")
    if d.shift_y:
        away.append(f"{abs(d.shift_y):.0%} of the height {'down' if d.shift_y > 0 else 'up'}")
    way = "upside down" if d.flip_gain > d.mirror_gain else "mirrored left to right"
    turned = d.agreement + max(d.flip_gain, d.mirror_gain)
    marks, would = ("marks", "leave out") if d.region_is_extra else ("leaves out", "mark")
    return {
        "misaligned_mask": f"lies about {' and '.join(away)} of where it fits best (Dice with what "
        f"is expected {d.agreement:.2f}, moved back {d.agreement + d.shift_gain:.2f})",
        "mirrored_mask": f"fits better {way} (Dice {d.agreement:.2f}, then {turned:.2f})",
        "unexpected_outline": f"{marks} a region of {d.region:.0%} of its area that the other "
        f"masks would {would}, about {d.region_x:.0%} from the left and {d.region_y:.0%} from the "
        f"top",
    }


def _find_swaps(
    ids: Sequence[str],
    disagreements: Sequence[Disagreement],
    masks: np.ndarray,
    expected: np.ndarray,
    slack: float,
) -> list[Finding]:
    """Finds masks that were exchanged with one another."""
    findings = []
    least = consensus.SWAP_GAIN * slack
    for swap in consensus.find_swaps(masks, expected, least):
        first, second = disagreements[swap.first], disagreements[swap.second]
        if first.shift_gain + second.shift_gain >= swap.gain:
            continue  # a shift explains it better
        message = (
            f"masks fit better exchanged (Dice {first.agreement:.2f} and {second.agreement:.2f}, "
            f"{swap.gain:.2f} more in all)"
        )
        pair = (ids[swap.first], ids[swap.second])
        findings.append(Finding("swapped_masks", pair, "", message, swap.gain / least))
    return findings


def _explain_by_swaps(evidence: Evidence, swaps: Sequence[Finding]) -> Evidence:
    """Returns the evidence with that of swaps, and without what they explain better."""
    explained = {"misaligned_mask": 0.0, "mirrored_mask": 0.0}
    swapped = {i: {**explained, "swapped_masks": s.evidence} for s in swaps for i in s.ids}
    return {i: {**values, **swapped.get(i, {})} for i, values in evidence.items()}


def _find_copies(files: Mapping[str, Content], splits: Mapping[str, str]) -> list[Finding]:
    ids = list(files)
    if not ids:
        return []
    findings = []
    hashes = np.stack([c.hash_32 for c in files.values()])
    for group in find_duplicates(hashes, [c.image_digest for c in files.values()]):
        members = tuple(ids[i] for i in group.members)
        within = sorted({splits[i] for i in members if i in splits})
        kind = "duplicate_across_splits" if len(within) > 1 else "near_duplicate"
        how = "the same pixels" if group.is_exact else f"{group.bits} of {BITS} bits differ"
        change = f", {group.change}" if group.change else ""
        across = f"; they are in {' and '.join(within)}" if len(within) > 1 else ""
        message = f"are copies of one image ({how}{change}){across}"
        evidence = BITS - group.bits + group.is_exact
        findings.append(Finding(kind, members, "", message, evidence))
    by_mask: dict[str, list[str]] = {}
    for i, content in files.items():
        by_mask.setdefault(content.mask_digest, []).append(i)
    copies = [set(finding.ids) for finding in findings]
    for same in by_mask.values():
        if len(same) > 1 and not any(group.issuperset(same) for group in copies):
            findings.append(Finding("duplicate_mask", tuple(same), "", "have the very same mask"))
    return findings


def find_in_whole_set(records: Sequence[Record]) -> list[Finding]:
    """Finds what the formats and sizes of all files show together."""
    findings = []
    sound = [r for r in records if r.content]
    for what in ("image", "mask"):
        format_of = {r.id: getattr(r, f"{what}_format") for r in sound}
        formats = Counter(format_of.values()).most_common()
        if len(formats) > 1:
            others = tuple(i for i, name in format_of.items() if name != formats[0][0])
            message = f"{what}s: {'; '.join(list_counts(formats))}"
            findings.append(Finding("mixed_formats", others, "", message))
    labelled = [r for r in sound if "labels" in r.mask_format]
    if labelled:
        kinds = Counter(r.mask_format.split("labels ")[1] for r in labelled).most_common()
        listed = ", ".join(list_counts(kinds))
        message = f"{len(labelled)} masks hold labels {listed}; all but 0 counts as lung"
        findings.append(Finding("labels", tuple(r.id for r in labelled), "", message))
    sizes = {r.id: r.size for r in records if r.size}
    for i, size in sizes.items():
        if max(size) > SIDES_RATIO * min(size):
            message = f"is {size[0]}x{size[1]} (height x width), unusually long for a chest"
            findings.append(Finding("aspect", (i,), "", message, max(size) / min(size)))
    if len(sizes) >= 8 and len(set(sizes.values())) == 1:
        [(height, width)] = set(sizes.values())
        if height == width:
            message = f"all {len(sizes)} images are {height}x{width}: were they stretched to that?"
            findings.append(Finding("square_files", (), "", message))
    return findings


def sort_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Sorts findings, worst first: by kind, then by evidence, then by name."""
    rank = {kind: n for n, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda f: (rank[f.kind], -f.evidence, f.ids, f.file, f.message))
