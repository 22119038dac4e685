"""`jaxlung data ...`: commands about data sets. Each adds its parser and names its function."""

import argparse
from pathlib import Path
from typing import Any


def add_data_commands(commands: Any) -> None:
    """Adds `data` and its own commands.

    Args:
        commands: what `ArgumentParser.add_subparsers` returned.
    """
    data = commands.add_parser(
        "data", help="look after data sets", description="Looks after data sets."
    )
    data_commands = data.add_subparsers(dest="data_command", required=True)
    _add_check(data_commands)


def _add_check(data_commands: Any) -> None:
    check = data_commands.add_parser(
        "check",
        help="is a folder fit for training?",
        description="Reads every pair of DIR/images and DIR/masks once and names what is broken "
        "(errors) or suspicious (warnings), the worst first. Exit status: 0 if training can go "
        "ahead, 1 if there are errors, 2 for bad usage. docs/data_check.md explains every finding.",
    )
    check.set_defaults(run=run_check)
    check.add_argument("directory", type=Path, metavar="DIR", help="holds images/ and masks/")
    check.add_argument("--out", type=Path, help="folder for check.html and check.json")
    check.add_argument(
        "--metadata", type=Path,
        help="CSV with the column id, and any of patient, spacing_mm and subgroups "
        "(default: DIR/metadata.csv, if there is one)",
    )  # fmt: skip
    check.add_argument("--split-file", type=Path, help="as data.split_file of train.py")
    check.add_argument("--patient-pattern", default="", help="as data.patient_pattern of train.py")
    check.add_argument("--validation-fraction", type=float, help="of the split by hash")
    check.add_argument("--test-fraction", type=float, help="of the split by hash")
    check.add_argument("--overwrite", action="store_true", help="replace an earlier report")


def run_check(arguments: argparse.Namespace) -> None:
    from jaxlung.check_report import check_out, text, write_report
    from jaxlung.data_check import check

    if arguments.out:
        check_out(arguments.out, overwrite=arguments.overwrite)
    names = ("validation_fraction", "test_fraction")
    fractions = {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}
    result = check(
        arguments.directory,
        metadata=arguments.metadata,
        split_file=arguments.split_file,
        patient_pattern=arguments.patient_pattern,
        **fractions,
    )
    print(text(result))
    if arguments.out:
        write_report(result, arguments.out)
        print(f"written: {arguments.out}/check.html, check.json")
    if result.errors():
        raise SystemExit(1)
