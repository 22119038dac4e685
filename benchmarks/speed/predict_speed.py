"""Times `jaxlung predict` from files to written masks: python benchmarks/speed/predict_speed.py DIR

Without DIR the films are simulated (--films, --side). Prints, for the model "cxr" (--model names
another):
  start-up      seconds until the first mask of a process is there, of the second such process
  images/s      end to end after start-up: read, predicted, written, with overlays
  shares        of the process's CPU seconds: network, reading files, writing files, and the rest
  memory        highest resident size of the process, with its start-up
--json FILE holds the first three and the number of films, too.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--films", type=int, default=128, help="simulated ones")
    parser.add_argument("--side", type=int, default=512, help="of simulated films, pixels")
    parser.add_argument("--model", default="cxr")
    parser.add_argument("--tta", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--repeats", type=int, default=3, help="of each; the median is printed")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.directory is None:
            arguments.directory = Path(name, "films")
            simulate(arguments.directory, arguments.films, arguments.side)
        first_masks = [
            first_mask(arguments.directory, arguments.model, Path(name, f"first{i}"))
            for i in range(arguments.repeats + 1)
        ][1:]
        print(f"first mask of a warm start: {median(first_masks):.1f} s", flush=True)
        figures = {"first_mask_seconds": median(first_masks), **measure(arguments, Path(name))}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


def simulate(folder: Path, count: int, side: int) -> None:
    """Writes films in a process of its own: JAX must not have started in this one."""
    program = (
        "import pathlib; from benchmarks.speed.ray_overhead import make_films; "
        f"make_films(pathlib.Path({str(folder)!r}), {count}, {side})"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def first_mask(directory: Path, model: str, out: Path) -> float:
    command = [
        sys.executable,
        "-m",
        "jaxlung",
        "predict",
        str(directory),
        "--model",
        model,
        "--out",
        str(out),
    ]
    start = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not any(out.rglob("*_overlay.png")):
            if process.poll() is not None:
                raise SystemExit(f"jaxlung predict ended with status {process.returncode}")
            time.sleep(0.01)
        seconds = time.monotonic() - start
        process.kill()
    return seconds


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from jaxlung.system.start import start_process

    start_process()
    from jaxlung.io import images
    from jaxlung.predict import images as reading
    from jaxlung.predict import predictor
    from jaxlung.predict.batch import run
    from jaxlung.predict.batch.models import models_of
    from jaxlung.predict.batch.outputs import Options
    from jaxlung.predict.batch.sources import find_sources
    from jaxlung.predict.load import load

    model = load(arguments.model, tta=arguments.tta)
    sources = find_sources([arguments.directory], volumes=False)
    busy: dict[str, float] = defaultdict(float)
    lock = threading.Lock()

    def timed(function, stage):
        def wrapped(*args, **kwargs):
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                with lock:
                    busy[stage] += time.thread_time() - start

        return wrapped

    canvases = [model.prepare(source.path).canvas for source in sources[: predictor.BATCH]]
    for _ in range(3):
        list(model.probabilities(canvases))
    start = time.process_time()
    for _ in range(10):
        list(model.probabilities(canvases))
    network = (time.process_time() - start) / 10 / len(canvases) * len(sources)

    reading.read_film = timed(images.read_film, "reading files")
    images.write_png = timed(images.write_png, "writing files")
    rates, shares = [], []
    for repeat in range(arguments.repeats):
        busy.clear()
        wall, cpu_seconds = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            failed = run.run_batch(models_of(model), sources, Options(out=folder / f"out{repeat}"))
        wall, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu_seconds
        assert not failed
        rates.append(len(sources) / wall)
        rest = cpu_seconds - network - sum(busy.values())
        shares.append({"network": network, **busy, "rest": rest, "all": cpu_seconds})
    print(f"{len(sources)} images: {median(rates):.1f} images/s on {os.cpu_count()} cores")
    middle = sorted(shares, key=lambda share: share["rest"])[len(shares) // 2]
    share_of_stage = {stage: seconds / middle["all"] for stage, seconds in middle.items()}
    for stage, share in share_of_stage.items():
        milliseconds = 1000 * middle[stage] / len(sources)
        print(f"  {stage:14s} {milliseconds:6.1f} ms CPU an image, {share:.0%}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    return {
        "films": len(sources),
        "images_per_second": median(rates),
        "shares_of_cpu_seconds": share_of_stage,
    }


if __name__ == "__main__":
    main()
