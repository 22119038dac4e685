"""What `jaxlung predict --ray` costs beside the plain command, on the same cores.

    python benchmarks/speed/ray_overhead.py [--films 1000] [--side 256] [--pairs 2]

Both predict the same simulated films, one after the other, in pairs. The steady rate is that of
the middle eight tenths of the films, so that start-up (Ray's, JAX's in each worker) is not in it;
the whole time, from the command's first step to its summary, is printed beside it. Masks and
overlays of both are compared byte by byte.
"""

import argparse
import contextlib
import functools
import io
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def make_films(folder: Path, count: int, side: int) -> None:
    """Writes simulated films; each of 32 drawings comes again with other noise."""
    import cv2
    import jax
    import numpy as np

    from jaxlung.io.images import write_png
    from jaxlung.phantom import radiographs

    folder.mkdir(parents=True)
    drawings, _ = radiographs(jax.random.key(0), min(count, 32), size=512)
    for i in range(count):
        random = np.random.default_rng(i)
        film = cv2.resize(drawings[i % 32], (side, side), interpolation=cv2.INTER_LINEAR)
        noise = random.normal(0, 2, film.shape)
        write_png(folder / f"{i:06d}.png", np.clip(film + noise, 0, 255).astype(np.uint8))


def run(films: Path, out: Path, model: str, address: str | None) -> tuple[float, float]:
    """Predicts all films; returns films a second in the middle, and the seconds of it all."""
    from jaxlung.predict.batch.models import models_of
    from jaxlung.predict.batch.outputs import Options
    from jaxlung.predict.batch.run import run_batch
    from jaxlung.predict.batch.sources import find_sources
    from jaxlung.predict.batch.summary import Journal
    from jaxlung.predict.cluster.pipeline import predict_on_ray
    from jaxlung.predict.load import load

    start, times, add = time.perf_counter(), [], Journal.add

    def timed_add(journal: Journal, row: dict) -> None:
        times.append(time.perf_counter())
        add(journal, row)

    Journal.add = timed_add
    try:
        engine = None if address is None else functools.partial(predict_on_ray, address=address)
        sources = find_sources([films], volumes=False)
        options = Options(out=out, parquet=engine is not None)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            failed = run_batch(models_of(load(model)), sources, options, engine=engine)
    finally:
        Journal.add = add
    assert not failed
    first, last = len(times) // 10, len(times) * 9 // 10
    return (last - first) / (times[last] - times[first]), times[-1] - start


def compare(out: Path, other: Path) -> int:
    """Returns how many outputs are there in both, and checks that they are the same bytes."""
    names = sorted(path.name for path in out.glob("*.png"))
    assert names == sorted(path.name for path in other.glob("*.png"))
    for name in names:
        assert (out / name).read_bytes() == (other / name).read_bytes(), name
    return len(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--model", default="cxr-open")
    parser.add_argument("--address", default="", help="of a cluster; default: Ray on this machine")
    arguments = parser.parse_args()
    from jaxlung.system.start import start_process

    start_process()
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_films(folder / "films", arguments.films, arguments.side)
        make_films(folder / "few", 32, arguments.side)
        run(folder / "few", folder / "warm", arguments.model, None)  # compiles
        for pair in range(arguments.pairs):
            outs = folder / f"plain{pair}", folder / f"ray{pair}"
            plain = run(folder / "films", outs[0], arguments.model, None)
            on_ray = run(folder / "films", outs[1], arguments.model, arguments.address)
            ratios.append(plain[0] / on_ray[0] - 1)
            print(
                f"plain {plain[0]:.1f} films/s ({plain[1]:.1f} s in all), Ray {on_ray[0]:.1f} "
                f"films/s ({on_ray[1]:.1f} s in all): {ratios[-1]:+.1%} of time a film",
                flush=True,
            )
            same = compare(*outs)
            for out in outs:
                shutil.rmtree(out)
    print(f"{same} outputs are equal byte by byte")
    print(f"overhead of Ray, median of {len(ratios)} pairs: {statistics.median(ratios):+.1%}")


if __name__ == "__main__":
    main()
