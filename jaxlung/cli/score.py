"""`jaxlung score`: its flags and its work."""

import argparse
from pathlib import Path
from typing import Any


def add_score_command(commands: Any) -> None:
    """Adds `score`.

    Args:
        commands: as `ArgumentParser.add_subparsers` returns them.
    """
    score = commands.add_parser(
        "score",
        help="compare masks of any tool with true masks",
        description="Matches the masks of two folders by file name (less _mask at its end), and "
        "writes report.html, metrics.json and per_image.csv, of CT volumes per_volume.csv too. An "
        "image without a mask in --pred counts as a failure. docs/evaluation.md says what is "
        "measured.",
    )
    score.add_argument(
        "--pred",
        required=True,
        type=Path,
        help="folder of masks to score: pictures, or volumes of CT",
    )
    score.add_argument("--truth", required=True, type=Path, help="folder of true masks")
    score.add_argument("--out", required=True, type=Path, help="folder for the report")
    score.add_argument(
        "--images", type=Path, help="folder of the X-rays or CT volumes, to draw outlines on"
    )
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
        "--spacing-mm",
        type=float,
        help="side of a pixel or voxel, whatever the metadata or headers say",
    )
    score.add_argument("--tolerance-px", type=float, default=2.0, help="of NSD (default 2)")
    score.add_argument("--tolerance-mm", type=float, default=2.0, help="of NSD (default 2)")
    score.add_argument("--overwrite", action="store_true", help="replace an earlier report")
    score.set_defaults(run=run_score)


def run_score(arguments: argparse.Namespace) -> None:
    """Scores two folders of masks."""
    from jaxlung.evaluation.mask_scores import score
    from jaxlung.metrics.image import Tolerance

    score(
        arguments.pred,
        arguments.truth,
        arguments.out,
        images=arguments.images,
        metadata=arguments.metadata,
        sides=arguments.sides,
        spacing_mm=arguments.spacing_mm,
        tolerance=Tolerance(arguments.tolerance_px, arguments.tolerance_mm),
        overwrite=arguments.overwrite,
    )
