"""`jaxlung export`: its flags and its work."""

import argparse
import logging
from pathlib import Path
from typing import Any

from jaxlung.export.formats import FORMATS


def add_export_command(commands: Any) -> None:
    """Adds `export`.

    Args:
        commands: as `ArgumentParser.add_subparsers` returns them.
    """
    export = commands.add_parser(
        "export",
        help="write a model for other runtimes",
        description="Writes a model as a file that runs without jaxlung: ONNX for ONNX Runtime, "
        "OpenCV and many others, StableHLO for JAX, and a page that finds lungs by itself in any "
        "browser (html: one file; html-site: a folder for a web server). The others take "
        "canvases, uint8 [batch, size, size], and give the probabilities of each structure by its "
        "name; docs/export.md says what to do before and after it. A file appears once its "
        "probabilities on phantoms are those of jaxlung. Not a medical device.",
    )
    export.add_argument(
        "model",
        nargs="+",
        metavar="MODEL",
        help="a workdir of `jaxlung train`, or a bundled model's name; several: their mean",
    )
    export.add_argument("--format", choices=tuple(FORMATS), default="onnx", help="default: onnx")
    export.add_argument(
        "--out", required=True, type=Path, help="the file to write, or of html-site the folder"
    )
    export.add_argument(
        "--float16",
        action="store_true",
        help="keep kernels as float16, in half the file (bundled models lose nothing by it); the "
        "arithmetic is float32 all the same",
    )
    export.add_argument(
        "--tta",
        action="store_true",
        help="average with the mirror image's prediction, as `jaxlung predict` does without "
        "--no-tta; takes twice the time",
    )
    export.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    export.set_defaults(run=run_export)


def run_export(arguments: argparse.Namespace) -> None:
    """Writes the file, and prints what was written and how it was checked."""
    from jaxlung.export.write import check_out, export_model
    from jaxlung.system.start import start_process

    chosen = FORMATS[arguments.format]
    chosen.check_extra()
    check_out(arguments.out, chosen, overwrite=arguments.overwrite)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every file it opens
    start_process()
    models = arguments.model
    print(
        export_model(
            models if len(models) > 1 else models[0],
            out=arguments.out,
            format=arguments.format,
            float16=arguments.float16,
            tta=arguments.tta,
            overwrite=arguments.overwrite,
        )
    )
