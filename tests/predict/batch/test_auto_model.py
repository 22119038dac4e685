"""`jaxlung predict` without --model: each input goes to the model of its modality."""

import json

import jax
import numpy as np
import pytest

import jaxlung
from jaxlung.cli import main
from jaxlung.gate.image import WORDS, Verdict
from jaxlung.io.ct.hounsfield import apply_window
from jaxlung.io.images import write_png
from jaxlung.predict import predictor
from tests.helpers.ct_scans import affine_of, body, save

MARK = 7  # the grey of the first pixel, by which the test's gate knows a slice


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A film, a scan of a chest, and a picture of one of its slices."""
    folder = tmp_path / "in"
    folder.mkdir()
    images, _ = jaxlung.phantom.radiographs(jax.random.key(3), 1, size=64)
    write_png(folder / "film.png", np.asarray(images[0]))
    hu, _ = body((64, 56, 5))
    save(folder / "scan.nii.gz", hu, affine_of((5.0, 5.0, 40.0)), "LPS")
    picture = apply_window(hu[:, ::-1, 2].T, -1000, 400)
    picture[0, 0] = MARK
    write_png(folder / "slice.png", picture)
    examine = predictor.examine_grey

    def gate(grey_HxW, **settings):
        if grey_HxW[0, 0] == MARK:
            return Verdict(False, (WORDS["ct"],), is_ct=True)
        return examine(grey_HxW, **settings)

    monkeypatch.setattr(predictor, "examine_grey", gate)
    monkeypatch.setattr(predictor, "show_slice", lambda grey_HxW: (grey_HxW, Verdict(False, ())))
    return folder


def predict(inputs, out, *arguments):
    main(["predict", str(inputs), "--out", str(out), "--no-tta", *arguments])
    summary = json.loads((out / "summary.json").read_text())
    return {row["name"]: row for row in summary["images"]}, summary["settings"]


def test_each_input_finds_its_model(inputs, tmp_path):
    rows, settings = predict(inputs, tmp_path / "out")
    assert settings["model"] == "cxr-open, ct"
    assert (tmp_path / "out" / "scan.nii.gz").exists() and rows["scan"]["slices"] == 5
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        *("film.png", "film_overlay.png", "slice.png", "slice_overlay.png", "scan_overlay.png")
    }
    assert rows["slice"]["warnings"] == [] and rows["slice"]["mean_hu"] is None
    assert rows["scan"]["mean_hu"] < -500
    # The picture's mask is that of the model of CT.
    one, _ = predict(inputs / "slice.png", tmp_path / "one", "--model", "ct")
    assert one["slice"]["lung_px"] == rows["slice"]["lung_px"] > 0
    # Given again, nothing is left to do.
    predict(inputs, tmp_path / "out", "--resume")


def test_a_model_that_is_named_takes_all(inputs, tmp_path, capsys):
    rows, settings = predict(inputs / "slice.png", tmp_path / "out", "--model", "cxr-open")
    assert settings["model"] == "cxr-open" and rows["slice"]["warnings"][0] == WORDS["ct"]
    with pytest.raises(SystemExit):
        predict(inputs / "scan.nii.gz", tmp_path / "no", "--model", "cxr-open")
    assert "is a volume, but the model was trained on X-rays" in capsys.readouterr().err


def test_an_output_that_ct_lacks_is_for_x_rays_alone(inputs, tmp_path):
    (inputs / "scan.nii.gz").unlink()
    rows, settings = predict(inputs, tmp_path / "out", "--output", "lung_and_heart")
    assert settings["model"] == "cxr-open" and settings["masks"] == "lung_and_heart"
    assert WORDS["ct"] in rows["slice"]["warnings"]
