"""Measures start and memory of many files: python benchmarks/speed/large_folder.py DIR [--count N]

Takes a folder with images/ and masks/, and makes one of N pairs (20000 if not said) of links to its
files. Then, in processes of their own:
1. train.py with configs/unet.py, until its first step is done: seconds from the command to it.
2. train.py with a tiny network for five epochs, every file read anew in each (data.cache_gib=0; the
   files are small copies, or an epoch would take an hour): memory at the end of each epoch.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxlung.data.folder import find_pairs
from jaxlung.io.images import read_image, write_png
from jaxlung.io.masks import read_mask
from jaxlung.preprocess import is_lung, to_canvas

ROOT = Path(__file__).resolve().parents[2]
SIDE = 64  # of the small copies
EPOCHS = 5
TINY = {
    "data.cache_gib": 0.0,
    "data.size": SIDE,
    "model.width": 4,
    "model.depth": 1,
    "train.num_epochs": EPOCHS,
    "train.patience": 0,
    "train.batch_size": 64,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    arguments = parser.parse_args()
    pairs = find_pairs(arguments.directory)
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        files = [(image, mask) for _, image, mask in pairs]
        link(files, temporary / "large", arguments.count)
        started = time.monotonic()
        with train(temporary / "large", temporary / "first", {}) as process:
            wait_for(process, rb" [1-9]\d*/\d+ ")
            seconds = time.monotonic() - started
            print(f"{arguments.count} pairs of these files: first step after {seconds:.1f} s")
            process.kill()
        link(shrink(files, temporary / "copies"), temporary / "small", arguments.count)
        with train(temporary / "small", temporary / "lasting", TINY) as process:
            for epoch in range(1, EPOCHS + 1):
                wait_for(process, rb"epoch +%d\b" % epoch)
                print(
                    f"{arguments.count} pairs of {SIDE}x{SIDE}: {resident_mib(process.pid)} MiB "
                    f"at the end of epoch {epoch}"
                )
            process.communicate()


def link(files: list[tuple[Path, Path]], folder: Path, count: int) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        for kind, path in zip(("images", "masks"), files[i % len(files)], strict=True):
            (folder / kind / f"p{i:06d}{path.suffix}").symlink_to(path.resolve())


def shrink(files: list[tuple[Path, Path]], folder: Path) -> list[tuple[Path, Path]]:
    folder.mkdir()
    small = []
    for image, mask in files[:100]:
        paths = folder / f"{image.stem}.png", folder / f"{image.stem}_mask.png"
        image_SxS, mask_SxS, _ = to_canvas(
            read_image(image), read_mask(mask), size=SIDE, fit="stretch"
        )
        assert mask_SxS is not None
        write_png(paths[0], image_SxS)
        write_png(paths[1], 255 * is_lung(mask_SxS).astype(np.uint8))
        small.append(paths)
    return small


def train(folder: Path, workdir: Path, fields: dict[str, object]) -> subprocess.Popen[bytes]:
    fields = {"data.name": "folder", "data.dir": folder, **fields}
    flags = [f"--config.{field}={value}" for field, value in fields.items()]
    command = [sys.executable, "train.py", "--config", "configs/unet.py", "--workdir", workdir]
    return subprocess.Popen(
        [*map(str, command), *flags], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for(process: subprocess.Popen[bytes], pattern: bytes) -> None:
    assert process.stdout is not None
    seen = b""
    while not re.search(pattern, seen):
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            sys.exit(f"train.py ended: {seen.decode(errors='replace')}")
        seen = seen[-1000:] + data


def resident_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match
    return int(match[1]) // 1024


if __name__ == "__main__":
    main()
