"""The `jaxlung` command, called as from a shell; each model is loaded and compiled once."""

import functools
from unittest import mock

from jaxlung.cli import main
from jaxlung.predict import load as load_module

_load_once = functools.cache(load_module.load)


def _load(model, *, tta=True, turn=True):
    return _load_once(tuple(model) if isinstance(model, list) else model, tta=tta, turn=turn)


def jaxlung(*arguments, code=0):
    """Runs a command, which has to end with this status; None: with any."""
    try:
        with mock.patch.object(load_module, "load", _load):
            main([*map(str, arguments)])
    except SystemExit as stop:
        assert code in (None, stop.code)
    else:
        assert code in (None, 0)


def predict(*arguments, code=0):
    jaxlung("predict", *arguments, code=code)
