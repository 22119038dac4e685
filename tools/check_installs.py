"""Checks that jaxlung and its extras have wheels on each platform, for each Python.

    python -m tools.check_installs

Nothing is built or installed: `uv` resolves pyproject.toml for each. One resolution has all the
extras that should work there; a part of its solution then solves the package without extras and
with any one of them. Fails with uv's reason where there is no solution.
"""

import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
PYTHONS = ("3.11", "3.12", "3.13")
# uv's name of a platform to the extras that it cannot have. JAX has wheels for CUDA on Linux alone,
# and for TPUs on Linux x86-64 with glibc 2.31, as on Cloud TPU; other wheels take an older glibc.
PLATFORMS = {
    "aarch64-apple-darwin": {"cuda", "tpu"},
    "aarch64-unknown-linux-gnu": {"tpu"},
    "x86_64-unknown-linux-gnu": {"tpu"},
    "x86_64-manylinux_2_31": set(),
    "x86_64-pc-windows-msvc": {"cuda", "tpu"},
}


def resolve(platform: str, python: str, extras: list[str]) -> tuple[bool, str]:
    """Returns whether there is a solution, and a line about it."""
    command = [sys.executable, "-m", "uv", "pip", "compile", str(PYPROJECT), "--quiet"]
    command += ["--python-platform", platform, "--python-version", python]
    # promise, of tensorflow-datasets, is published as source alone, in pure Python.
    command += ["--only-binary", ":all:", "--no-binary", "promise"]
    command += [part for extra in extras for part in ("--extra", extra)]
    done = subprocess.run(command, capture_output=True, text=True)
    name = f"{platform:25} Python {python}, {' '.join(extras)}"
    if done.returncode:
        return False, f"error: {name}: {' '.join(done.stderr.split())}"
    versions = re.findall(r"^((?:jax|tensorflow|tensorflow-cpu)==\S+)", done.stdout, re.MULTILINE)
    return True, f"{name}: {', '.join(versions)}"


def main() -> None:
    extras = sorted(tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"])
    cases = [
        (platform, python, [extra for extra in extras if extra not in absent])
        for platform, absent in PLATFORMS.items()
        for python in PYTHONS
    ]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda case: resolve(*case), cases))
    for _, line in results:
        print(line)
    if not all(found for found, _ in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
