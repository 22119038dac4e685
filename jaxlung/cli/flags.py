"""What the flags of `jaxlung train` and `jaxlung eval` mean: settings, names, processes."""

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path

from jaxlung.config import Config, load_recipe, parse_config
from jaxlung.errors import InputError
from jaxlung.system.processes import Processes, find_processes


def path_flag(text: str) -> Path:
    """Returns a path. A shell leaves the ~ of --flag=~/x as it is."""
    return Path(text).expanduser()


def names_flag(text: str) -> list[str]:
    """Splits names at commas; a name with a comma is quoted."""
    names = [name.strip() for name in next(csv.reader([text]), [])]
    return [str(path_flag(name)) if name.startswith("~") else name for name in names if name]


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for several processes, which `find_these` reads."""
    group = parser.add_argument_group("several processes (docs/scaling.md)")
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="where process 0 listens; Slurm, Kubernetes and Cloud TPU need none of these three",
    )
    group.add_argument("--processes", type=int, help="how many; 1: alone, on a cluster too")
    group.add_argument("--process", type=int, help="which of them this is, from 0")


def find_these(arguments: argparse.Namespace) -> Processes | None:
    """Returns the processes that work together; None where this one is alone."""
    return find_processes(arguments.coordinator, arguments.processes, arguments.process)


def read_config(recipe: str, settings: Sequence[str]) -> Config:
    """Returns a recipe's config with the settings of --config.SECTION.FIELD=VALUE.

    Raises:
        InputError: names the flag or the field.
    """
    from absl import flags
    from ml_collections import config_flags

    for text in settings:
        if re.match(r"--?[a-z]", text) and not re.match(r"--?(no)?config\.", text):
            raise InputError(f"{text.split('=')[0]} is no flag; see --help")
    config, values, argv = load_recipe(recipe), flags.FlagValues(), ["", *settings]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        stray = values(argv)[1:]
    except flags.Error as error:
        raise InputError(str(error)) from error
    except (AttributeError, KeyError) as error:  # how ml_collections reports a misspelt field
        raise InputError(_unknown_field(argv, str(error))) from error
    if stray:
        raise InputError(f"{stray[0]!r} is no flag; fields are set as --config.section.field=value")
    return parse_config(config)


def _unknown_field(argv: Sequence[str], message: str) -> str:
    """Words an error with the flag's name, which the message of ml_collections leaves out."""
    words = re.findall(r"[A-Za-z_]\w*", message)
    field = words[0] if words else ""
    flag = next(
        (a for a in argv if re.match(rf"--?config\..*\b{field}\b", a)), f"--config ({field})"
    )
    guess = re.search(r'Did you mean "(\w+)"', message)
    hint = f"did you mean {guess[1]}?" if guess else "jaxlung train --help lists the fields"
    return f"{flag.split('=')[0]}: the config has no field {field!r}; {hint}"
