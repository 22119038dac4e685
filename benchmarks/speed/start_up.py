"""Times the first step and the first mask: python benchmarks/speed/start_up.py DIR [--repeats 3]

DIR holds images/ and masks/. Cold is a process with an empty compilation cache, warm every later
one. The first step is train.py's with configs/unet.py on DIR, the first mask that of
`jaxlung predict` with a model trained on 16 phantoms for one epoch.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, "train.py", "--config", "configs/unet.py"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="of the warm ones")
    arguments = parser.parse_args()
    image = min((arguments.directory / "images").iterdir())
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        environment = {**os.environ, "XDG_CACHE_HOME": name}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # which would go before
        small = [
            "--config.data.phantom_train=16",
            "--config.data.phantom_validation=1",
            "--config.data.phantom_test=1",
            "--config.train.num_epochs=1",
        ]
        subprocess.run(
            [*TRAIN, *small, f"--workdir={temporary / 'model'}"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            env={**environment, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        )
        for repeat in range(arguments.repeats + 1):
            kind = "warm" if repeat else "cold"
            seconds = first_step(arguments.directory, temporary / f"run{repeat}", environment)
            print(f"{kind}: first training step after {seconds:.1f} s", flush=True)
        for repeat in range(arguments.repeats + 1):
            kind = "warm" if repeat else "cold"
            start = time.monotonic()
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "jaxlung",
                    "predict",
                    str(image),
                    "--workdir",
                    str(temporary / "model"),
                    "--out",
                    str(temporary / f"masks{repeat}"),
                ],
                cwd=ROOT,
                env=environment,
                check=True,
                capture_output=True,
            )
            print(f"{kind}: first mask after {time.monotonic() - start:.1f} s", flush=True)


def first_step(directory: Path, workdir: Path, environment: dict[str, str]) -> float:
    command = [
        *TRAIN,
        "--config.data.name=folder",
        f"--config.data.dir={directory.resolve()}",
        f"--workdir={workdir}",
    ]
    start, seen = time.monotonic(), b""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        while not re.search(rb" [1-9]\d*/\d+ ", seen):  # the progress bar has moved
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                sys.exit(f"train.py ended: {seen.decode(errors='replace')}")
            seen = seen[-1000:] + data
        seconds = time.monotonic() - start
        process.kill()
    return seconds


if __name__ == "__main__":
    main()
