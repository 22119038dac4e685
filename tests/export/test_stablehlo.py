"""An exported function reloads where neither jaxlung nor Flax is, and gives the same."""

import json

import numpy as np
import pytest

pytest.importorskip("flatbuffers", reason='needs pip install "jaxlung[export]"')

from jaxlung.export import check  # noqa: E402
from jaxlung.export.exported import prepare_export  # noqa: E402
from jaxlung.export.stablehlo import write_stablehlo  # noqa: E402
from tests.helpers.elsewhere import run_elsewhere  # noqa: E402
from tests.helpers.random_models import random_canvases, random_model  # noqa: E402


@pytest.mark.parametrize(
    "options",
    [
        {"attention": True, "residual": True, "norm": "batch", "tta": True, "float16": True}
        | {"outputs": ("left_lung", "right_lung")},
        pytest.param({"members": 2, "patch": 4, "depth": 1}, marks=pytest.mark.slow),
        pytest.param({"patch": 1, "norm": "none"}, marks=pytest.mark.slow),
        pytest.param({"dtype": "bfloat16", "dropout": 0.3}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_reloads_without_jaxlung_and_gives_the_same(options, tmp_path, monkeypatch):
    canvases = random_canvases()
    monkeypatch.setattr(check, "make_canvases", lambda size: canvases)
    float16 = options.pop("float16", False)
    one = prepare_export(random_model(**options), licence="CC0-1.0", float16=float16)
    path = tmp_path / "net.stablehlo"
    assert "cpu, cuda, tpu" in write_stablehlo(one, path)
    found = run_elsewhere(path, canvases, tmp_path)
    truth = one.model.predict_canvases(canvases)
    for i, name in enumerate(one.model.config.model.outputs):
        assert np.abs(found[f"{name}0"] - truth[:1, ..., i]).max() < 1e-5
        assert np.abs(found[f"{name}1"] - truth[..., i]).max() < 1e-5
    about = json.loads((tmp_path / "net.stablehlo.json").read_text())
    assert about["license"] == "CC0-1.0" and about["size"] == 32 and about["float16"] == float16
