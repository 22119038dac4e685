"""Writes speed.json, speed.md and speed.png for `benchmarks/speed/speed.py`.

python benchmarks/speed/speed_report.py DIR draws them anew from DIR/speed.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # as a script, Python looks for modules in benchmarks/ alone

from benchmarks.speed.peers.contender import unet_macs  # noqa: E402
from benchmarks.speed.peers.measure import BATCHES  # noqa: E402

RATES = {"train": "train, images/s", **{f"predict_{b}": f"predict, batch {b}" for b in BATCHES}}
SECONDS = {"first_step_seconds": "first step, s", "first_prediction_seconds": "first prediction, s"}
MEMORY = {"peak_train_bytes": "peak, training, GiB", "peak_bytes": "peak, GiB"}
EXTRA = {
    "train_augmented": "train, augmented",
    "augment_share": "augmentation's share",
    "train_resident": "augmented, 8 steps a call",
}
WORK = {"train": 3, "predict_8": 1}  # forward passes: a backward pass counts as two
Round = dict[str, Any]


def main() -> None:
    out = Path(sys.argv[1])
    write(json.loads((out / "speed.json").read_text()), out)


def write(record: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.json").write_text(json.dumps(record, indent=1))
    (out / "speed.md").write_text(table(record))
    draw(record, out / "speed.png")


def table(record: dict[str, Any]) -> str:
    """Writes Markdown: a row for each contender and stem, with jaxlung's speed over each."""
    rounds: dict[str, list[Round]] = record["rounds"]
    measured = {key for own in rounds.values() for key in own[0]}
    rates = [key for key in RATES if key in measured]
    others = [key for key in (*SECONDS, *MEMORY, *EXTRA) if key in measured]
    utilised = [key for key in WORK if key in measured]
    titles = {**RATES, **SECONDS, **MEMORY, **EXTRA}
    head = ["", *(titles[key] for key in (*rates, *others))]
    head += [f"utilisation, {RATES[key].split(', i')[0]}" for key in utilised]
    lines = [_row(head), "|---" * len(head) + "|"]
    for name, own in rounds.items():
        ours = rounds.get(f"jaxlung, patch {name[-1]}", [])
        cells = [name + (" (another network)" if name.startswith("monai") else "")]
        cells += [_rate(key, own, ours if ours is not own else []) for key in rates]
        cells += [_other(key, own) for key in others]
        cells += [_percent(utilisation(record, name, key)) for key in utilised]
        lines.append(_row(cells))
    for patch in sorted({name[-1] for name in rounds}):
        ours, cells = rounds.get(f"jaxlung, patch {patch}", []), [f"PyTorch's best, patch {patch}"]
        best = {key: best_of_pytorch(rounds, patch, key) for key in rates}
        if all(best.values()):
            cells += [
                f"{_rate(key, rounds[best[key]], ours)} {best[key].split(',')[0][6:]}"
                for key in rates
            ]
            lines.append(
                _row(
                    cells
                    + [""] * len(others)
                    + [_percent(utilisation(record, best[key], key)) for key in utilised]
                )
            )
    return "\n".join([*lines, "", _footnote(record)]) + "\n"


def best_of_pytorch(rounds: dict[str, list[Round]], patch: str, key: str) -> str:
    """Returns the row of PyTorch's setting with the highest median, or ""."""
    rows = [name for name in rounds if name.startswith("torch-") and name[-1] == patch]
    return max(rows, key=lambda name: middle(rounds[name], key), default="")


def middle(own: list[Round], key: str) -> float:
    return float(np.median([figures[key] for figures in own]))


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rate(key: str, own: list[Round], ours: list[Round]) -> str:
    text = f"{middle(own, key):.1f}"
    if not ours:
        return text
    return f"{text} (x{np.median([a[key] / b[key] for a, b in zip(ours, own, strict=True)]):.2f})"


def _other(key: str, own: list[Round]) -> str:
    if key not in own[0]:
        return ""
    value = middle(own, key)
    if key in MEMORY:
        return f"{value / 2**30:.2f}"
    return f"{value:.1%}" if key == "augment_share" else f"{value:.1f}"


def utilisation(record: dict[str, Any], name: str, key: str) -> float | None:
    """Returns a row's FLOP/s as a share of the peak (MFU); None where either is not known.

    The FLOPs of the network are those that XLA counts, whoever runs it; in records without such a
    count 2 x MACs.
    """
    spec, patch = record["spec"], name[-1]
    if name.startswith("monai") or not record["peak_flops"]:
        return None
    by_hand = 2 * unet_macs(spec["size"], spec["width"], spec["depth"], int(patch)) * WORK[key]
    flops = record.get("flops", {}).get(patch, {}).get(key, by_hand)
    return middle(record["rounds"][name], key) * flops / max(record["peak_flops"].values())


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _footnote(record: dict[str, Any]) -> str:
    spec, about = record["spec"], record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    peaks = ", ".join(f"{n} {v / 1e9:.0f}" for n, v in record["peak_flops"].items())
    return (
        f"{spec['width']} wide, depth {spec['depth']}, {spec['size']}x{spec['size']}, training "
        f"batch {spec['batch']}, {spec['dtype']}; median of "
        f"{len(next(iter(record['rounds'].values())))} rounds; in brackets, how many times as fast "
        f"jaxlung is with the same stem. Utilisation (MFU) is of the larger of these peaks, in "
        f"GFLOP/s: {peaks}. "
        f"{about['accelerator'] or about['processor']}, {about['cores']} cores; "
        f"{versions}; commit {about['commit']}."
    )


def draw(record: dict[str, Any], path: Path) -> None:
    """Draws bars of images a second, in a panel each for training and prediction."""
    rounds = record["rounds"]
    keys = [key for key in ("train", "predict_8") if key in next(iter(rounds.values()))[0]]
    if not keys:
        return
    figure, panels = plt.subplots(
        1,
        len(keys),
        figsize=(1 + 5.5 * len(keys), 0.45 * len(rounds) + 1.2),
        sharey=True,
        squeeze=False,
    )
    colours = ["#1f77b4" if name.startswith("jaxlung") else "#b0b0b0" for name in rounds]
    for panel, key in zip(panels[0], keys, strict=True):
        bars = panel.barh(
            list(rounds), [middle(own, key) for own in rounds.values()], color=colours
        )
        panel.bar_label(bars, fmt="%.1f", padding=3)
        panel.set_title(
            "Training, images/s" if key == "train" else "Prediction in batches of 8, images/s"
        )
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
