"""Counts right and false warnings of the gate: python benchmarks/quality/gate.py DIR [DIR...]

Each DIR holds images/ and masks/. Wrong inputs are made of some of its films, of a CT (--ct FILE),
and of pictures that the gate was not fitted to: Matplotlib's sample data, and any in --photos DIR.
For each kind: how many there are, how many are warned of, and how many of those with the right
words; then false warnings on every film as it is and after mild changes. --lateral DIR holds
lateral films, --nih DIR frontal ones, some of them turned: nih_turned.txt says which. --split test
leaves out what the gate was fitted to; --weights FILE is another classifier; --model NAME predicts
the films and the wrong inputs too, and counts the warnings of the masks. --json FILE keeps all.
"""

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.quality.corruptions import CORRUPTIONS  # noqa: E402
from jaxlung import load  # noqa: E402
from jaxlung.config import DataConfig  # noqa: E402
from jaxlung.data.datasets import load_splits, load_whole_folder  # noqa: E402
from jaxlung.data.splits import SPLITS, Split  # noqa: E402
from jaxlung.gate.classifier import WEIGHTS, Fitted, read_gate  # noqa: E402
from jaxlung.gate.image import Verdict, examine, is_coloured  # noqa: E402
from jaxlung.gate.mask import check_mask  # noqa: E402
from jaxlung.io import volumes  # noqa: E402
from jaxlung.io.ct.hounsfield import apply_window  # noqa: E402
from jaxlung.io.grey import to_grey8  # noqa: E402
from jaxlung.io.images import read_film  # noqa: E402
from jaxlung.metrics.calibration import Confidence, expected_dice  # noqa: E402
from jaxlung.system.threads import count_workers  # noqa: E402

SAMPLES = Path(matplotlib.get_data_path()) / "sample_data"
ANY = ""  # any words will do


class Wrong(NamedTuple):
    kind: str
    image: np.ndarray  # as `image.examine` takes it
    words: str  # part of a warning that says what is wrong


def of_film(grey: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> list[Wrong]:
    """An image that the gate should warn of, and the words that it should use."""
    height, width = grey.shape
    made = [
        Wrong("inverted", 255 - grey, "inverted"),
        Wrong("rotated 90", np.rot90(grey, -1), "90 degrees clockwise"),
        Wrong("rotated 180", np.rot90(grey, 2), "upside down"),
        Wrong("rotated 270", np.rot90(grey), "counter-clockwise"),
        Wrong("inverted, rotated 90", 255 - np.rot90(grey, -1), "inverted"),
        Wrong("left half", grey[:, : width // 2], "part of the chest"),
        Wrong("right half", grey[:, width // 2 :], "part of the chest"),
        Wrong("upper half", grey[: height // 2], "part of the chest"),
    ]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    left, top, wide, high, _ = stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))]
    margin = height // 25
    lung = grey[
        max(0, top - margin) : top + high + margin, max(0, left - margin) : left + wide + margin
    ]
    made.append(Wrong("one lung", lung, "part of the chest"))
    covered = grey.copy()
    covered[:, : width // 2] = 0
    made.append(Wrong("half covered", covered, "part of the chest"))
    made.append(Wrong("two films", np.hstack([grey, grey[:, ::-1]]), ANY))
    return [*made, Wrong("photo of a film", on_a_wall(grey, rng), "photograph")]


def on_a_wall(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hangs a film before a photograph, askew."""
    room = cv2.resize(read_film(SAMPLES / "grace_hopper.jpg").image[..., 1], grey.shape[::-1])
    height, width = grey.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    place = corners + inward * rng.uniform(0.1, 0.22, (4, 2)) * (width, height)
    matrix = cv2.getPerspectiveTransform(corners, place.astype(np.float32))
    inside = cv2.warpPerspective(np.full_like(grey, 255), matrix, (width, height)) > 127
    return np.where(inside, cv2.warpPerspective(grey, matrix, (width, height)), room)


def pictures(photos: Path | None) -> list[Wrong]:
    """Reads photographs in colour, in grey and parts of them, maps, and an MR of a head."""
    paths = [SAMPLES / n for n in ("grace_hopper.jpg", "logo2.png")]
    paths += sorted(photos.iterdir()) if photos else []
    made = []
    for path in paths:
        colour = read_film(path).image
        grey = to_grey8(colour)
        if is_coloured(colour):
            made.append(Wrong("colour photo", colour, "in colour"))
        made.append(Wrong("grey photo", grey, "no frontal chest"))
        height, width = (side // 2 for side in grey.shape)
        for rows in (slice(None, height), slice(height, None)):
            for columns in (slice(None, width), slice(width, None)):
                made.append(Wrong("part of a photo", grey[rows, columns], "no frontal chest"))
    for name, key in (("jacksboro_fault_dem.npz", "elevation"), ("topobathy.npz", "topo")):
        with np.load(SAMPLES / name) as arrays:
            made.append(Wrong("map", arrays[key], "no frontal chest"))
    with gzip.open(SAMPLES / "s1045.ima.gz") as file:
        head = np.frombuffer(file.read(), np.uint16).reshape(256, 256).byteswap()
    return [*made, Wrong("MR of a head", head, "no frontal chest")]


def slices(path: Path) -> list[Wrong]:
    """Reads axial slices of a whole CT, in a window of lung and of soft tissue."""
    voxels = volumes.read_volume(path).voxels_ZxHxW
    chosen = np.linspace(0, len(voxels) - 1, 14).round().astype(int)
    made = []
    for kind, low, high in (("CT, lung window", -1000, 400), ("CT, soft tissue", -160, 240)):
        made += [Wrong(kind, apply_window(voxels[z], low, high), "CT slice") for z in chosen]
    return made


def laterals(folder: Path) -> list[Wrong]:
    paths = sorted(folder.iterdir())
    return [Wrong("lateral film", read_film(path).image, "lateral film") for path in paths]


def report_turned(folder: Path, fitted: Fitted) -> dict[str, list[str]]:
    """Prints how many turned films are turned upright, and how many upright ones are left so."""
    listed = Path(__file__).with_name("nih_turned.txt").read_text().split("\n")
    turned = {line for line in listed if line and not line.startswith("#")}
    verdicts = {path.stem: examine(read_film(path).image, fitted) for path in folder.iterdir()}
    wrong = {
        "turned": [name for name in turned if verdicts[name].degrees != 270],
        "upright": [name for name in verdicts if name not in turned and verdicts[name].degrees],
        "warned": [n for n in verdicts if n not in turned and verdicts[n].warnings],
    }
    print(
        f"\nturned upright: {len(turned) - len(wrong['turned'])} of {len(turned)}; of "
        f"{len(verdicts) - len(turned)} upright films {len(wrong['upright'])} were turned and "
        f"{len(wrong['warned'])} warned of: {wrong}"
    )
    return wrong


def blanks_and_noise(rng: np.random.Generator) -> list[Wrong]:
    shape = (512, 512)
    blanks = [np.full(shape, value, np.uint8) for value in (0, 128, 255)]
    blanks += [np.full(shape, 4000, np.uint16), np.zeros(shape, np.float32)]
    blanks.append(np.rint(rng.normal(100, 1, shape)).astype(np.uint8))
    noise = [
        rng.integers(0, 256, shape).astype(np.uint8),
        rng.normal(size=shape),
        rng.poisson(3, shape).astype(np.uint16),
        cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 4),
        cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 16),
        cv2.GaussianBlur(rng.normal(size=shape), (0, 0), 48),
        cv2.resize(rng.normal(size=(64, 64)), shape),
        (rng.random(shape) < 0.1).astype(np.uint8) * 255,
    ]
    ramp = np.tile(np.arange(512), (512, 1))
    return (
        [Wrong("blank", image, "blank") for image in blanks]
        + [Wrong("noise", image, "no frontal chest") for image in noise]
        + [Wrong("ramp", image, "no frontal chest") for image in (ramp, ramp.T, ramp + ramp.T)]
    )


def _squeezed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stores a film in 16 bits, of which it uses a 128th of the range."""
    return (1000 + image.astype(np.uint16) * 2).astype(np.uint16)


Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
MORE_CHANGES: dict[str, Change] = {
    "mirrored": lambda image, _: image[:, ::-1],
    "16 bits, low contrast": _squeezed,
    "white bars": lambda image, _: np.pad(image, ((0, 0), (100, 100)), constant_values=255),
    "bars above": lambda image, _: np.pad(image, ((100, 100), (0, 0))),
}


def changed(name: str, image: np.ndarray, mask: np.ndarray, index: int) -> np.ndarray:
    """Changes a film mildly; draws depend on its place alone."""
    rng = np.random.default_rng([0, index])
    if name in MORE_CHANGES:
        return MORE_CHANGES[name](image, rng)
    return CORRUPTIONS[name](image, mask, rng)[0]


def split_of(directory: Path, name: str) -> Split:
    data = DataConfig(name="folder", dir=str(directory))
    return load_whole_folder(data, directory, "") if name == "all" else load_splits(data)[name]


def wrong_inputs(
    splits: Sequence[Split], films: int, ct_path: Path | None, photos: Path | None
) -> list[Wrong]:
    """Makes the whole set, the same for the same arguments."""
    found = blanks_and_noise(np.random.default_rng(0)) + pictures(photos)
    if ct_path:
        found += slices(ct_path)
    for split in splits:
        chosen = np.linspace(0, len(split.ids) - 1, min(films, len(split.ids))).round().astype(int)
        for i in chosen:
            example = split.read(int(i))
            rng = np.random.default_rng([0, int(i)])
            found += of_film(to_grey8(example.image), example.mask, rng)
    return found


def report_wrong(wrongs: Sequence[Wrong], fitted: Fitted, model: Any) -> dict[str, list[int]]:
    """Prints and returns, for each kind, how many are warned of, rightly, and turned over.

    With a model also how many are warned of by their masks, and by either.
    """
    heads = [
        "n",
        "warned",
        "right words",
        "turned over",
        *(["mask warned", "either"] * bool(model)),
    ]
    counts: dict[str, list[int]] = {}
    for wrong in wrongs:
        verdict = examine(wrong.image, fitted)
        warned = bool(verdict.warnings)
        right = warned and wrong.words in " ".join(verdict.warnings)
        hits = [True, warned, right, verdict.inverted]
        if model:
            grey = to_grey8(wrong.image)
            masked = bool(mask_warnings(model, 255 - grey if verdict.inverted else grey))
            hits += [masked, warned or masked]
        row = counts.get(wrong.kind, [0] * len(hits))
        counts[wrong.kind] = [k + hit for k, hit in zip(row, hits, strict=True)]
    counts["all"] = [sum(column) for column in zip(*counts.values(), strict=True)]
    print(f"| wrong input | {' | '.join(heads)} |\n|---|" + "---|" * len(heads))
    for kind, row in counts.items():
        print(f"| {kind} | " + " | ".join(map(str, row)) + " |")
    return counts


def mask_warnings(model: Any, image: np.ndarray) -> tuple[str, ...]:
    probability = model.predict_proba(to_grey8(image))
    mask = model.to_mask(probability)
    known = model.confidences.get(model.output, Confidence())
    return check_mask(mask, known.calibrate(expected_dice(probability, mask)), known.least)


def false_warnings(split: Split, change: str, fitted: Fitted) -> dict[str, list[str]]:
    """Returns id -> warnings of the films that are warned of."""

    def of(index: int) -> Verdict:
        example = split.read(index)
        return examine(changed(change, to_grey8(example.image), example.mask, index), fitted)

    with ThreadPoolExecutor(count_workers()) as pool:
        verdicts = list(pool.map(of, range(len(split.ids))))
    return {
        name: list(verdict.warnings)
        for name, verdict in zip(split.ids, verdicts, strict=True)
        if verdict.warnings
    }


def milliseconds(split: Split) -> float:
    """Measures the median time of `examine` on some films, one at a time."""
    seconds = []
    for i in range(min(50, len(split.ids))):
        grey = to_grey8(split.read(i).image)
        start = time.perf_counter()
        examine(grey)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("dirs", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--ct", type=Path, help="a chest CT, NIfTI")
    parser.add_argument("--lateral", type=Path, help="a folder of lateral films")
    parser.add_argument("--nih", type=Path, help="a folder of the films that nih_turned.txt names")
    parser.add_argument("--photos", type=Path, help="a folder of pictures, none of them an X-ray")
    parser.add_argument(
        "--films", type=int, default=12, help="to make wrong inputs of, in each DIR"
    )
    parser.add_argument("--split", default="all", choices=("all", *SPLITS))
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--model", help="also predict, and check the masks")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    fitted = read_gate(arguments.weights)
    model = load(arguments.model) if arguments.model else None
    splits = [split_of(directory, arguments.split) for directory in arguments.dirs]
    wrongs = wrong_inputs(splits, arguments.films, arguments.ct, arguments.photos)
    if arguments.lateral:
        wrongs += laterals(arguments.lateral)
    record: dict[str, Any] = {"wrong": report_wrong(wrongs, fitted, model)}
    if arguments.nih:
        record["nih"] = report_turned(arguments.nih, fitted)
    names = [directory.name for directory in arguments.dirs]
    print("\n| false warnings | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))

    def report(name: str, found: Sequence[dict[str, list[str]]]) -> None:
        record[name] = dict(zip(names, found, strict=True))
        cells = [f"{len(f)} of {len(s.ids)}" for f, s in zip(found, splits, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)

    for change in (*CORRUPTIONS, *MORE_CHANGES):
        report(change, [false_warnings(split, change, fitted) for split in splits])
    if model:
        found = []
        for split in splits:
            told = ((i, mask_warnings(model, split.read(k).image)) for k, i in enumerate(split.ids))
            found.append({i: list(warnings) for i, warnings in told if warnings})
        report(f"masks of {arguments.model}", found)
    print(f"\nexamine: {milliseconds(splits[0]):.1f} ms an image")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
