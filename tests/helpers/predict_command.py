"""The `jaxlung` command, called as from a shell."""

from jaxlung.cli import main


def jaxlung(*arguments, code=0):
    try:
        main([*map(str, arguments)])
    except SystemExit as stop:
        assert stop.code == code
    else:
        assert code == 0


def predict(*arguments, code=0):
    jaxlung("predict", *arguments, code=code)
