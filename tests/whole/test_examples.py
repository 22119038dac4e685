"""The examples in docstrings run, and every public function has one."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import jaxlung

# Modules whose import needs an extra, or starts TensorFlow.
_ELSEWHERE = ("jaxlung.data.builders", "jaxlung.__main__")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(jaxlung.__path__, "jaxlung.")
    if not module.name.startswith(_ELSEWHERE)
)
PUBLIC = sorted(name for name in jaxlung.__all__ if inspect.isfunction(getattr(jaxlung, name)))


def examples_of(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module, name) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    tests = examples_of(name)
    monkeypatch.chdir(tmp_path)
    with np.printoptions(legacy=False):
        for test in tests:
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            report: list[str] = []
            runner.run(test, out=report.append)
            assert not runner.failures, f"{test.name}:\n{''.join(report)}"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_function_has_an_example_and_says_what_it_takes(name):
    text = inspect.getdoc(getattr(jaxlung, name)) or ""
    assert "Example:" in text and ">>>" in text
    parameters = inspect.signature(getattr(jaxlung, name)).parameters
    if len(parameters) > 1:
        assert "Args:" in text
