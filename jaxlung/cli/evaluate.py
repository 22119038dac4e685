"""`jaxlung eval`: its flags, and the start-up before the work."""

import argparse
import logging
from typing import Any

from jaxlung.cli.flags import add_process_flags, find_these, names_flag, path_flag
from jaxlung.errors import InputError

_EXAMPLES = """\
examples:
  jaxlung eval --workdir runs/mine                            # its own test split
  jaxlung eval --workdir runs/mine --data OTHER_DIR           # every pair of another folder
  jaxlung eval --workdir runs/a,cxr --data DIR1,DIR2 --out report    # models x sets, compared
"""


def add_eval_command(commands: Any) -> None:
    """Adds `eval`.

    Args:
        commands: as `ArgumentParser.add_subparsers` returns them.
    """
    evaluation = commands.add_parser(
        "eval",
        help="score models on images with true masks",
        description="Predicts images that have true masks, scores the masks, and writes "
        "report.html, metrics.json and per_image.csv. docs/evaluation.md says what is measured.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    evaluation.add_argument(
        "--workdir",
        type=names_flag,
        metavar="MODEL[,MODEL]",
        help="workdirs of `jaxlung train`, or a bundled model's name; several are compared on the "
        "same images",
    )
    evaluation.add_argument(
        "--data",
        type=names_flag,
        metavar="DIR[,DIR]",
        help="folders with images/ and masks/, or prepared public sets by name (default: the run's "
        "own data)",
    )
    evaluation.add_argument(
        "--split",
        help="train, validation or test of the run's own data, or all of --data (default: test of "
        "the run's own data, all of other folders)",
    )
    evaluation.add_argument(
        "--out", type=path_flag, help="default: WORKDIR/eval/ and the data's name and split"
    )
    evaluation.add_argument(
        "--tolerance-px",
        "--tolerance_px",
        type=float,
        default=2.0,
        help="of NSD, in pixels of either grid",
    )
    evaluation.add_argument(
        "--tolerance-mm",
        "--tolerance_mm",
        type=float,
        default=2.0,
        help="of NSD, where the spacing is known",
    )
    evaluation.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="average with the mirror image's prediction (default); --no-tta: predict once",
    )
    evaluation.add_argument("--notta", dest="tta", action="store_false", help=argparse.SUPPRESS)
    evaluation.add_argument(
        "--turn",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="turn X-rays that are surely rotated by 90, 180 or 270 degrees upright, and their "
        "masks back (default); --no-turn: predict them as they lie",
    )
    evaluation.add_argument(
        "--output", metavar="NAME", help="the structure to score (default: each that images label)"
    )
    evaluation.add_argument(
        "--convention",
        metavar="NAME",
        help="the structure that the masks of --data folders mark, as in lung_and_heart (default: "
        "by their metadata.csv, else the run's data.convention)",
    )
    evaluation.add_argument("--overwrite", action="store_true", help="replace an earlier report")
    add_process_flags(evaluation)
    evaluation.set_defaults(run=run_eval)


def run_eval(arguments: argparse.Namespace) -> None:
    """Scores models on images.

    Raises: as `evaluate`; InputError for wrong flags.
    """
    if arguments.workdir is None:
        raise InputError("--workdir is needed, as in --workdir runs/unet; see jaxlung eval --help")
    processes = find_these(arguments)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every file it opens

    # These imports take seconds: only after the flags are checked.
    from jaxlung.system.start import start_process

    start_process()

    from jaxlung.devices.distributed import join_processes
    from jaxlung.evaluation.evaluate import evaluate
    from jaxlung.metrics.image import Tolerance

    with join_processes(processes):
        evaluate(
            arguments.workdir,
            data=arguments.data,
            split=arguments.split,
            out=arguments.out,
            tolerance=Tolerance(arguments.tolerance_px, arguments.tolerance_mm),
            overwrite=arguments.overwrite,
            tta=arguments.tta,
            turn=arguments.turn,
            output=arguments.output,
            convention=arguments.convention,
        )
