"""Speed beside what users would pick instead: python benchmarks/speed.py [--repeats 3] [--out DIR]

Each contender runs in a process of its own, one after the other, and the whole round is repeated:
so what else the machine does hits all alike. A figure is the median over rounds; a ratio is the
median of each round's own ratio. Writes DIR/speed.json (every round), speed.md and speed.png.

pip install -e ".[bench]" brings the peers; those that are missing are left out. On a GPU, where
TensorFlow need not be installed:

    python benchmarks/speed.py --device gpu --dtype bfloat16 --width 64 --patch 1 --batch 16 \
        --contenders jaxlung,torch-compile,torch-eager
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.peers.contender import Spec, unet_macs
from benchmarks.peers.measure import BATCHES, CONTENDERS

ROOT = Path(__file__).resolve().parent.parent
NEEDS = {"torch_unet": "torch", "keras_unet": "keras", "jaxlung_unet": "jax"}
PACKAGES = ("jax", "jaxlib", "flax", "torch", "keras", "tensorflow-cpu", "tensorflow", "monai")
GEMM = """
import jax, time
n, dtype = {n}, "{dtype}"
a = jax.random.normal(jax.random.key(0), (n, n)).astype(dtype)
f = jax.jit(lambda a: a @ a)
f(a).block_until_ready()
best = 9e9
for _ in range(9):
    start = time.perf_counter()
    f(a).block_until_ready()
    best = min(best, time.perf_counter() - start)
print(2 * n**3 / best)
"""
Rounds = dict[str, list[dict[str, float]]]  # contender and patch to the figures of each round


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--contenders", default="jaxlung,torch-eager,torch-compile,keras,monai")
    parser.add_argument("--patch", default="1,2")
    for name, default in Spec()._asdict().items():
        if name != "patch":
            parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = parser.parse_args()
    fields = {name: getattr(arguments, name) for name in Spec._fields if name != "patch"}
    runs = list(plan(arguments.contenders.split(","), map(int, arguments.patch.split(","))))
    rounds: Rounds = {f"{contender}, patch {patch}": [] for contender, patch in runs}
    peak = measure_peak(arguments.device, arguments.dtype)
    for repeat in range(arguments.repeats):
        for contender, patch in runs:
            figures = run(contender, Spec(**fields, patch=patch))
            rounds[f"{contender}, patch {patch}"].append(figures)
            print(f"round {repeat + 1}: {contender}, patch {patch}: {brief(figures)}", flush=True)
        record = {"spec": fields, "peak_flops": peak, "machine": machine(), "rounds": rounds}
        write(record, arguments.out)
    print((arguments.out / "speed.md").read_text())


def write(record: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.json").write_text(json.dumps(record, indent=1))
    (out / "speed.md").write_text(table(record))
    draw(record, out / "speed.png")


def plan(contenders: list[str], patches: Any) -> list[tuple[str, int]]:
    """Who runs with which stem: MONAI's network has none."""
    found = []
    for patch in patches:
        for contender in contenders:
            needed = "monai" if contender == "monai" else NEEDS[CONTENDERS[contender][0]]
            if importlib.util.find_spec(needed) is None:
                print(f"{contender}: left out, since {needed} is not installed")
            elif patch == 1 or contender != "monai":
                found.append((contender, patch))
    return found


def run(contender: str, spec: Spec) -> dict[str, float]:
    flags = [f"--{name}={value}" for name, value in spec._asdict().items()]
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers.measure",
        contender,
        str(time.time()),
        *flags,
    ]
    # No compiled programs of earlier rounds: the first step's time is that of a first run.
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false",
                   "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def brief(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def measure_peak(device: str, dtype: str) -> float:
    """FLOP/s of a large matrix product, the most that this machine gives JAX."""
    program = GEMM.format(n=2048 if device == "cpu" else 8192, dtype=dtype)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    names = {
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": ", ".join(sorted(names)) or platform.processor(),
        "cores": len(os.sched_getaffinity(0)), "versions": versions, "commit": commit,
    }  # fmt: skip


def table(record: dict[str, Any]) -> str:
    """Markdown: a row for each contender and stem."""
    spec, rounds = record["spec"], record["rounds"]
    columns = ["train", *(f"predict_{batch}" for batch in BATCHES)]
    head = ["", "train, images/s", *(f"predict, batch {batch}" for batch in BATCHES)]
    head += ["first step, s", "peak memory, GiB", "utilisation, train", "predict, batch 8"]
    lines = [" | ".join(("", *head, "")).strip(), "|---" * len(head) + "|"]
    for name, own in rounds.items():
        patch = int(name[-1])
        middle = {key: float(np.median([figures[key] for figures in own])) for key in own[0]}
        cells = [name]
        ours = rounds.get(f"jaxlung, patch {patch}", own)
        for column in columns:
            ratio = np.median([a[column] / b[column] for a, b in zip(ours, own, strict=True)])
            beside = "" if ours is own else f" (x{ratio:.2f})"
            cells.append(f"{middle[column]:.1f}{beside}")
        cells.append(f"{middle['first_step_seconds']:.1f}")
        cells.append(f"{middle['peak_bytes'] / 2**30:.2f}")
        flops = 2 * unet_macs(spec["size"], spec["width"], spec["depth"], patch)
        for column, work in (("train", 3), ("predict_8", 1)):
            cells.append(f"{middle[column] * work * flops / record['peak_flops']:.0%}")
        lines.append(" | ".join(("", *cells, "")).strip())
    about = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines += [
        "",
        f"{spec['width']} wide, depth {spec['depth']}, {spec['size']}x{spec['size']}, training "
        f"batch {spec['batch']}, {spec['dtype']}; median of "
        f"{len(next(iter(rounds.values())))} rounds; in "
        f"brackets, how many times as fast jaxlung is with the same stem. Utilisation is of "
        f"{record['peak_flops'] / 1e9:.0f} GFLOP/s, a matrix product's. {about['processor']}, "
        f"{about['cores']} cores; {versions}; commit {about['commit']}.",
    ]
    return "\n".join(lines) + "\n"


def draw(record: dict[str, Any], path: Path) -> None:
    """Bars of training's and prediction's images a second, one panel each."""
    rounds = record["rounds"]
    figure, panels = plt.subplots(1, 2, figsize=(11, 0.45 * len(rounds) + 1.2), sharey=True)
    for panel, key, title in (
        (panels[0], "train", "Training, images/s"),
        (panels[1], "predict_8", "Prediction in batches of 8, images/s"),
    ):
        values = [float(np.median([figures[key] for figures in own])) for own in rounds.values()]
        colours = ["#1f77b4" if name.startswith("jaxlung") else "#b0b0b0" for name in rounds]
        bars = panel.barh(list(rounds), values, color=colours)
        panel.bar_label(bars, fmt="%.1f", padding=3)
        panel.set_title(title)
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
