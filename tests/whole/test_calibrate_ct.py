"""The tool that calibrates the confidence of CT: on scans spoilt in known ways."""

import dataclasses
import json

import numpy as np
import pytest

from jaxlung.metrics.calibration import FAILURE
from jaxlung.predict.volumes import Density, VolumePrediction
from jaxlung.weights import bundled
from tests.helpers.ct_scans import body, write_scans
from tools import calibrate_ct

RECORD = {"schema": bundled.SCHEMA, "confidences": {}, "config": {"kept": True}}


@dataclasses.dataclass(frozen=True)
class StubModel:
    confidences: dict = dataclasses.field(default_factory=dict)
    config = type("Config", (), {"modality": "ct"})
    output = "lung"


@pytest.fixture
def calibrated(tmp_path, monkeypatch):
    """Runs the tool with a model whose expected Dice is above Dice, by half of what it lacks."""
    scans = write_scans(tmp_path / "scans")
    (tmp_path / "stub.json").write_text(json.dumps(RECORD))
    used = []

    def predict_scan(_, volume):
        truth = volume.voxels_ZxHxW < -500
        keep = np.random.default_rng(0).random(truth.shape) < volume.voxels_ZxHxW.std() / 600
        mask = truth & keep
        dice = 2 * mask.sum() / max(1, mask.sum() + truth.sum())
        return VolumePrediction(
            mask.astype(np.uint8), (1 + dice) / 2, Density(None, None), (), volume
        )

    def load(name):
        used.append(str(name))
        return StubModel()

    monkeypatch.setattr(bundled, "WEIGHTS", tmp_path)
    monkeypatch.setattr(calibrate_ct, "load", load)
    monkeypatch.setattr(calibrate_ct, "predict_scan", predict_scan)
    command = ["stub", "--scans", str(scans), "--runs", str(tmp_path / "runs"), "--step", "1"]
    calibrate_ct.main(command)
    return json.loads((tmp_path / "stub.json").read_text()), used, tmp_path


def test_the_record_gets_the_line_and_the_limit(calibrated):
    record, used, folder = calibrated
    assert record["config"] == RECORD["config"]
    assert set(record["confidences"]) == {"lung"} and record["confidences"]["lung"]["least"] == 0.9
    assert record["confidences"]["lung"]["slope"] > 0
    # Each scan by the model that has not seen it.
    assert used[1:] == [str(folder / "runs" / f"without_scan_{i}") for i in range(6)]


def test_the_line_leads_from_expected_to_measured_dice():
    dice = np.linspace(0.2, 0.97, 9)
    points = [calibrate_ct.Point(f"s{i % 3}", "x", (1 + d) / 2, d) for i, d in enumerate(dice)]
    empty = calibrate_ct.Point("s0", "x", 0.0, 0.0)
    line = calibrate_ct.fit([*points, empty])
    assert line[:2] == pytest.approx((2.0, -1.0)) and line.least == FAILURE
    said = calibrate_ct.report([*points, empty])
    assert "10 scans with and without faults" in said and "Dice| 0.0000" in said
    assert "Dice below 0.9: 9, warned of 9; of the others 0 of 1 are; AUC 1.000" in said


@pytest.mark.parametrize("name", calibrate_ct.FAULTS)
def test_a_fault_keeps_scan_and_mask_together(name):
    hu, lungs = (one.transpose(2, 1, 0) for one in body((24, 20, 9)))
    spoilt, moved = calibrate_ct.FAULTS[name]((hu, lungs))
    assert spoilt.shape == moved.shape and spoilt.dtype == np.int16 and moved.dtype == bool
    if name != "as it is":
        assert spoilt.shape != hu.shape or (spoilt != hu).any()
    if name.startswith(("turned", "axes", "field", "as it")):
        np.testing.assert_array_equal(moved, spoilt == -800)
    else:
        assert (moved == lungs).all()


def test_a_model_of_x_rays_and_an_unknown_one_are_refused(tmp_path, capsys):
    for name, words in (("cxr", "is of X-rays"), ("nobody", "no bundled model")):
        with pytest.raises(SystemExit):
            calibrate_ct.main([name, "--scans", str(tmp_path)])
        assert words in capsys.readouterr().err
