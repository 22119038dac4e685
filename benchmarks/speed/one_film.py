"""The network on one film, and on eight, beside PyTorch and ONNX Runtime, in turns:

    python benchmarks/speed/one_film.py [--rounds 7] [--before CHECKOUT]

Milliseconds from canvases of 256x256 pixels to probabilities, of the network of "cxr": once, and
with the mirror image (where the others get film and mirror image as one batch). Contenders:
`python` is `jaxlung.load` in a Python of the user's, `command` the same as `jaxlung predict` sets
it up, `before` the first one of another checkout. Each is a process; one works at a time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # after PYTHONPATH, which names the checkout of `before`
MODEL, SIZE, CALLS = "cxr", 256, 12
WORK = ((1, False), (1, True), (8, True))  # films, mirror image
Predict = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", type=Path, help="a checkout of another commit")
    parser.add_argument("--only", nargs="*", help="contenders by name")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        work(*arguments.child)
        return
    names = ["python", "command", "onnx", "torch-eager", "torch-compile"]
    names += ["before"] * bool(arguments.before)
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        children = {
            name: start(name, onnx, arguments.before)
            for name in names
            if not arguments.only or name in arguments.only
        }
        children = {name: child for name, child in children.items() if answer(child, name)}
        for _ in range(arguments.rounds):
            for name, child in children.items():
                for i in range(len(WORK)):
                    found[name, i].append(float(ask(child, str(i))))
        for child in children.values():
            child.communicate()
    print_table(list(children), found)


def print_table(names: list[str], found: Mapping[tuple[str, int], list[float]]) -> None:
    heads = [f"{count} film{'s' * (count > 1)}{', mirrored' * tta}" for count, tta in WORK]
    print(f"| ms a film | {' | '.join(heads)} |")
    print("|---" * (len(WORK) + 1) + "|")
    for name in names:
        cells = []
        for i, (count, _) in enumerate(WORK):
            ratios = np.divide(found[name, i], found[names[0], i])
            cells.append(f"{np.median(found[name, i]) / count:.1f} (x{np.median(ratios):.2f})")
        print(f"| {name} | {' | '.join(cells)} |")


def start(name: str, onnx: Path, before: Path | None) -> subprocess.Popen[str]:
    checkout = before.resolve() if name == "before" and before else ROOT
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    # By its path, so that the parent's checkout holds the script and the child's the package.
    return subprocess.Popen(
        [sys.executable, __file__, "--child", name, str(onnx)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=checkout,
    )


def ask(child: subprocess.Popen[str], line: str) -> str:
    assert child.stdin and child.stdout
    print(line, file=child.stdin, flush=True)
    return child.stdout.readline()


def answer(child: subprocess.Popen[str], name: str) -> bool:
    assert child.stdout
    said = child.stdout.readline().strip()
    if said != "ready":
        print(f"{name} is left out: it did not start", file=sys.stderr)
    return said == "ready"


def work(name: str, onnx: str) -> None:
    """A child: for each line, the number of a piece of WORK, prints its milliseconds."""
    build = {"onnx": build_onnx, "torch-eager": build_torch, "torch-compile": build_torch}
    once, mirrored = build.get(name, build_jaxlung)(name, onnx)
    rng = np.random.default_rng(0)
    jobs = []
    for count, tta in WORK:
        canvases = rng.integers(0, 256, (count, SIZE, SIZE), np.uint8)
        predict = mirrored if tta else once
        for _ in range(4):
            predict(canvases)
        jobs.append((predict, canvases))
    print("ready", flush=True)
    for line in sys.stdin:
        predict, canvases = jobs[int(line)]
        seconds = []
        for _ in range(CALLS):
            begin = time.perf_counter()
            predict(canvases)
            seconds.append(time.perf_counter() - begin)
        print(1000 * float(np.median(seconds)), flush=True)


def build_jaxlung(name: str, _: str) -> tuple[Predict, Predict]:
    if name == "command":
        from jaxlung.system.start import start_process

        start_process()
    import jaxlung

    once, mirrored = (jaxlung.load(MODEL, tta=tta).predict_canvases for tta in (False, True))
    return once, mirrored


def with_mirror(predict: Predict) -> Predict:
    def mirrored(canvas_BxSxS: np.ndarray) -> np.ndarray:
        both = predict(np.concatenate([canvas_BxSxS, canvas_BxSxS[:, :, ::-1]]))
        straight, flipped = np.split(both, 2)
        return (straight + flipped[:, :, ::-1]) / 2

    return mirrored


def build_onnx(_: str, path: str) -> tuple[Predict, Predict]:
    import onnxruntime

    import jaxlung

    jaxlung.export_model(MODEL, out=path, format="onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def once(canvas_BxSxS: np.ndarray) -> np.ndarray:
        return np.stack(session.run(None, {name: canvas_BxSxS}), axis=-1)

    return once, with_mirror(once)


def build_torch(name: str, _: str) -> tuple[Predict, Predict]:
    import torch

    from benchmarks.speed.peers.contender import Spec
    from benchmarks.speed.peers.torch_unet import build

    torch.set_num_threads(os.cpu_count() or 1)
    method = name.split("-")[1]
    contender = build(Spec(size=SIZE, width=16, patch=2), f"{method}-channels_last")

    def once(canvas_BxSxS: np.ndarray) -> np.ndarray:
        return contender.predict(canvas_BxSxS.astype(np.float32) / 255)[..., None]

    return once, with_mirror(once)


if __name__ == "__main__":
    main()
