"""The bundled models, exported: the same probabilities on films, slices and phantoms."""

import json

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason='needs pip install "jaxlung[export]"')
pytest.importorskip("onnxruntime", reason='needs pip install -e ".[test]"')

import jaxlung  # noqa: E402
from jaxlung.export import onnx_file  # noqa: E402
from jaxlung.export.check import make_canvases  # noqa: E402
from jaxlung.preprocess import to_canvas  # noqa: E402
from jaxlung.weights.bundled import read_model  # noqa: E402
from tests.helpers.elsewhere import run_elsewhere  # noqa: E402


def real_canvases(name, data):
    """Twenty films, or slices of a scan in the model's window, uint8 [20, 256, 256]."""
    if name == "ct":
        from jaxlung.io.ct.hounsfield import apply_window, read_scan

        config = read_model("ct").config.data
        scan_ZxHxW = read_scan(data / "ct" / "chest.nii.gz").voxels_ZxHxW
        chosen = np.linspace(0, len(scan_ZxHxW) - 1, 20).astype(int)
        images = [
            apply_window(scan_ZxHxW[z], config.window_low, config.window_high) for z in chosen
        ]
    else:
        files = sorted((data / "montgomery" / "images").iterdir())[:20]
        images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files]
    return np.stack([to_canvas(image)[0] for image in images])


def check(name, canvases, path):
    outputs = list(read_model(name).config.model.outputs)
    truth = jaxlung.load(name, tta=False).predict_canvases(canvases)
    for open_file in (onnx_file.run_by_onnxruntime, onnx_file.run_by_opencv):
        runtime, run = open_file(path, outputs)
        found = np.stack([run(canvases)[output] for output in outputs], -1)
        largest = np.abs(found - truth).max()
        print(f"{name}, {runtime}: {largest:.1e} on {len(canvases)} canvases")
        assert largest < 1e-4
    return truth


def test_the_default_model_comes_with_its_terms(tmp_path):
    path = tmp_path / "lungs.onnx"
    said = jaxlung.export_model("cxr-open", out=path, float16=True)
    assert "its weights are under CC-BY-4.0" in said and path.stat().st_size < 4.2e6
    about = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert about["license"] == "CC-BY-4.0" and about["model"] == "cxr-open"
    known = json.loads(about["confidence"])["lung"]
    assert known == read_model("cxr-open").confidences["lung"]._asdict()
    check("cxr-open", make_canvases(256), path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cxr-open", "cxr", "ct"])
def test_every_bundled_model_on_films_and_phantoms(name, shared_data, tmp_path):
    path = tmp_path / "lungs.onnx"
    jaxlung.export_model(name, out=path, float16=name == "cxr")
    canvases = np.concatenate([real_canvases(name, shared_data), make_canvases(256)])
    truth = check(name, canvases, path)
    again = tmp_path / "lungs.stablehlo"
    jaxlung.export_model(name, out=again, format="stablehlo")
    found = run_elsewhere(again, canvases, tmp_path)
    for i, output in enumerate(read_model(name).config.model.outputs):
        largest = np.abs(found[f"{output}1"] - truth[..., i]).max()
        print(f"{name}, StableHLO without jaxlung: {largest:.1e}")
        assert largest < 1e-5
