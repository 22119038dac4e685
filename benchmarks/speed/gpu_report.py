"""Puts the parts of benchmarks/gpu.sh together: OUT/summary.md and OUT/summary.json.

python -m benchmarks.speed.gpu_report OUT WORK

OUT holds parts.tsv (name, exit status and seconds of each part), predict.json and the folders
train-WIDTH-DTYPE of speed.py; WORK holds the workdirs seeds and fsdp. What a part that failed did
not leave is missing.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.speed.speed_report import middle, utilisation  # noqa: E402
from jaxlung.train.log import read_history  # noqa: E402

COLUMNS = ("training step", "images/s", "MFU", "peak, GiB", "augmented", "8 steps a call")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("work", type=Path)
    arguments = parser.parse_args()
    found = gather(arguments.out, arguments.work)
    (arguments.out / "summary.json").write_text(json.dumps(found, indent=1))
    (arguments.out / "summary.md").write_text(write(found))
    print((arguments.out / "summary.md").read_text())


def gather(out: Path, work: Path) -> dict[str, Any]:
    """Returns the figures of the parts that have any, by part, and how each part ended."""
    rows = [line.split("\t") for line in (out / "parts.tsv").read_text().splitlines()]
    records = {name: out / name / "speed.json" for name, _, _ in rows}
    found: dict[str, Any] = {
        "parts": {name: {"status": int(s), "seconds": int(t)} for name, s, t in rows},
        "train": {
            name: json.loads(path.read_text()) for name, path in records.items() if path.exists()
        },
    }
    if (out / "predict.json").exists():
        found["predict"] = json.loads((out / "predict.json").read_text())
    members = sorted((work / "seeds/members").glob("*"), key=lambda path: int(path.name))
    logs = [path / "metrics.jsonl" for path in members if (path / "metrics.jsonl").exists()]
    if logs:
        ends = [path.stat().st_mtime for path in logs]
        found["seeds"] = {
            "members": [last_epoch(path.parent) for path in logs],
            # The first also starts the process, reads and compiles; the others do not.
            "seconds_of_later_members": [b - a for a, b in itertools.pairwise(ends)],
        }
    if (work / "fsdp/metrics.jsonl").exists():
        found["fsdp"] = last_epoch(work / "fsdp")
    return found


def last_epoch(workdir: Path) -> dict[str, float]:
    record = read_history(workdir)[-1]
    return {name: record[name] for name in ("epoch", "train_loss", "images_per_second")}


def write(found: dict[str, Any]) -> str:
    """Writes Markdown: a table of training steps, and a line for each other part."""
    lines = []
    if found["train"]:
        lines = [_row(COLUMNS), "|---" * len(COLUMNS) + "|"]
        for part, record in found["train"].items():
            lines += _steps(part, record)
        lines.append("")
    if "predict" in found:
        own = found["predict"]
        lines.append(
            f"- Prediction from files to masks: {own['images_per_second']:.1f} films/s "
            f"({own['films']} films); the first mask of a warm start after "
            f"{own['first_mask_seconds']:.1f} s."
        )
    if "seeds" in found:
        members, later = found["seeds"]["members"], found["seeds"]["seconds_of_later_members"]
        rates = ", ".join(f"{one['images_per_second']:.0f}" for one in members)
        lines.append(
            f"- {len(members)} seeds, one after another: {rates} images/s in their last epoch; "
            f"{found['parts']['seeds']['seconds']} s in all, of which members after the first "
            f"took {', '.join(f'{s:.1f}' for s in later)} s."
        )
    if "fsdp" in found:
        beside = ""
        if "seeds" in found:
            beside = f", without FSDP {found['seeds']['members'][0]['train_loss']:.4f}"
        lines.append(
            f"- FSDP on one device: {found['fsdp']['images_per_second']:.0f} images/s, training "
            f"loss {found['fsdp']['train_loss']:.4f}{beside}."
        )
    parts = found["parts"].items()
    failed = [f"{name} ({part['status']})" for name, part in parts if part["status"]]
    seconds = sum(part["seconds"] for _, part in parts)
    lines.append(f"- {seconds} s in all; failed: {', '.join(failed) or 'none'}.")
    return "\n".join([*lines, "", *_footnote(found)]) + "\n"


def _steps(part: str, record: dict[str, Any]) -> list[str]:
    """Returns a row for each contender, with jaxlung's speed over its own."""
    rounds, rows = record["rounds"], []
    _, width, dtype = part.split("-")
    ours = next((own for name, own in rounds.items() if name.startswith("jaxlung")), None)
    for name, own in rounds.items():
        rate, share = f"{middle(own, 'train'):.1f}", utilisation(record, name, "train")
        if ours and own is not ours:
            rate += f" (x{middle(ours, 'train') / middle(own, 'train'):.2f})"
        cells = [f"{name.split(',')[0]}, {width} wide, {dtype}", rate]
        cells.append("" if share is None else f"{share:.1%}")
        cells.append(f"{own[0]['peak_train_bytes'] / 2**30:.2f}")
        for key in ("train_augmented", "train_resident"):
            cells.append(f"{middle(own, key):.1f}" if key in own[0] else "")
        rows.append(_row(cells))
    return rows


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _footnote(found: dict[str, Any]) -> list[str]:
    """Returns what the steps were measured on; the records have all of it in common but peaks."""
    if not found["train"]:
        return []
    record = next(iter(found["train"].values()))
    about, spec = record["machine"], record["spec"]
    peaks = "; ".join(
        f"{part} {max(one['peak_flops'].values(), default=0) / 1e12:.2f}"
        for part, one in found["train"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return [
        f"{about['accelerator'] or about['processor']}; depth {spec['depth']}, "
        f"{spec['size']}x{spec['size']}, batch {spec['batch']}; {versions}; commit "
        f"{about['commit']}. In brackets, how many times as fast jaxlung is. MFU is of the larger "
        f"matrix product, in TFLOP/s: {peaks}; the network's FLOPs are as XLA counts them."
    ]


if __name__ == "__main__":
    main()
