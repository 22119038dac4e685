"""Speed of `jaxlung predict` beside another commit's, from files to masks and overlays, in turns:

    git worktree add ../before COMMIT
    python benchmarks/speed/end_to_end.py ../shared/data/montgomery/images ../before [--pairs 3]

Each checkout predicts the folder as it is, enlarged to 1024x1024, and as 16-bit DICOM of 2500x2048,
with its own "cxr". A rate is that of the middle eight tenths of the films, by the times of
their overlays, so start-up is not in it. Then one film: the seconds of a fresh process whose
programs are cached, of one with an empty cache, and of `import jax` with a first array.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = "cxr"
JAX_ALONE = "import jax; jax.numpy.zeros(8).block_until_ready()"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", type=Path, help="a folder of films")
    parser.add_argument("before", type=Path, help="a checkout of the other commit")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--limit", type=int, default=138, help="films of each form")
    parser.add_argument("--skip", nargs="*", default=[], help="forms: 512 1024 dicom start")
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "now": ROOT}
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for form in ("512", "1024", "dicom"):
            if form in arguments.skip:
                continue
            films = make_films(arguments.films, folder / form, form, arguments.limit)
            rates = defaultdict(list)
            for i in range(arguments.pairs):
                for name, checkout in in_turns(checkouts, i):
                    rates[name].append(rate(checkout, films, folder / f"{form}_{name}_{i}"))
            report(f"{form}, films/s", rates["now"], rates["before"])
        if "start" not in arguments.skip:
            compare_starts(checkouts, folder, min(arguments.films.iterdir()), arguments.pairs)


def in_turns(checkouts: dict[str, Path], i: int) -> Sequence[tuple[str, Path]]:
    pairs = list(checkouts.items())
    return pairs if i % 2 else pairs[::-1]


def report(what: str, now: list[float], before: list[float]) -> None:
    ratios = [a / b for a, b in zip(now, before, strict=True)]
    listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    medians = statistics.median(before), statistics.median(now)
    print(f"{what}: {medians[0]:.2f} -> {medians[1]:.2f}", end=", ")
    print(f"ratio {statistics.median(ratios):.2f} ({listed})", flush=True)


def make_films(source: Path, folder: Path, form: str, limit: int) -> Path:
    """Writes the films in another form; those of the first form are linked."""
    import cv2

    folder.mkdir()
    for path in sorted(source.iterdir())[:limit]:
        if form == "512":
            (folder / path.name).symlink_to(path.resolve())
            continue
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        size = (1024, 1024) if form == "1024" else (2048, 2500)
        large = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
        if form == "1024":
            cv2.imwrite(str(folder / path.name), large)
        else:
            write_dicom(folder / f"{path.stem}.dcm", large)
    return folder


def write_dicom(path: Path, grey_HxW) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = ComputedRadiographyImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
    film.Modality, film.PhotometricInterpretation = "CR", "MONOCHROME2"
    film.Rows, film.Columns = grey_HxW.shape
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.SamplesPerPixel, film.PixelRepresentation = 1, 0
    film.PixelData = (grey_HxW.astype("<u2") * 16).tobytes()
    film.save_as(path, enforce_file_format=True)


def predict(checkout: Path, films: Path, out: Path, **environment: str) -> float:
    """Runs the command of a checkout; returns its seconds."""
    command = [sys.executable, "-m", "jaxlung", "predict", str(films)]
    command += ["--model", MODEL, "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": str(checkout), **environment}
    start = time.perf_counter()
    subprocess.run(command, cwd=checkout, env=env, check=True, capture_output=True)
    return time.perf_counter() - start


def rate(checkout: Path, films: Path, out: Path) -> float:
    """Returns the films a second in the middle eight tenths of a run."""
    predict(checkout, films, out)
    return middle_rate([path.stat().st_mtime for path in out.rglob("*_overlay.png")])


def middle_rate(times: Sequence[float]) -> float:
    """Returns how many a second came, without the first and the last tenth."""
    times, cut = sorted(times), len(times) // 10
    first, last = cut, len(times) - 1 - cut
    return (last - first) / (times[last] - times[first])


def compare_starts(checkouts: dict[str, Path], folder: Path, film: Path, pairs: int) -> None:
    def jax_alone() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", JAX_ALONE], check=True)
        return time.perf_counter() - start

    for kind in ("cached", "no cache"):
        seconds = defaultdict(list)
        for i in range(-1, pairs):  # the first fills the caches, of files too
            found = {"jax": jax_alone()}
            for name, checkout in in_turns(checkouts, i):
                cache = folder / (f"{name}_cache" if kind == "cached" else f"{name}_none_{i}")
                out = folder / f"{name}_{kind}_{i}"
                found[name] = predict(checkout, film, out, XDG_CACHE_HOME=str(cache))
            if i >= 0:
                for name, value in found.items():
                    seconds[name].append(value)
        report(f"one film, {kind}, s", seconds["now"], seconds["before"])
        for name in checkouts:
            more = [a - b for a, b in zip(seconds[name], seconds["jax"], strict=True)]
            median = statistics.median(seconds["jax"])
            print(f"  {name}: {statistics.median(more):.2f} s more than JAX alone ({median:.2f} s)")


if __name__ == "__main__":
    main()
