"""Times `jaxlung predict` on one large scan: python benchmarks/speed/volume.py [--shape H W SLICES]

Writes a simulated chest CT (512x512x600 by default: smooth shapes and noise, int16, gzip level 1)
to a temporary folder and predicts it in a fresh process. Prints the seconds from the start of that
process to the written mask, with start-up, reading and writing; those of the scan alone; slices a
second of these; and the highest resident memory of the process, as Linux counts it (VmHWM).
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
_SIZE = (0.7, 0.7, 1.0)  # mm of a voxel: columns, rows, slices
_NOISE = 25  # HU
# Runs the command in this process, so that it can say how much memory it took.
_CHILD = """
import sys
from jaxlung.cli import main
try:
    main(sys.argv[1:])
finally:
    status = open("/proc/self/status").read().splitlines()
    print(*(line for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""


def chest_slice(height: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Hounsfield units int16 [H, W] of a chest at a height from 0, the feet, to 1."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    hu = np.full(shape, -1000.0)
    wide = 0.9 - 0.25 * height**4
    hu[(x / wide) ** 2 + (y / 0.7) ** 2 < 1] = -90  # fat
    hu[(x / (wide - 0.08)) ** 2 + (y / 0.62) ** 2 < 1] = 45  # muscle
    size = np.sqrt(max(0.0, 1 - ((height - 0.55) / 0.4) ** 2))  # no lung at either end
    for side in (-1, 1):
        lung = ((x - 0.4 * side) / (0.3 * size + 1e-6)) ** 2 + (y / (0.45 * size + 1e-6)) ** 2 < 1
        hu[lung] = -830
        vessels = np.sin(23 * x + 9 * height) * np.sin(31 * y - 17 * height) > 0.93
        hu[lung & vessels] = 20
    hu[x**2 + ((y - 0.4) / 1.2) ** 2 < 0.012] = 350  # spine
    hu[x**2 + (y + 0.1) ** 2 < 0.0015] = -980  # windpipe
    hu += rng.normal(0, _NOISE, shape)
    return np.clip(hu, -1024, 3071).astype(np.int16)


def write_scan(path: Path, shape: tuple[int, int], slices: int) -> None:
    """Writes the scan slice by slice; its header is nibabel's, in the order L-P-S."""
    import nibabel

    affine = np.diag([-_SIZE[0], -_SIZE[1], _SIZE[2], 1.0])
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((shape[1], shape[0], slices))
    header.set_sform(affine, code="scanner")
    header.set_xyzt_units("mm")
    header.set_data_offset(352)
    rng = np.random.default_rng(0)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for z in range(slices):
            # NIfTI's first axis, the columns, runs fastest.
            file.write(chest_slice(z / (slices - 1), shape, rng).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=(512, 512, 600))
    parser.add_argument("--model", default="ct")
    parser.add_argument("--folder", type=Path, help="keep the scan here, and take it if it is")
    parser.add_argument("flags", nargs="*", help="of jaxlung predict, after --")
    arguments = parser.parse_args()
    height, width, slices = arguments.shape
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        scan, out = folder / f"scan_{height}x{width}x{slices}.nii.gz", Path(name, "out")
        if not scan.exists():
            write_scan(scan, (height, width), slices)
        command = [sys.executable, "-c", _CHILD, "predict", str(scan), "--out", str(out)]
        command += ["--model", arguments.model, *arguments.flags]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        start = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        wall = time.monotonic() - start
        if done.returncode:
            raise SystemExit(done.stderr)
        [row] = json.loads((out / "summary.json").read_text())["images"]
        size = scan.stat().st_size / 2**20
    [peak] = [line for line in done.stderr.splitlines() if line.startswith("VmHWM")]
    print(f"{height}x{width}x{slices}, {size:.0f} MiB packed, on {os.cpu_count()} cores")
    print(f"process {wall:.1f} s; scan alone {row['seconds']:.1f} s", end=", ")
    print(f"{slices / row['seconds']:.1f} slices/s; peak {int(peak.split()[1]) / 2**20:.2f} GiB")
    print(f"lungs {row['lung_ml']} ml; {'; '.join(row['warnings']) or 'no warning'}")


if __name__ == "__main__":
    main()
