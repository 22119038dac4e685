"""Speed beside what users would pick: python benchmarks/speed/speed.py [--repeats 5] [--out DIR]

Each contender runs in a process of its own, one after the other, and the whole round is repeated,
so that other work of the machine slows all of them alike. A figure is the median over rounds; a
ratio is the median of the rounds' ratios. Writes DIR/speed.json (all rounds), speed.md, speed.png.

--peers  jaxlung, torch (eager), torch-compile, each in both memory layouts, keras, monai; or a
         single row by its name, as in torch-compile-channels-last
--tasks  train, predict, start (first training step and first prediction), memory

pip install -e ".[bench]" brings the peers; those that are missing are left out, and so is one that
fails. On a GPU, where TensorFlow need not be installed:

    python benchmarks/speed/speed.py --device gpu --dtype bfloat16 --width 64 --patch 1 --batch 16 \
        --peers jaxlung,torch,torch-compile
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

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # as a script, Python looks for modules in benchmarks/ alone

from benchmarks.speed import speed_report  # noqa: E402
from benchmarks.speed.peers.contender import Spec  # noqa: E402
from benchmarks.speed.peers.measure import CONTENDERS  # noqa: E402

NEEDS = {
    "jaxlung": ("jax",),
    "torch": ("torch",),
    "keras": ("keras", "tensorflow"),
    "monai": ("torch", "monai"),
}
PACKAGES = ("jax", "jaxlib", "flax", "torch", "keras", "tensorflow-cpu", "tensorflow", "monai")
TASKS = ("train", "predict", "start", "memory")
# Each prints the FLOP/s of the fastest of nine products of two n x n matrices.
GEMM = {
    "jax": """
a = jax.random.normal(jax.random.key(0), (n, n)).astype(dtype)
product = jax.jit(lambda a: a @ a)
def run(): product(a).block_until_ready()
""",
    "torch": """
device = "cuda" if gpu else "cpu"
a = torch.randn(n, n, dtype=getattr(torch, dtype), device=device)
def run():
    a @ a
    if gpu: torch.cuda.synchronize()
""",
}
BEST_OF_NINE = """
import time
run(), run()
best = 9e9
for _ in range(9):
    start = time.perf_counter()
    run()
    best = min(best, time.perf_counter() - start)
print(2 * n**3 / best)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", default="jaxlung,torch,torch-compile,keras,monai")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--patch", default="1,2", help="1, 2 or both, separated by a comma")
    for name, default in Spec()._asdict().items():
        if name != "patch":
            parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = parser.parse_args()
    tasks = arguments.tasks.split(",")
    if not set(arguments.patch.split(",")) <= {"1", "2"}:
        parser.error(f"--patch has {arguments.patch}; choose of 1, 2")
    if arguments.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {arguments.repeats}")
    if not set(tasks) <= set(TASKS):
        parser.error(f"--tasks has {arguments.tasks}; choose of {', '.join(TASKS)}")
    try:
        contenders = chosen(arguments.peers.split(","))
    except ValueError as error:
        parser.error(str(error))
    fields = {name: getattr(arguments, name) for name in Spec._fields if name != "patch"}
    runs = plan(contenders, [int(patch) for patch in arguments.patch.split(",")], Spec(**fields))
    record = {
        "spec": fields,
        "peak_flops": measure_peaks(arguments.device, arguments.dtype),
        "machine": machine(arguments.device),
        "rounds": {name: [] for name in runs},
    }
    for repeat in range(arguments.repeats):
        found: dict[str, dict[str, Any]] = {}
        for name, (contender, spec) in list(runs.items()):
            try:
                found[name] = run(contender, spec, tasks)
            except RuntimeError as error:
                print(f"{name}: left out, since it failed: {error}", flush=True)
                del runs[name], record["rounds"][name]
                continue
            print(f"round {repeat + 1}: {name}: {brief(found[name])}", flush=True)
        for name, figures in found.items():
            record["rounds"][name].append(figures)
        if not runs:
            sys.exit("no contender is left")
        speed_report.write(record, arguments.out)  # after each round: a run may be cut short
    print((arguments.out / "speed.md").read_text())


def chosen(names: list[str]) -> list[str]:
    """Returns the contenders with these names; a group's name stands for all in it."""
    groups = {
        "torch": "torch-eager-",
        "torch-eager": "torch-eager-",
        "torch-compile": "torch-compile-",
    }
    found: list[str] = []
    for name in names:
        if name not in groups and name not in CONTENDERS:
            raise ValueError(
                f"no contender {name!r}; there are torch, torch-compile and {', '.join(CONTENDERS)}"
            )
        found += [c for c in CONTENDERS if c == name or c.startswith(groups.get(name, "\0"))]
    return list(dict.fromkeys(found))


def plan(contenders: list[str], patches: list[int], spec: Spec) -> dict[str, tuple[str, Spec]]:
    """Returns each row's contender and work; MONAI's network has no stem and one depth."""
    runs = {}
    for contender in contenders:
        missing = [
            package
            for package in NEEDS[contender.split("-")[0]]
            if importlib.util.find_spec(package) is None
        ]
        if missing:
            print(f"{contender}: left out, since {' and '.join(missing)} is not installed")
        elif contender == "monai" and spec.depth != 4:
            print("monai: left out, since its network has depth 4 alone")
        else:
            for patch in patches if contender != "monai" else [1]:
                if patch in patches:
                    runs[f"{contender}, patch {patch}"] = contender, spec._replace(patch=patch)
    return dict(sorted(runs.items(), key=lambda item: item[1][1].patch))


def run(contender: str, spec: Spec, tasks: list[str]) -> dict[str, Any]:
    """Returns a contender's figures; a second process measures the first prediction alone.

    Raises:
        RuntimeError: the process failed; the message is its last line.
    """
    figures = start(contender, spec, ",".join(tasks))
    if "start" in tasks:
        figures |= start(contender, spec, "first-prediction")
    return figures


def start(contender: str, spec: Spec, tasks: str) -> dict[str, Any]:
    flags = [f"--{name}={value}" for name, value in spec._asdict().items()]
    command = [sys.executable, "-m", "benchmarks.speed.peers.measure", contender, str(time.time())]
    done = subprocess.run(
        [*command, f"--tasks={tasks}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(spec.device),
    )
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {last_line(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def environment(device: str) -> dict[str, str]:
    """Returns variables that turn caches off, so that each first step is that of a first run."""
    values = {
        **os.environ,
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        "JAX_TRACEBACK_FILTERING": "off",
    }
    if device == "cpu":  # also where there is a GPU
        values |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return values


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing on stderr"])[-1]


def brief(figures: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" for k, v in figures.items() if k != "seconds")


def measure_peaks(device: str, dtype: str) -> dict[str, float]:
    """Measures the FLOP/s of a large matrix product, the most that JAX and PyTorch can reach."""
    peaks = {}
    size = 2048 if device == "cpu" else 8192
    for package, program in GEMM.items():
        if importlib.util.find_spec(package) is None:
            continue
        head = f"import {package}\nn, dtype, gpu = {size}, '{dtype}', {device == 'gpu'}"
        done = subprocess.run(
            [sys.executable, "-c", head + program + BEST_OF_NINE],
            capture_output=True,
            text=True,
            env=environment(device),
        )
        if done.returncode:
            print(f"{package}: no matrix product: {last_line(done.stderr)}")
        else:
            peaks[package] = float(done.stdout)
    return peaks


def machine(device: str) -> dict[str, Any]:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": ", ".join(sorted(names)) or platform.processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "accelerator": accelerator() if device == "gpu" else "",
        "versions": versions,
        "commit": described.stdout.strip(),
    }


def accelerator() -> str:
    """Asks a process of its own: JAX in this one would hold memory that contenders need."""
    program = "import jax; print(jax.devices()[0].device_kind)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
