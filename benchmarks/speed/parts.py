"""The parts of a film's prediction, and from them a table of batches up to a million films.

    python benchmarks/speed/parts.py [FOLDER ...] [--limit 64] [--ray-overhead 0.15]

Each part is measured in one thread, as CPU seconds of this process, so that other work on the
machine counts little. FOLDERs hold films; default: simulated ones of 512 and of 2048 pixels. The
table is arithmetic: films times CPU seconds over cores, with the overhead that ray_overhead.py
measured.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

PARTS = ("read", "prepare", "network", "finish", "write")


def measure(folder: Path, limit: int, model) -> tuple[dict[str, float], float, float]:
    """Returns the CPU seconds of each part of a film, and the bytes that it is and that it makes.

    Means over the films, so that they add up.
    """
    from jaxlung.io.images import is_image, read_film
    from jaxlung.predict.batch.outputs import Job, Options, write_image
    from jaxlung.predict.batch.sources import find_sources
    from jaxlung.predict.predictor import BATCH

    spent: dict[str, float] = defaultdict(float)
    size_in = size_out = 0

    def timed(part, function, *arguments):
        start = time.process_time()
        result = function(*arguments)
        spent[part] += time.process_time() - start
        return result

    sources = [s for s in find_sources([folder], volumes=False) if is_image(s.path)][:limit]
    list(model.probabilities([model.prepare(sources[0].path).canvas]))  # compiles
    with tempfile.TemporaryDirectory() as name:
        options = Options(out=Path(name))
        for i in range(0, len(sources), BATCH):
            batch = sources[i : i + BATCH]
            films = []
            for source in batch:
                film = timed("read", read_film, source.path)
                size_in += source.path.stat().st_size
                films.append(timed("prepare", model.prepare, film.image))
            canvases = [one.canvas for one in films]
            each = len(batch) / BATCH  # a last batch is filled up
            start = time.process_time()
            probabilities = list(model.probabilities(canvases))
            spent["network"] += (time.process_time() - start) * each
            for source, film, probability in zip(batch, films, probabilities, strict=True):
                found = timed("finish", model.finish, film, probability)
                job = Job(source, options)
                timed("write", write_image, job, found, model)
                size_out += sum(path.stat().st_size for path in job.outputs)
    count = len(sources)
    return {part: spent[part] / count for part in PARTS}, size_in / count, size_out / count


def print_parts(rows: list[tuple[str, dict[str, float], float, float]]) -> None:
    print(f"| films | {' | '.join(PARTS)} | all | bytes read | bytes written |")
    print("|---" * (len(PARTS) + 4) + "|")
    for name, parts, size_in, size_out in rows:
        cells = [
            *(f"{1000 * parts[part]:.1f}" for part in PARTS),
            f"{1000 * sum(parts.values()):.1f}",
        ]
        sizes = [f"{size / 1e3:.0f} kB" for size in (size_in, size_out)]
        print(f"| {name} | {' | '.join([*cells, *sizes])} |")


def print_plan(
    rows: list[tuple[str, dict[str, float], float, float]], overhead: float, cores: int
) -> None:
    """Prints what 10^4 to 10^6 films take on so many cores."""
    print(f"| films | kind | core hours | hours on {cores} cores | films/s | read | written |")
    print("|---" * 7 + "|")
    for count in (10**4, 10**5, 10**6):
        for name, parts, size_in, size_out in rows:
            seconds = sum(parts.values()) * (1 + overhead)
            moved = [f"{count * size / 1e9:.1f} GB" for size in (size_in, size_out)]
            hours = count * seconds / 3600
            cells = [f"{hours:.1f}", f"{hours / cores:.2f}", f"{cores / seconds:.0f}", *moved]
            print(f"| {count:,} | {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--limit", type=int, default=64, help="films of each folder")
    parser.add_argument("--repeats", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--ray-overhead", type=float, default=0.15)
    parser.add_argument("--cores", type=int, default=64)
    parser.add_argument("--model", default="cxr-open")
    arguments = parser.parse_args()
    from jaxlung.predict.load import load
    from jaxlung.system.start import start_process

    start_process()
    import cv2

    from benchmarks.speed.ray_overhead import make_films

    cv2.setNumThreads(1)
    model = load(arguments.model)
    with tempfile.TemporaryDirectory() as name:
        folders = [(folder.name, folder) for folder in arguments.folders]
        for side in () if folders else (512, 2048):
            folders.append((f"{side}x{side}", Path(name, str(side))))
            make_films(folders[-1][1], min(arguments.limit, 32), side)
        rows = []
        for label, folder in folders:
            repeats = [measure(folder, arguments.limit, model) for _ in range(arguments.repeats)]
            parts = {p: statistics.median(one[0][p] for one in repeats) for p in PARTS}
            rows.append((label, parts, *repeats[0][1:]))
    print(f"{platform.processor() or platform.machine()}, CPU ms a film, one thread:\n")
    print_parts(rows)
    print(f"\nwith {arguments.ray_overhead:.0%} of Ray on top:\n")
    print_plan(rows, arguments.ray_overhead, arguments.cores)


if __name__ == "__main__":
    main()
