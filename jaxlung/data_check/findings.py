"""From the records of a set's pairs to findings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlung.data.duplicates import BITS, find_duplicates
from jaxlung.data_check import consensus
from jaxlung.data_check.consensus import Disagreement
from jaxlung.data_check.files import Content, Record
from jaxlung.data_check.kinds import KINDS, Finding, list_counts
from jaxlung.errors import format_shape
from jaxlung.masks import shape as shapes

LOW_CONTRAST = 64  # grey levels of 255 between the 1st and 99th percentile
INVERTED_IMAGE = -0.1  # of `measure_contrast`
SIDES_RATIO = 2.0  # longer over shorter side of a file


class Compared(NamedTuple):
    """What comparing a pair with the others shows."""

    evidence: dict[str, float]  # kind to evidence, in units of what is worth a warning
    expected_GxG: np.ndarray | None = None  # uint8; None: too few pairs
    disagreement: Disagreement | None = None  # None likewise


def compare_pairs(
    records: Sequence[Record], splits: Mapping[str, str]
) -> tuple[dict[str, Compared], list[Finding]]:
    """Compares the pairs with one another, and weighs the shape of each mask.

    Args:
        records: sorted by id; those without content are left out.
        splits: id to split.

    Returns:
        what each pair shows, by id, but for pairs with an inverted mask; and the findings.
    """
    files = {r.id: r.content for r in records if r.content is not None}
    findings = find_copies(files, splits)
    usual: dict[str, Content] = {}
    for i, content in files.items():
        shape = content.shape
        if shapes.is_inverted(shape):
            message = (
                f"covers {shape.border:.0%} of the picture's frame and {shape.coverage:.0%} of the "
                f"picture: exchange 0 and the other value"
            )
            findings.append(Finding("inverted_mask", (i,), message, evidence=shape.border))
        else:
            usual[i] = content
    compared = {i: Compared(_weigh_shape(content)) for i, content in usual.items()}
    if len(usual) >= 8:  # fewer have no spread to speak of
        spread = zip(*shapes.outliers([content.shape for content in usual.values()]), strict=True)
        for row, (coverage, aspect) in zip(compared.values(), spread, strict=True):
            row.evidence["coverage"] = abs(float(coverage)) / shapes.OUTLIER
            row.evidence["aspect"] = abs(float(aspect)) / shapes.OUTLIER
    if len(usual) >= consensus.MIN_PAIRS:
        findings += _compare_places(usual, compared)
    for i, row in compared.items():
        messages = _describe_shape(usual[i])
        if row.disagreement:
            messages |= _describe_place(row.disagreement)
        findings += [
            Finding(kind, (i,), messages[kind], evidence=value)
            for kind, value in row.evidence.items()
            if value >= 1 and kind != "swapped_masks"
        ]
    return compared, findings


def _compare_places(usual: Mapping[str, Content], compared: dict[str, Compared]) -> list[Finding]:
    """Adds what differs from the expected masks to `compared`; finds exchanged masks."""
    ids, findings = list(usual), []
    masks = np.stack([content.mask_GxG for content in usual.values()])
    appearances_NxD = np.stack([content.appearance_D for content in usual.values()])
    expected = consensus.expected_masks(appearances_NxD, masks)
    disagreements = list(map(consensus.measure_disagreement, masks, expected))
    median = float(np.median([d.agreement for d in disagreements]))
    if median < consensus.FOLLOWS:
        message = (
            f"the masks follow the images badly (median Dice {median:.2f} between a mask and what "
            f"the other pairs lead to expect): are names mixed up, or the films of different kinds?"
        )
        findings.append(Finding("unrelated", (), message))
    slack = consensus.measure_slack(median)
    for i, expected_GxG, d in zip(ids, expected, disagreements, strict=True):
        evidence = compared[i].evidence | consensus.weigh_evidence(d, slack)
        compared[i] = Compared(evidence, expected_GxG, d)
    least = consensus.SWAP_GAIN * slack
    for swap in consensus.find_swaps(masks, expected, least):
        first, second = disagreements[swap.first], disagreements[swap.second]
        if first.shift_gain + second.shift_gain >= swap.gain:
            continue  # a shift explains it better
        message = (
            f"masks fit better exchanged (Dice {first.agreement:.2f} and {second.agreement:.2f}, "
            f"{swap.gain:.2f} more in all)"
        )
        pair, value = (ids[swap.first], ids[swap.second]), swap.gain / least
        findings.append(Finding("swapped_masks", pair, message, evidence=value))
        for i in pair:  # the exchange explains these better
            compared[i].evidence.update(swapped_masks=value, misaligned_mask=0.0, mirrored_mask=0.0)
    return findings


def _weigh_shape(content: Content) -> dict[str, float]:
    """Weighs what a pair alone shows, in units of what is worth a warning."""
    shape = content.shape
    return {
        "one_lung": 2 - shape.lesser_half / shapes.ONE_LUNG if shapes.has_one_lung(shape) else 0.0,
        "pieces": shapes.strays(shape),
        "holes": shape.holes / shapes.HOLES,
        "joined_lungs": float(shapes.lungs_joined(shape)),
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


def find_copies(files: Mapping[str, Any], splits: Mapping[str, str]) -> list[Finding]:
    """Finds copies of one image, and masks that several images share.

    Args:
        files: id to what is kept of a pair: its image_digest, mask_digest and hash_32.
        splits: id to split.
    """
    ids, findings = list(files), []
    if not ids:
        return []
    hashes = np.stack([content.hash_32 for content in files.values()])
    for group in find_duplicates(hashes, [content.image_digest for content in files.values()]):
        members = tuple(ids[i] for i in group.members)
        within = sorted({splits[i] for i in members if i in splits})
        kind, across = "near_duplicate", ""
        if len(within) > 1:
            kind = "duplicate_across_splits"
            across = f"; they are in {' and '.join(within)}"
        how = "the same pixels" if group.is_exact else f"{group.bits} of {BITS} bits differ"
        change = f", {group.change}" if group.change else ""
        message = f"are copies of one image ({how}{change}){across}"
        evidence = BITS - group.bits + group.is_exact
        findings.append(Finding(kind, members, message, evidence=evidence))
    by_mask: dict[str, list[str]] = {}
    for i, content in files.items():
        by_mask.setdefault(content.mask_digest, []).append(i)
    copies = [set(finding.ids) for finding in findings]
    for same in by_mask.values():
        if len(same) > 1 and not any(group.issuperset(same) for group in copies):
            findings.append(Finding("duplicate_mask", tuple(same), "have the very same mask"))
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
            findings.append(Finding("mixed_formats", others, message))
    labelled = [r for r in sound if "labels" in r.mask_format]
    if labelled:
        kinds = Counter(r.mask_format.split("labels ")[1] for r in labelled).most_common()
        listed = ", ".join(list_counts(kinds))
        message = f"{len(labelled)} masks hold labels {listed}; all but 0 counts as lung"
        findings.append(Finding("labels", tuple(r.id for r in labelled), message))
    sizes = {r.id: r.size for r in records if r.size}
    for i, size in sizes.items():
        long = max(size) / min(size)
        if long > SIDES_RATIO:
            message = f"is {format_shape(size)} (height x width), unusually long for a chest"
            findings.append(Finding("aspect", (i,), message, evidence=long))
    if len(sizes) >= 8 and len(set(sizes.values())) == 1:
        size = next(iter(sizes.values()))
        if size[0] == size[1]:
            message = (
                f"all {len(sizes)} images are {format_shape(size)}: were they stretched to that?"
            )
            findings.append(Finding("square_files", (), message))
    return findings


def sort_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Sorts findings, worst first: by kind, then by evidence, then by name."""
    rank = {kind: n for n, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda f: (rank[f.kind], -f.evidence, f.ids, f.file, f.message))
