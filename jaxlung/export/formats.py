"""The formats of `jaxlung export`. A new format is a function and a row of the table.

Imports wait until a model is written, since the command line reads the table to list its choices.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jaxlung.errors import InputError

if TYPE_CHECKING:
    from jaxlung.export.exported import Exported


class Format(NamedTuple):
    """How a model is written."""

    # write(exported, out) makes the file, checks it against the model, and says in a few words what
    # was found. Where it raises InputError it leaves nothing behind.
    write: Callable[[Exported, Path], str]
    check_extra: Callable[[], None]  # raises InputError where a package is missing
    beside: tuple[str, ...] = ()  # what is added to the file's name for files beside it
    files: tuple[str, ...] = ()  # it is a folder of these
    halves: bool = False  # kernels are kept as float16 in any case

    @property
    def is_folder(self) -> bool:
        return bool(self.files)


def _write_onnx(exported: Exported, out: Path) -> str:
    from jaxlung.export.onnx_file import write_onnx

    return write_onnx(exported, out)


def _write_stablehlo(exported: Exported, out: Path) -> str:
    from jaxlung.export.stablehlo import write_stablehlo

    return write_stablehlo(exported, out)


def _write_html(exported: Exported, out: Path) -> str:
    from jaxlung.export.html.write import write_html

    return write_html(exported, out)


def _write_site(exported: Exported, out: Path) -> str:
    from jaxlung.export.html.write import write_site

    return write_site(exported, out)


def _need_nothing() -> None:
    pass


def _check_onnx() -> None:
    _check("onnx", "ONNX")


def _check_flatbuffers() -> None:
    _check("flatbuffers", "StableHLO")


def _check(package: str, format: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise InputError(f'{format} needs {package}: pip install "jaxlung[export]"')


_SITE = (
    "index.html",
    "page.css",
    "page.js",
    "worker.js",
    "model.bin",
    "engine.wasm",
    "decoders.bin",
    "LICENSES.txt",
)
FORMATS = {
    "onnx": Format(_write_onnx, _check_onnx),
    "stablehlo": Format(_write_stablehlo, _check_flatbuffers, (".json",)),
    "html": Format(_write_html, _need_nothing, halves=True),
    "html-site": Format(_write_site, _need_nothing, files=_SITE, halves=True),
}
