"""The report of a check: for the console, as check.json and as check.html."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jaxlung.data.splits import SPLITS
from jaxlung.data_check.check import Check, ranking
from jaxlung.data_check.consensus import Disagreement
from jaxlung.data_check.kinds import KINDS, Finding, list_counts
from jaxlung.errors import InputError, format_shape
from jaxlung.io.page import encode_picture, render_page
from jaxlung.io.viewers.drawing import draw_thumbnail
from jaxlung.system.environment import describe_environment
from jaxlung.system.files import write_json, write_text

SCHEMA = "jaxlung-data-check-1"
OUTPUTS = ("check.json", "check.html")
NAMED = 12  # findings of one kind that the console lists with their messages; the files have all
MORE = 50  # further ones that it lists by name alone
WORST = 48  # pictures of the most suspicious pairs
COPIES = 8  # groups of copies that are drawn, two of each


def format_summary(result: Check) -> str:
    """Writes the summary for a console."""
    facts = summarize_check(result)
    lines = [f"{result.source}: {facts['pairs']} pairs, read in {result.seconds:.1f} s"]
    for name, title in (("sizes", "sizes"), ("image_formats", "images"), ("mask_formats", "masks")):
        counts = list_counts(facts[name].items())
        shown = ", ".join(counts[:5])
        more = f" and {len(counts) - 5} more" if len(counts) > 5 else ""
        lines.append(f"  {title:10}{shown or 'none that can be read'}{more}")
    if facts["coverage"]:
        low, middle, high = (facts["coverage"][name] for name in ("min", "median", "max"))
        lines.append(f"  {'lung':10}{low:.1%} to {high:.1%} of the picture, median {middle:.1%}")
    if facts["agreement"]:
        lines.append(
            f"  {'agreement':10}median Dice {facts['agreement']['median']:.3f} between a mask and "
            f"what the other pairs lead to expect"
        )
    else:
        lines.append(f"  {'agreement':10}not measured: too few pairs to compare with one another")
    sizes = ", ".join(f"{name} {n}" for name, n in facts["splits"].items())
    lines.append(f"  {'splits':10}{sizes} (by {result.split_by})")
    for title, found in (("ERRORS", result.errors()), ("WARNINGS", result.warnings())):
        lines += ["", f"{title}: {len(found)}"]
        for kind in dict.fromkeys(f.kind for f in found):
            lines += _kind_lines(kind, [f for f in found if f.kind == kind])
    suspects = [entry for entry in ranking(result) if entry[1] >= 1]
    if suspects:
        lines += ["", f"MOST SUSPICIOUS of {len(suspects)} (1 is worth a warning):"]
        lines += [
            f"  {n + 1:3}. {image_id}  {value:.2f}  {KINDS[kind].title}"
            for n, (image_id, value, kind) in enumerate(suspects[:NAMED])
        ]
    verdict = (
        "not fit for training: mend the errors first"
        if result.errors()
        else "training can go ahead" + ("; look at the warnings" if result.warnings() else "")
    )
    return "\n".join([*lines, "", verdict])


def _kind_lines(kind: str, found: Sequence[Finding]) -> list[str]:
    lines = [f"  {KINDS[kind].title} ({len(found)}). {KINDS[kind].remedy}"]
    for finding in found[:NAMED]:
        parts = [part for part in (format_names(finding), finding.message) if part]
        lines.append(f"    {': '.join(parts)}")
    if len(found) > NAMED:
        more = list(dict.fromkeys(format_names(finding) for finding in found[NAMED:]))
        rest = f", ... (--out DIR lists all {len(found)})" if len(more) > MORE else ""
        lines.append(f"    and {len(found) - NAMED} more: {', '.join(more[:MORE])}{rest}")
    return lines


def format_names(finding: Finding) -> str:
    """Returns the file of a finding, or the ids of its images."""
    if finding.file:
        return finding.file
    shown = ", ".join(finding.ids[:6])
    return shown + (f" and {len(finding.ids) - 6} more" if len(finding.ids) > 6 else "")


def summarize_check(result: Check) -> dict[str, Any]:
    """Counts the files and findings of the whole folder, for `summary` of check.json."""
    records, splits = result.records, Counter(result.splits.values())
    return {
        "pairs": len(records),
        "errors": len(result.errors()),
        "warnings": len(result.warnings()),
        "kinds": dict(Counter(f.kind for f in result.findings)),
        "sizes": _count(format_shape(r.size) for r in records if r.size),
        "image_formats": _count(r.image_format for r in records),
        "mask_formats": _count(r.mask_format for r in records),
        "coverage": _spread([r.content.shape.coverage for r in records if r.content]),
        "agreement": _spread([d.agreement for d in _disagreements(result).values()]),
        "splits": {name: splits[name] for name in SPLITS},
        "split_by": result.split_by,
    }


def _disagreements(result: Check) -> dict[str, Disagreement]:
    """Returns what is known of each mask beside the expected one, by id."""
    return {i: row.disagreement for i, row in result.compared.items() if row.disagreement}


def _count(names: Iterable[str]) -> dict[str, int]:
    """Counts each name that is not empty, the most common first."""
    return dict(Counter(name for name in names if name).most_common())


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    return {"min": round(low, 4), "median": round(middle, 4), "max": round(high, 4)}


def to_json(result: Check) -> dict[str, Any]:
    """Makes the content of check.json; docs/reference/data_check.md has the keys."""
    disagreements = _disagreements(result)
    rank = {i: (n, value, kind) for n, (i, value, kind) in enumerate(ranking(result), start=1)}
    images = []
    for record in result.records:
        *slices, height, width = record.size or (None, None)
        shape = record.content.shape if record.content else None
        disagreement = disagreements.get(record.id)
        place, suspicion, kind = rank.get(record.id, (None, None, None))
        images.append(
            {
                "id": record.id,
                "split": result.splits.get(record.id),
                "slices": slices[0] if slices else None,
                "height": height,
                "width": width,
                "image_format": record.image_format or None,
                "mask_format": record.mask_format or None,
                "coverage": shape and round(shape.coverage, 5),
                "pieces": shape and shape.pieces,
                "agreement": disagreement and round(disagreement.agreement, 4),
                "rank": place,
                "suspicion": None if suspicion is None else round(suspicion, 3),
                "suspicion_kind": kind if suspicion else None,
            }
        )
    return {
        "schema": SCHEMA,
        "source": result.source,
        "fit_for_training": not result.errors(),
        "summary": summarize_check(result),
        "findings": [
            {
                "severity": KINDS[f.kind].severity,
                "kind": f.kind,
                "ids": list(f.ids),
                "file": f.file or None,
                "message": f.message,
                "evidence": round(f.evidence, 3),
            }
            for f in result.findings
        ],
        "images": images,
        "environment": describe_environment(),
        "seconds": round(result.seconds, 2),
    }


def write_report(result: Check, out: Path) -> None:
    """Writes check.json and check.html."""
    write_json(out / "check.json", to_json(result))
    write_text(out / "check.html", render(result))


def render(result: Check) -> str:
    """Makes the HTML page, which needs no file and no address outside of it."""
    report = to_json(result)
    cases = _cases(result)
    anchor = {case["id"]: case["anchor"] for case in cases}
    groups = [
        {
            **KINDS[kind]._asdict(),
            "findings": [
                (format_names(f), f.message, anchor.get(f.ids[0]) if f.ids else None)
                for f in result.findings
                if f.kind == kind
            ],
        }
        for kind in dict.fromkeys(f.kind for f in result.findings)
    ]
    return render_page(
        "jaxlung.data_check",
        "check.html.j2",
        report=report,
        images=sorted(report["images"], key=lambda image: image["rank"] or 0),  # errors first
        groups=groups,
        cases=cases,
        copies=_copies(result),
    )


def _cases(result: Check) -> list[dict[str, Any]]:
    """Draws the pairs with an error that can be drawn, then the most suspicious ones."""
    messages: dict[str, list[str]] = {}
    for finding in result.findings:
        for image_id in finding.ids:
            message = f"{KINDS[finding.kind].title}: {finding.message}"
            messages.setdefault(image_id, []).append(message)
    suspicion = {image_id: value for image_id, value, _ in ranking(result)}
    faulty = [i for f in result.errors() for i in f.ids]
    worst = [image_id for image_id, value in suspicion.items() if value >= 1]
    cases: list[dict[str, Any]] = []
    for image_id in dict.fromkeys([*faulty, *worst]):
        if len(cases) == WORST:  # before another file is read
            break
        if picture := _picture(result, image_id):
            cases.append(
                {
                    "id": image_id,
                    "anchor": f"case{len(cases)}",
                    "picture": picture,
                    "suspicion": suspicion.get(image_id),
                    "messages": messages.get(image_id, []),
                }
            )
    return cases


def _copies(result: Check) -> list[dict[str, Any]]:
    groups = [f for f in result.findings if f.kind in ("duplicate_across_splits", "near_duplicate")]
    return [
        {
            "message": f"{format_names(f)} {f.message}",
            "pictures": [
                {"id": i, "split": result.splits.get(i), "picture": _picture(result, i)}
                for i in f.ids[:2]
            ],
        }
        for f in groups[:COPIES]
    ]


def _picture(result: Check, image_id: str) -> Mapping[str, Any] | None:
    """Draws an image with its mask's outline and the expected one; None if it cannot be drawn."""
    if all(record.id != image_id for record in result.records):
        return None  # half a pair
    try:
        image, mask_HxW = result.read(image_id)
    except InputError:
        return None
    if image.shape[:2] != mask_HxW.shape:
        return None
    expected = np.zeros_like(mask_HxW)
    row = result.compared.get(image_id)
    if row and row.expected_GxG is not None:
        height, width = mask_HxW.shape
        expected = cv2.resize(row.expected_GxG, (width, height), interpolation=cv2.INTER_LINEAR)
        expected = expected > 127
    return encode_picture(draw_thumbnail(image, expected, mask_HxW), image_id)
