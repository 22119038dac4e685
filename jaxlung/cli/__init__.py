"""The `jaxlung` command, and the flags of train.py and eval.py."""

from jaxlung.cli.main import main

__all__ = ["main"]
