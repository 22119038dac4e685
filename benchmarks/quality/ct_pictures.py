"""Compares masks of pictures of CT slices with those of Hounsfield units.

python benchmarks/quality/ct_pictures.py --scans DIR [--model MODEL] [--only STEM ...] [--every N]

DIR is a folder with images/ and masks/ of CT volumes, MODEL a bundled model's name or a workdir.
Each slice with lung goes through the model in Hounsfield units, and as the pictures that slice sets
hold: 8-bit PNG in several windows, a negative, JPEG of quality 60 and a copy of 256x256 pixels.
Pictures are written to files and predicted as `jaxlung predict` does. It prints the mean Dice per
slice of each, its difference to that of Hounsfield units, how many slices were warned of (of
negatives: turned over, most often), and how many `jaxlung predict` would take for CT where no
--model is named. --json FILE keeps every slice's Dice.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxlung.data.ct_folder import find_volumes  # noqa: E402
from jaxlung.errors import InputError, one_line_errors  # noqa: E402
from jaxlung.gate.image import examine_grey  # noqa: E402
from jaxlung.io.ct.hounsfield import apply_window, read_scan  # noqa: E402
from jaxlung.io.ct.labels import check_same_grid, read_label_volume  # noqa: E402
from jaxlung.io.images import write_png  # noqa: E402
from jaxlung.predict.load import load  # noqa: E402
from jaxlung.predict.predictor import Predictor  # noqa: E402
from jaxlung.system import start  # noqa: E402

_LUNG = (-1350, 150)
WINDOWS = {
    "lung window": _LUNG,
    "wide window": (-1000, 1000),
    "mediastinal window": (-160, 240),
    "full range": (-1024, 3071),
}
_SMALL = 256  # pixels of the small copy
_QUALITY = 60  # of JPEG
NAMES = (*WINDOWS, "negative", f"JPEG {_QUALITY}", f"{_SMALL}x{_SMALL}")


def write_pictures(hu_HxW: np.ndarray, folder: Path) -> dict[str, Path]:
    """Writes a slice as each of NAMES; all but WINDOWS are in the lung window."""
    paths = {name: folder / f"{i}.png" for i, name in enumerate(NAMES)}
    for name, window in WINDOWS.items():
        write_png(paths[name], apply_window(hu_HxW, *window))
    grey_HxW = apply_window(hu_HxW, *_LUNG)
    write_png(paths["negative"], 255 - grey_HxW)
    small = cv2.resize(grey_HxW, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    write_png(paths[NAMES[-1]], small)
    jpeg = paths[NAMES[-2]] = folder / "slice.jpg"
    assert cv2.imwrite(str(jpeg), grey_HxW, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return paths


def score(mask_HxW: np.ndarray, truth_HxW: np.ndarray) -> float:
    """The Dice of a slice with lung, on the picture's own grid."""
    if mask_HxW.shape != truth_HxW.shape:
        size = mask_HxW.shape[::-1]
        cover = cv2.resize(truth_HxW.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        truth_HxW = cover >= 0.5
    return float(2 * (mask_HxW & truth_HxW).sum() / (mask_HxW.sum() + truth_HxW.sum()))


def measure(
    model: Predictor, image: Path, mask: Path, every: int, folder: Path
) -> list[dict[str, Any]]:
    """Scores every Nth slice of a scan that has lung, in Hounsfield units and as pictures."""
    scan, labels = read_scan(image), read_label_volume(mask)
    check_same_grid(labels.grid, mask, scan.grid, image)
    truth_ZxHxW = labels.voxels_ZxHxW > 0
    rows = []
    for z in np.flatnonzero(truth_ZxHxW.any((1, 2)))[::every]:
        paths = write_pictures(scan.voxels_ZxHxW[z], folder)
        given = [scan.voxels_ZxHxW[z], *paths.values()]
        row: dict[str, Any] = {"scan": image.name, "slice": int(z)}
        for name, (_, found) in zip(
            ("HU", *paths), model.predict_many(given, progress=False), strict=True
        ):
            if isinstance(found, InputError):
                raise found
            row[name] = score(found.mask, truth_ZxHxW[z])
            row[f"{name}: warned"] = bool(found.warnings)
            if name in paths:
                grey_HxW = cv2.imread(str(paths[name]), cv2.IMREAD_GRAYSCALE)
                row[f"{name}: CT"] = examine_grey(grey_HxW).is_ct
        rows.append(row)
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    """Prints a line for each picture."""
    print(f"{len({row['scan'] for row in rows})} scans, {len(rows)} slices with lung")
    print(f"{'':20} {'Dice':>7} {'to HU':>8} {'lowest':>7} {'warned of':>10} {'taken for CT':>13}")
    reference = np.mean([row["HU"] for row in rows])
    for name in ("HU", *NAMES):
        dice = np.array([row[name] for row in rows])
        warned = sum(row[f"{name}: warned"] for row in rows)
        told = "" if name == "HU" else sum(row[f"{name}: CT"] for row in rows)
        difference = f"{dice.mean() - reference:+8.4f}"
        print(f"{name:20} {dice.mean():7.4f} {difference} {dice.min():7.4f} {warned:10} {told:>13}")


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scans", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="ct", help="default: the bundled model of CT")
    parser.add_argument("--only", nargs="+", metavar="STEM", help="the scans to take")
    parser.add_argument("--every", type=int, default=1, help="take every Nth slice with lung")
    parser.add_argument("--no-tta", action="store_true", help="predict once")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    start.use_cores()
    model = load(arguments.model, tta=not arguments.no_tta)
    pairs = find_volumes(arguments.scans)
    for stem in arguments.only or pairs:
        if stem not in pairs:
            raise InputError(f"--only {stem}: no such scan; there are {', '.join(pairs)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stem in arguments.only or pairs:
            rows += measure(model, *pairs[stem], arguments.every, Path(folder))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows))
    report(rows)


if __name__ == "__main__":
    main()
