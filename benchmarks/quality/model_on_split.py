"""Flags for benchmarks of a model on a folder's split, and reading both."""

import argparse
from pathlib import Path

from jaxlung import Predictor, load
from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits, load_whole_folder
from jaxlung.data.splits import SPLITS, Split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("dir", type=Path)
    parser.add_argument("--split", default="all", choices=("all", *SPLITS))
    parser.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="average with the mirror image's prediction",
    )
    parser.add_argument("--json", type=Path)


def read(arguments: argparse.Namespace) -> tuple[Predictor, Split]:
    model = load(arguments.model, tta=arguments.tta)
    data = DataConfig(name="folder", dir=str(arguments.dir))
    if arguments.split == "all":
        return model, load_whole_folder(data, arguments.dir, "")
    return model, load_splits(data)[arguments.split]
