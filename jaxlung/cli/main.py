"""The `jaxlung` command."""

import argparse
from collections.abc import Sequence

from jaxlung.cli.data import add_data_commands
from jaxlung.cli.predict import add_predict_command
from jaxlung.cli.score import add_score_command
from jaxlung.errors import one_line_errors
from jaxlung.version import __version__


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jaxlung", description="Finds the lungs in chest X-rays.")
    parser.add_argument("--version", action="version", version=f"jaxlung {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    add_predict_command(commands)
    add_score_command(commands)
    add_data_commands(commands)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)
