"""The page's code around the network gives the masks that jaxlung gives."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs pip install "jaxlung[export]"')
pytest.importorskip("onnxruntime", reason='needs pip install -e ".[test]"')

import jaxlung  # noqa: E402
from jaxlung.data.datasets import load_splits  # noqa: E402
from jaxlung.export import check  # noqa: E402
from jaxlung.export.formats import FORMATS  # noqa: E402
from jaxlung.io.images import write_png  # noqa: E402
from jaxlung.metrics.calibration import Confidence  # noqa: E402
from tests.helpers.random_models import random_canvases  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
[BEFORE_AND_AFTER] = [
    block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "onnxruntime" in block
]


@pytest.mark.parametrize("shape", [(150, 130), (40, 50)])
def test_the_code_around_the_network_gives_the_same_mask(
    shape, workdir, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "make_canvases", random_canvases)
    jaxlung.export_model(workdir, out="lungs.onnx")
    film = load_splits(model.config.data)["train"].read(0).image
    write_png(tmp_path / "film.png", cv2.resize(film, shape[::-1]))
    names: dict = {}
    exec(compile(BEFORE_AND_AFTER, "export.md", "exec"), names)
    found = jaxlung.load(workdir, tta=False).prediction("film.png")
    assert found.mask.any() and found.mask.shape == shape
    assert ((names["mask"] > 0) != found.mask).mean() < 0.002
    np.testing.assert_allclose(names["probability"], found.probability, atol=1e-3)
    assert names["confidence"] == pytest.approx(found.confidence, abs=0.005)
    assert (cv2.imread("mask.png", 0) == names["mask"]).all()


@pytest.mark.parametrize(
    ("slope", "intercept", "found"), [(3, 0, 1), (1, -2, 0), (0.5, 0.25, 0.75)]
)
def test_the_codes_confidence_is_cut_to_0_and_1(slope, intercept, found):
    """As `Confidence.calibrate` cuts it."""
    code = BEFORE_AND_AFTER[BEFORE_AND_AFTER.index("confidence = 2 *") :]
    known = {"lung": {"slope": slope, "intercept": intercept, "least": 0.9}}
    names = {
        "json": json,
        "about": {"confidence": json.dumps(known)},
        "mask": np.array([[0, 255]]),
        "probability": np.array([[0.0, 1.0]]),
    }
    exec(compile(code, "export.md", "exec"), names)
    assert names["confidence"] == found == Confidence(slope, intercept).calibrate(1.0)


def test_the_page_names_every_format():
    assert all(name in PAGE for name in FORMATS)
