"""`jaxlung export`: what it writes, refuses and leaves behind."""

import json

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason='needs pip install "jaxlung[export]"')
pytest.importorskip("onnxruntime", reason='needs pip install -e ".[test]"')

import jaxlung  # noqa: E402
from jaxlung.errors import InputError  # noqa: E402
from jaxlung.export import check, exported, formats, onnx_file  # noqa: E402
from jaxlung.system.digests import digest_weights  # noqa: E402
from tests.helpers.predict_command import jaxlung as command  # noqa: E402
from tests.helpers.random_models import random_canvases  # noqa: E402


@pytest.fixture(autouse=True)
def plain_canvases(monkeypatch):
    """Simulated films take seconds to compile; the tests of bundled models have them."""
    monkeypatch.setattr(check, "make_canvases", random_canvases)


def test_the_command_writes_a_run_and_says_how_it_was_checked(workdir, model, tmp_path, capsys):
    out = tmp_path / "lungs.onnx"
    command("export", workdir, "--out", out, "--float16")
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: onnx, ") and "of JAX in ONNX Runtime" in said
    assert [path.name for path in tmp_path.iterdir()] == ["lungs.onnx"]
    about = {item.key: item.value for item in onnx.load(out).metadata_props}
    assert about["weights_sha256"] == digest_weights(model.variables)
    assert about["license"] == "" and json.loads(about["pieces"]) == {"lung": 2}
    command("export", workdir, "--out", out, code=2)
    assert "lungs.onnx exists; name another file, or pass --overwrite" in capsys.readouterr().err
    command("export", workdir, "--out", out, "--overwrite", "--tta")
    about = {item.key: item.value for item in onnx.load(out).metadata_props}
    assert about["tta"] == "true" and about["float16"] == "false"


def test_a_file_that_computes_something_else_is_not_kept(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "TOLERANCE", -1.0)
    out = tmp_path / "lungs.onnx"
    out.write_text("earlier")
    with pytest.raises(InputError, match="gives other probabilities of lung than JAX, by up to"):
        jaxlung.export_model(workdir, out=out, overwrite=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]


def test_opencv_checks_where_onnxruntime_is_not_installed(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(formats, "_check", lambda *names: None)
    assert "in OpenCV" in jaxlung.export_model(workdir, out=tmp_path / "lungs.onnx")


def test_an_older_opencv_that_cannot_read_it_names_the_remedy(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="to check it; install ONNX Runtime: pip install"):
        onnx_file.run_by_opencv(tmp_path / "broken.onnx", ["lung"])


def test_what_cannot_be_written_is_told_before_the_model_is_read(tmp_path, monkeypatch, capsys):
    command("export", "cxr", "--out", tmp_path / "none" / "lungs.onnx", code=2)
    assert "there is no folder" in capsys.readouterr().err
    command("export", "cxr", "--out", tmp_path, code=2)
    assert "is a folder; name a file in it" in capsys.readouterr().err
    (tmp_path / "x.json").write_text("{}")
    command("export", "cxr", "--format", "stablehlo", "--out", tmp_path / "x", code=2)
    assert "x.json exists" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for format, package in (("onnx", "onnx"), ("stablehlo", "flatbuffers")):
        command("export", "cxr", "--format", format, "--out", tmp_path / "y", code=2)
        assert f'needs {package}: pip install "jaxlung[export]"' in capsys.readouterr().err


def test_licences_of_members_and_of_what_a_run_began_with_are_kept(model, monkeypatch):
    from dataclasses import replace

    from jaxlung.export.write import _licence

    train = replace(model.config.train, init_from="cxr-open")
    begun = replace(model, config=replace(model.config, train=train))
    assert _licence(["runs/own"], model) == ""
    assert _licence(["runs/own"], begun) == "CC-BY-4.0"
    assert _licence(["cxr", "cxr-open"], model) == "CC-BY-4.0 AND CC-BY-NC-SA-4.0"


def test_kernels_alone_are_rounded(model):
    one = exported.prepare_export(model, float16=True).model
    kernel = np.asarray(one.variables["params"]["stem"]["kernel"])
    assert (kernel == kernel.astype(np.float16)).all()
    scale = one.variables["params"]["bottleneck_norm0"]["scale"]
    assert (np.asarray(scale) == model.variables["params"]["bottleneck_norm0"]["scale"]).all()


def test_a_file_of_ct_has_no_confidence_since_that_is_of_whole_scans():
    model = jaxlung.load("ct", tta=False)
    assert model.confidences
    assert exported.prepare_export(model).about["confidence"] == {}
