"""`jaxlung predict`, called as from a shell."""

from jaxlung import cli


def predict(*arguments, code=0):
    try:
        cli.main(["predict", *map(str, arguments)])
    except SystemExit as stop:
        assert stop.code == code
    else:
        assert code == 0
