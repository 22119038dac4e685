"""The examples of the public functions of masks and of metrics say what happens."""

import importlib
import inspect

import pytest

MODULES = [
    *(f"jaxlung.metrics.{name}" for name in ("overlap", "surface", "statistics", "calibration")),
    *(f"jaxlung.metrics.{name}" for name in ("image", "records")),
    *(f"jaxlung.masks.{name}" for name in ("postprocess", "shape", "sides")),
]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_an_example(name):
    module = importlib.import_module(name)
    for function_name, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ == name and not function_name.startswith("_"):
            assert ">>>" in inspect.getdoc(function), f"{name}.{function_name}"
