"""Speed beside what users would pick: python benchmarks/speed/speed.py [--repeats 5] [--out DIR]

Each contender runs in a process of its own, one after the other, and the whole round is repeated,
so that other work of the machine slows all of them alike. A figure is the median over rounds; a
ratio is the median of the rounds' ratios. Writes DIR/speed.json (all rounds), speed.md, speed.png.

--peers  jaxlung, torch (eager), torch-compile, each in both memory layouts, keras, monai; or a
         single row by its name, as in torch-compile-channels-last
--tasks  train, predict, start (first training step and first prediction), memory, augmented (our
         step with augmentation, and on a GPU with data that lie there)
--peak   utilisation (MFU) is of so many TFLOP/s; default: of a large matrix product, measured

pip install -e ".[bench]" brings the peers; those that are missing are left out, and so is one that
fails; the exit status is 1 then. On a GPU, where TensorFlow need not be installed:

    python benchmarks/speed/speed.py --device gpu --dtype bfloat16 --width 64 --patch 1 --batch 16 \
        --peers jaxlung,torch,torch-compile

benchmarks/gpu.sh does this and more.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # as a script, Python looks for modules in benchmarks/ alone

from benchmarks.speed import speed_report  # noqa: E402
from benchmarks.speed.machine import describe_machine  # noqa: E402
from benchmarks.speed.peers.contender import Spec  # noqa: E402
from benchmarks.speed.peers.measure import CONTENDERS, RUNS  # noqa: E402

NEEDS = {
    "jaxlung": ("jax",),
    "torch": ("torch",),
    "keras": ("keras", "tensorflow"),
    "monai": ("torch", "monai"),
}
TASKS = ("train", "predict", "start", "memory", "augmented")
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
    parser.add_argument("--runs", type=int, default=RUNS, help="timed calls of each kind")
    parser.add_argument("--limit", type=float, help="seconds that a process may take")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device in this dtype")
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
    patches = [int(patch) for patch in arguments.patch.split(",")]
    runs = plan(contenders, patches, Spec(**fields))
    peaks = {"given": arguments.peak * 1e12} if arguments.peak else None
    record = {
        "spec": fields,
        "peak_flops": peaks or measure_peaks(arguments.device, arguments.dtype),
        "flops": {str(patch): count_flops(Spec(**fields, patch=patch)) for patch in patches},
        "machine": describe_machine(arguments.device),
        "rounds": {name: [] for name in runs},
    }
    failed = []
    for repeat in range(arguments.repeats):
        found: dict[str, dict[str, Any]] = {}
        for name, (contender, spec) in list(runs.items()):
            try:
                found[name] = run(contender, spec, tasks, arguments.runs, arguments.limit)
            except RuntimeError as error:
                print(f"{name}: left out, since it failed: {error}", flush=True)
                failed.append(name)
                del runs[name], record["rounds"][name]
                continue
            print(f"round {repeat + 1}: {name}: {brief(found[name])}", flush=True)
        for name, figures in found.items():
            record["rounds"][name].append(figures)
        if not runs:
            sys.exit("no contender is left")
        speed_report.write(record, arguments.out)  # after each round: a run may be cut short
    print((arguments.out / "speed.md").read_text())
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


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


def run(
    contender: str, spec: Spec, tasks: list[str], runs: int = RUNS, limit: float | None = None
) -> dict[str, Any]:
    """Returns a contender's figures; a second process measures the first prediction alone.

    Raises:
        RuntimeError: a process failed, and the message has its last line; or it took more than
            `limit` seconds.
    """
    figures = start(contender, spec, ",".join(tasks), runs, limit)
    if "start" in tasks:
        figures |= start(contender, spec, "first-prediction", runs, limit)
    return figures


def start(contender: str, spec: Spec, tasks: str, runs: int, limit: float | None) -> dict[str, Any]:
    program = ["measure", contender, str(time.time()), f"--tasks={tasks}", f"--runs={runs}"]
    return of_process(program, spec, spec.device, limit)


def count_flops(spec: Spec) -> dict[str, float]:
    """Returns the FLOPs of an image by task; {} where XLA does not count them."""
    try:
        return of_process(["flops"], spec, "cpu")
    except RuntimeError as error:
        print(f"FLOPs are counted by hand, since XLA does not: {error}", flush=True)
        return {}


def of_process(
    program: list[str], spec: Spec, device: str, limit: float | None = None
) -> dict[str, Any]:
    """Runs a module of `peers`; returns the JSON of its last line."""
    flags = [f"--{name}={value}" for name, value in spec._asdict().items()]
    command = [sys.executable, "-m", f"benchmarks.speed.peers.{program[0]}", *program[1:], *flags]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=environment(device),
            timeout=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"it took more than {limit:.0f} s") from error
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


if __name__ == "__main__":
    main()
