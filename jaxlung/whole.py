"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: Path, *, by_suffix: bool = False) -> Iterator[Path]:
    """Where to write: a hidden file beside `path`, which takes its place when all went well.

    With by_suffix its suffix is that of `path`, for writers that choose their format by it; without
    it is none of an image, which what a killed process leaves behind might pass for.
    """
    name = f".partial_{path.name}" if by_suffix else f".{path.name}.partial"
    partial = path.with_name(name)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
