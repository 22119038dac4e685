"""The `jaxlung` command."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from jaxlung.cli.data import add_data_commands
from jaxlung.cli.evaluate import add_eval_command
from jaxlung.cli.export import add_export_command
from jaxlung.cli.predict import add_predict_command
from jaxlung.cli.score import add_score_command
from jaxlung.cli.train import add_train_command
from jaxlung.cli.view import add_view_command
from jaxlung.errors import fail, one_line_errors
from jaxlung.version import __version__


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the flags."""

    def error(self, message: str) -> NoReturn:
        fail(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command; the site's reference is made from it too."""
    parser = _Parser(prog="jaxlung", description="Finds the lungs in chest X-rays.")
    parser.add_argument("--version", action="version", version=f"jaxlung {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    add_predict_command(commands)
    add_view_command(commands)
    add_score_command(commands)
    add_export_command(commands)
    add_train_command(commands)
    add_eval_command(commands)
    add_data_commands(commands)
    return parser


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command != "train":  # whose settings they are
        parser.error(f"{rest[0]!r} is no flag of {arguments.command}")
    arguments.settings = rest
    arguments.run(arguments)
