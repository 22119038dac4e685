"""The `jaxlung` command."""

from jaxlung.cli.main import main

__all__ = ["main"]
