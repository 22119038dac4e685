"""Builds engine.wasm, the engine of the page that `jaxlung export --format html` writes.

    pip install -e ".[wasm]"
    python -m tools.build_engine

The compiler is Zig's clang, which comes as a package for each platform. Its version is pinned in
pyproject.toml: the same source gives the same bytes everywhere, and a test compares them.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from jaxlung.export.html import plan

ENGINE = Path(plan.__file__).parent / "engine"
_FLAGS = (
    *("-target", "wasm32-freestanding", "-mcpu=generic+simd128+bulk_memory", "-O3", "-nostdlib"),
    *("-Wl,--no-entry", "-Wl,--import-memory", "-Wl,--strip-all"),
    f"-Wl,-z,stack-size={plan.STACK}",
)


def build(out: Path) -> None:
    """Compiles engine.c to `out`.

    Raises:
        subprocess.CalledProcessError: the compiler refuses it, or is not installed.
    """
    with tempfile.TemporaryDirectory() as cache:  # which may not be written to otherwise
        subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *_FLAGS, "-o", str(out), "engine.c"],
            cwd=ENGINE,
            check=True,
            env={"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, "HOME": cache},
        )


def main() -> None:
    """Builds the committed file anew."""
    target = ENGINE / "engine.wasm"
    build(target)
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
