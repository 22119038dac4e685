"""`jaxlung train`: its flags, and the start-up before the work."""

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

from jaxlung.cli.flags import add_process_flags, find_these, path_flag, read_config
from jaxlung.config import Config, list_recipes
from jaxlung.errors import InputError

_EXAMPLES = """\
examples:
  jaxlung train --config unet                                  # simulated radiographs
  jaxlung train --config cxr --config.data.name=folder --config.data.dir=DIR --workdir runs/mine
  jaxlung train --config cxr --config.data.name=folder --config.data.dir=DIR \\
    --config.train.init_from=cxr --config.optim.learning_rate=2e-4 --workdir runs/tuned

DIR holds images/ and masks/. The second trains from random parameters, the third goes on from the
model that comes with the package. The same command goes on where an interrupted run stopped.

settings, as --config.SECTION.FIELD=VALUE, with the defaults that recipes start from:
"""


def add_train_command(commands: Any) -> None:
    """Adds `train`.

    Args:
        commands: as `ArgumentParser.add_subparsers` returns them.
    """
    train = commands.add_parser(
        "train",
        help="train a model",
        usage="jaxlung train --config RECIPE [--workdir DIR] [--config.SECTION.FIELD=VALUE ...]",
        description="Trains a U-Net. The workdir then holds a model for `jaxlung predict --model` "
        "and `jaxlung eval --workdir`.",
        epilog=_EXAMPLES + _list_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    train.add_argument(
        "--config",
        metavar="RECIPE",
        help=f"{', '.join(list_recipes())}; or a Python file with a function get_config()",
    )
    train.add_argument(
        "--workdir",
        type=path_flag,
        help="checkpoints, logs and pictures; an interrupted run goes on from here (default: runs/ "
        "and the recipe's name)",
    )
    train.add_argument(
        "--profile",
        action="store_true",
        help="write a trace of ten steps to the workdir's profile/, for ui.perfetto.dev",
    )
    add_process_flags(train)
    train.set_defaults(run=run_train)


def _list_settings() -> str:
    """Returns a line for each setting: its name, its default and its meaning."""
    lines = []
    for section, values in vars(Config()).items():
        for field in dataclasses.fields(values):
            name, meaning = f"{section}.{field.name}", field.metadata["help"]
            choices = field.metadata.get("choices", ())
            listed = f" ({', '.join(map(str, choices))})" if choices else ""
            lines.append(f"  {name}={field.default!s:{max(1, 34 - len(name))}} {meaning}{listed}")
    return "\n".join(lines)


def run_train(arguments: argparse.Namespace) -> None:
    """Trains what the recipe and the settings say.

    Raises: as `train_and_evaluate`; InputError for wrong flags.
    """
    if not arguments.config:
        raise InputError("--config is needed, as in --config unet; see jaxlung train --help")
    config = read_config(arguments.config, arguments.settings)
    processes = find_these(arguments)
    workdir = arguments.workdir or Path("runs") / Path(arguments.config).stem
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every rename of every file

    # These imports take seconds: only after the flags are checked.
    from jaxlung.system.start import start_process

    start_process(
        config.mesh.data or config.train.batch_size // config.train.accumulate,
        processes.number if processes else 1,
        config.mesh.devices_per_image,
    )

    from jaxlung.devices.distributed import join_processes
    from jaxlung.train.ensemble import train_ensemble
    from jaxlung.train.loop import train_and_evaluate
    from jaxlung.workdir.integrity import describe_latest

    train = train_ensemble if config.is_ensemble else train_and_evaluate
    with join_processes(processes, last_words=lambda: describe_latest(workdir)):
        train(config, workdir, profile=arguments.profile)
