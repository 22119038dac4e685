"""`jaxlung data list` and `jaxlung data prepare`: the public sets."""

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxlung.catalog import CATALOG
from jaxlung.prepared_sets import DEFAULT_DATA_DIR, data_dir_of, is_prepared, prepare


def add_commands(subparsers: Any) -> dict[str, Callable[[argparse.Namespace], None]]:
    """Adds `list` and `prepare` to the subparsers of `jaxlung data`.

    Returns:
        command to the function that runs its parsed arguments.
    """
    listing = subparsers.add_parser(
        "list",
        help="the public sets that can be trained on",
        description="Each set's size, label convention, terms, and whether it is prepared here.",
    )
    preparing = subparsers.add_parser(
        "prepare",
        help="download and convert a public set",
        description="Downloads a set (or takes what you fetched by hand), checks every file and "
        "writes it for --config.data.name=NAME. docs/datasets.md describes the sets.",
    )
    preparing.add_argument("name", choices=CATALOG, metavar="NAME", help=", ".join(CATALOG))
    preparing.add_argument(
        "--manual-dir", default="", type=str,
        help="folder that holds NAME/ with files fetched by hand (default: "
        "DATA_DIR/downloads/manual)",
    )  # fmt: skip
    for parser in (listing, preparing):
        parser.add_argument(
            "--data-dir", default="", type=str,
            help=f"folder of TFDS's data sets (default {DEFAULT_DATA_DIR})",
        )  # fmt: skip
    return {"list": run_list, "prepare": run_prepare}


def run_list(arguments: argparse.Namespace) -> None:
    print(list_sets(arguments.data_dir))


def run_prepare(arguments: argparse.Namespace) -> None:
    print(prepare_set(arguments.name, arguments.data_dir, arguments.manual_dir))


def list_sets(data_dir: str | Path = "") -> str:
    """A table of the sets, and what each is and forbids."""
    width = max(map(len, CATALOG))
    lines = [f"{'name':{width}}  {'images':>7}  {'convention':14}  {'files':13}  ready"]
    for entry in CATALOG.values():
        files = "fetch by hand" if entry.manual else "downloads"
        ready = "yes" if is_prepared(entry.name, data_dir) else "no"
        lines.append(
            f"{entry.name:{width}}  {entry.n:7}  {entry.convention:14}  {files:13}  {ready}"
        )
        for text in (entry.description, f"Terms: {entry.terms}."):
            lines += textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="      ")
    lines.append(f"Ready: prepared in {data_dir_of(data_dir)} by `jaxlung data prepare NAME`.")
    return "\n".join(lines)


def prepare_set(name: str, data_dir: str | Path = "", manual_dir: str | Path = "") -> str:
    """Prepares a set and says what there is now, and how to train on it.

    Raises: as `prepared_sets.prepare`.
    """
    entry = CATALOG[name]
    builder = prepare(name, data_dir, manual_dir)
    count = sum(split.num_examples for split in builder.info.splits.values())
    lines = [f"{name}: {count} images in {builder.data_path}"]
    left_out = (builder.info.metadata or {}).get("left_out", {})
    lines += [f"left out: {number} {reason}" for reason, number in left_out.items()]
    lines.append(f"Terms: {entry.terms}.")
    where = f" --config.data.dir={data_dir_of(data_dir)}" if data_dir else ""
    lines.append(
        f"next: python train.py --config configs/unet.py --config.data.name={name}{where} "
        f"--workdir runs/{name}"
    )
    return "\n".join(lines)
