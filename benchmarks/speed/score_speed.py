"""Measures time and memory of `jaxlung score`: python benchmarks/speed/score_speed.py DIR DIR...

It takes the true masks of folders with masks/, and makes predictions of them with moved, rougher
outlines and stray pieces. A process of its own scores all of them from disk and writes the report.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from jaxlung.io.images import write_png
from jaxlung.io.masks import read_mask


def disturb(mask_HxW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves the outlines of a mask by a few pixels, and adds a stray piece to a fifth of masks."""
    height, width = mask_HxW.shape
    coarse = rng.normal(0, 6, (8, 8, 2)).astype(np.float32)
    shift_HxWx2 = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    moved = (
        cv2.remap(
            mask_HxW.astype(np.uint8) * 255,
            columns + shift_HxWx2[..., 0],
            rows + shift_HxWx2[..., 1],
            cv2.INTER_LINEAR,
        )
        > 127
    )
    if rng.random() < 0.2:
        y, x = rng.integers(0, height - 9), rng.integers(0, width - 9)
        moved[y : y + 9, x : x + 9] = True
    return moved


def main(folders: list[str]) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as root:
        truth, pred = Path(root) / "truth", Path(root) / "pred"
        truth.mkdir(), pred.mkdir()
        count = 0
        for folder in folders:
            for path in sorted((Path(folder) / "masks").iterdir()):
                mask_HxW = read_mask(path)
                write_png(truth / path.name, mask_HxW.astype(np.uint8) * 255)
                write_png(pred / path.name, disturb(mask_HxW, rng).astype(np.uint8) * 255)
                count += 1
        command = [sys.executable, "-m", "jaxlung", "score"]
        for flag, path in (("--pred", pred), ("--truth", truth), ("--out", Path(root) / "out")):
            command += [flag, str(path)]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"{count} masks scored in {seconds:.1f} s ({count / seconds:.0f} a second), peak memory "
        f"{peak:.2f} GiB, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__.splitlines()[0])
    main(sys.argv[1:])
