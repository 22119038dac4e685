"""The `jaxlung` command."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxlung.cli.data import add_data_commands
from jaxlung.cli.predict import add_predict_command
from jaxlung.cli.score import score_folders
from jaxlung.errors import one_line_errors
from jaxlung.version import __version__


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jaxlung", description="Finds the lungs in chest X-rays.")
    parser.add_argument("--version", action="version", version=f"jaxlung {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    add_predict_command(commands)
    score = commands.add_parser(
        "score",
        help="compare masks of any tool with true masks",
        description="Matches the masks of two folders by file name (less _mask at its end), and "
        "writes report.html, metrics.json and per_image.csv. An image without a mask in --pred "
        "counts as a failure. docs/evaluation.md says what is measured.",
    )
    score.add_argument("--pred", required=True, type=Path, help="folder of masks to score")
    score.add_argument("--truth", required=True, type=Path, help="folder of true masks")
    score.add_argument("--out", required=True, type=Path, help="folder for the report")
    score.add_argument("--images", type=Path, help="folder of the X-rays, to draw outlines on")
    score.add_argument(
        "--metadata",
        type=Path,
        help="CSV with the column id, and any of patient, spacing_mm and subgroups; default: "
        "metadata.csv beside the folder of true masks, if it is there",
    )
    score.add_argument(
        "--sides",
        action="store_true",
        help="masks hold 1 for the patient's right lung and 2 for the left one",
    )
    score.add_argument(
        "--spacing-mm", type=float, help="side of a pixel of every image, whatever the metadata say"
    )
    score.add_argument("--tolerance-px", type=float, default=2.0, help="of NSD (default 2)")
    score.add_argument("--tolerance-mm", type=float, default=2.0, help="of NSD (default 2)")
    score.add_argument("--overwrite", action="store_true", help="replace an earlier report")
    score.set_defaults(run=score_folders)
    add_data_commands(commands)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)
