"""The shared run is loaded and traced once; charts are drawn where tests look at them."""

import functools

import pytest

from jaxlung.evaluation import evaluate as evaluate_module
from jaxlung.evaluation import plots
from jaxlung.predict.load import load

_load_once = functools.cache(load)


@pytest.fixture(autouse=True)
def _shared_run(request, monkeypatch):
    if "workdir" not in request.fixturenames:
        return
    shared = request.getfixturevalue("workdir")

    def load_run(model, *, tta=True, turn=True):
        return (_load_once if model == shared else load)(model, tta=tta, turn=turn)

    monkeypatch.setattr(evaluate_module, "load", load_run)


@pytest.fixture(autouse=True)
def _no_charts(request, monkeypatch):
    """Matplotlib takes seconds for a report; test_plots and test_report draw all charts."""
    names = ("evaluate", "mask_scores", "one_mask", "own_data", "volume_scores")
    without = [f"test_{name}" for name in names]
    if request.module.__name__.rpartition(".")[2] in without:
        monkeypatch.setattr(plots, "_svg", lambda figure, name, title: "<svg></svg>")
