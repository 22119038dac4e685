"""`jaxlung data ...`: the commands about data sets, their flags and their work."""

import argparse
import shlex
import textwrap
from pathlib import Path
from typing import Any

from jaxlung.catalog import CATALOG, did_you_mean, is_set
from jaxlung.errors import InputError


def add_data_commands(commands: Any) -> None:
    """Adds `data` and its own commands.

    Args:
        commands: as `ArgumentParser.add_subparsers` returns them.
    """
    data = commands.add_parser(
        "data", help="look after data sets", description="Looks after data sets."
    )
    data_commands = data.add_subparsers(dest="data_command", required=True)
    _add_list(data_commands)
    _add_prepare(data_commands)
    _add_check(data_commands)
    _add_coco(data_commands)


def _add_list(data_commands: Any) -> None:
    listing = data_commands.add_parser(
        "list",
        help="the public sets that can be trained on",
        description="Each set's size, label convention, terms, and whether it is prepared here.",
    )
    listing.set_defaults(run=lambda arguments: print(list_sets(arguments.data_dir)))
    _add_data_dir(listing)


def _add_prepare(data_commands: Any) -> None:
    preparing = data_commands.add_parser(
        "prepare",
        help="download and convert a public set",
        description="Downloads a set (or takes what you fetched by hand), checks every file and "
        "writes it for --config.data.name=NAME. docs/datasets.md describes the sets.",
    )
    preparing.set_defaults(run=run_prepare)
    preparing.add_argument("name", choices=CATALOG, metavar="NAME", help=", ".join(CATALOG))
    preparing.add_argument(
        "--manual-dir",
        default="",
        help="folder that holds NAME/ with files fetched by hand (default: "
        "DATA_DIR/downloads/manual)",
    )
    _add_data_dir(preparing)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        default="",
        help="folder of prepared sets (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )


def _add_check(data_commands: Any) -> None:
    check = data_commands.add_parser(
        "check",
        help="is a folder or a prepared set fit for training?",
        description="Reads every pair of DIR/images and DIR/masks (X-rays or CT volumes), or of a "
        "prepared public set, once, and names what is broken (errors) or suspicious (warnings), "
        "the worst first. Exit status: 0 if training can go ahead, 1 if there are errors, 2 for "
        "bad usage. docs/data_check.md explains every finding.",
    )
    check.set_defaults(run=run_check)
    check.add_argument(
        "source",
        type=Path,
        metavar="NAME|DIR",
        help="a folder that holds images/ and masks/, or, where there is none of that name, a set "
        "of `jaxlung data list`",
    )
    check.add_argument("--out", type=Path, help="folder for check.html and check.json")
    check.add_argument(
        "--metadata",
        type=Path,
        help="CSV with the column id, and any of patient, spacing_mm and subgroups "
        "(default: DIR/metadata.csv, if there is one)",
    )
    _add_data_dir(check)
    check.add_argument("--split-file", type=Path, help="as --config.data.split_file")
    check.add_argument("--patient-pattern", default="", help="as --config.data.patient_pattern")
    check.add_argument("--validation-fraction", type=float, help="of the split by hash")
    check.add_argument("--test-fraction", type=float, help="of the split by hash")
    check.add_argument("--overwrite", action="store_true", help="replace an earlier report")


def _add_coco(data_commands: Any) -> None:
    coco = data_commands.add_parser(
        "coco",
        help="masks of `jaxlung predict` as COCO annotations, for label tools",
        description="Writes the masks in the --out folder of `jaxlung predict`, as they are now, "
        "into one COCO file: run-length encoded, a category for each structure, or for each lung "
        "of --sides. Names of images are as in summary.csv, with their suffix.",
    )
    coco.set_defaults(run=run_coco)
    coco.add_argument("folder", type=Path, metavar="DIR", help="the --out folder of predictions")
    coco.add_argument("--out", required=True, type=Path, help="the JSON file to write")
    coco.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def run_coco(arguments: argparse.Namespace) -> None:
    """Writes the annotations, and prints how many."""
    from jaxlung.predict.batch.coco import write_coco

    print(write_coco(arguments.folder, arguments.out, overwrite=arguments.overwrite))


def run_prepare(arguments: argparse.Namespace) -> None:
    """Prepares a set and prints where it is."""
    print(prepare_set(arguments.name, arguments.data_dir, arguments.manual_dir))


def list_sets(data_dir: str | Path = "") -> str:
    """Writes a table of the sets: size, convention, terms, and whether each is prepared."""
    from jaxlung.data.prepared import data_dir_of, is_prepared

    width = max(map(len, CATALOG))
    lines = [f"{'name':{width}}  {'images':>7}  {'convention':14}  {'files':13}  ready"]
    for entry in CATALOG.values():
        files = "fetch by hand" if entry.manual else "downloads"
        ready = "yes" if is_prepared(entry.name, data_dir) else "no"
        lines.append(
            f"{entry.name:{width}}  {entry.n:7}  {entry.convention:14}  {files:13}  {ready}"
        )
        for text in (entry.description, f"Terms: {entry.terms}.", entry.homepage):
            lines += textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="      ")
    lines.append(f"Ready: prepared in {data_dir_of(data_dir)} by `jaxlung data prepare NAME`.")
    return "\n".join(lines)


def prepare_set(name: str, data_dir: str | Path = "", manual_dir: str | Path = "") -> str:
    """Prepares a set. Returns a text that says what was written, and how to train on it.

    Raises: as `prepare.prepare`.
    """
    from jaxlung.data.prepare import prepare
    from jaxlung.data.prepared import data_dir_of

    entry = CATALOG[name]
    builder = prepare(name, data_dir, manual_dir)
    count = sum(split.num_examples for split in builder.info.splits.values())
    is_ct = entry.modality == "ct"  # whose `n` does not count slices
    unit = "slices" if is_ct else "images"
    whole = "" if is_ct or count == entry.n else f" ({entry.n} published)"
    lines = [f"{name}: {count} {unit}{whole} in {builder.data_path}"]
    left_out = (builder.info.metadata or {}).get("left_out", {})
    lines += [f"left out: {number} {reason}" for reason, number in left_out.items()]
    lines.append(f"Terms: {entry.terms}.")
    where = f" --config.data.dir={shlex.quote(str(data_dir_of(data_dir)))}" if data_dir else ""
    recipe = "ct" if is_ct else "unet"
    options = f"--config {recipe} --config.data.name={name}{where} --workdir runs/{name}"
    lines.append(f"next: jaxlung train {options}")
    return "\n".join(lines)


def run_check(arguments: argparse.Namespace) -> None:
    """Checks a folder or a prepared set.

    Raises:
        InputError: bad usage.
        SystemExit: with status 1, there are errors.
    """
    from jaxlung.data_check.check import check
    from jaxlung.data_check.report import OUTPUTS, format_summary, write_report
    from jaxlung.io.page import make_report_folder

    named = is_set(arguments.source)
    if not named and not arguments.source.exists():
        name = str(arguments.source)
        raise InputError(
            f"{name}: no such folder, nor a set of `jaxlung data list`{did_you_mean(name)}"
        )
    if not named and arguments.data_dir:
        raise InputError(f"--data-dir is for prepared sets, and {arguments.source} is a folder")
    splitting = ("split_file", "validation_fraction", "test_fraction")
    names = ("data_dir", "metadata", "patient_pattern", *splitting)
    options = {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}
    for name in ("metadata", "patient_pattern"):
        if named and options.get(name):
            raise InputError(f"--{name.replace('_', '-')} is for folders: a set tells its patients")
    if arguments.out:
        make_report_folder(arguments.out, OUTPUTS, overwrite=arguments.overwrite)
    result = check(arguments.source, **options)
    print(format_summary(result))
    if arguments.out:
        write_report(result, arguments.out)
        print(f"written: {arguments.out}/check.html, check.json")
    elif result.findings:
        print("--out DIR writes a page with pictures")
    if result.errors():
        raise SystemExit(1)
