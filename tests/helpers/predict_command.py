"""`jaxlung predict`, called as from a shell."""

from jaxlung.cli import main


def predict(*arguments, code=0):
    try:
        main(["predict", *map(str, arguments)])
    except SystemExit as stop:
        assert stop.code == code
    else:
        assert code == 0
