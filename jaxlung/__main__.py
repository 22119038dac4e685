"""Runs the `jaxlung` command: python -m jaxlung."""

from jaxlung.cli import main

main()
