"""`python -m jaxlung` is the `jaxlung` command."""

from jaxlung.cli import main

main()
