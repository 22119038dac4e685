"""The tool that makes the model of CT: what it trains on, and what it leaves out."""

import numpy as np
import pytest

from jaxlung.config import parse_config
from jaxlung.data.ct_folder import load_ct_splits, volume_name
from jaxlung.errors import InputError
from jaxlung.io.ct.hounsfield import read_scan
from jaxlung.io.volumes import read_volume
from jaxlung.predict.volumes import Density, VolumePrediction
from tests.helpers.ct_scans import write_scans
from tools import make_ct

ROW = {"slices": 9, "hd95_mm": 2.0, "assd_mm": 0.5, "nsd_mm": 0.9, "ml": 3000.0, "true_ml": 3100.0}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_scans(tmp_path_factory.mktemp("ct"))


def volumes_of(config):
    splits = load_ct_splits(parse_config(config).data)
    return {name: sorted({volume_name(i) for i in split.ids}) for name, split in splits.items()}


def made(scans, tmp_path, monkeypatch, *arguments):
    configs = []
    monkeypatch.setattr(make_ct, "train_and_evaluate", lambda config, _: configs.append(config))
    make_ct.main(["--scans", str(scans), "--runs", str(tmp_path), *arguments])
    small, config = configs
    assert small.data.size == make_ct.SMALL < config.data.size == 256
    assert small.data.dir == config.data.dir and not small.train.init_from
    assert config.train.init_from.endswith("_small")
    return config


def test_the_bundled_model_learns_from_all_scans(scans, tmp_path, monkeypatch):
    splits = volumes_of(made(scans, tmp_path, monkeypatch).to_dict())
    assert splits["train"] == [f"scan_{i}" for i in range(6)]
    assert splits["validation"] == ["again_1"] and splits["test"] == ["again_2"]


def test_a_scan_that_is_left_out_is_seen_by_the_test_alone(scans, tmp_path, monkeypatch):
    splits = volumes_of(made(scans, tmp_path, monkeypatch, "--without", "scan_0").to_dict())
    assert splits["test"] == ["scan_0"]
    assert splits["train"] == [f"scan_{i}" for i in range(1, 6)]
    data = tmp_path / "without_scan_0_data"
    first = (data / "images" / "again_1.nii.gz").resolve()
    assert first == (scans / "images" / "scan_1.nii.gz").resolve()


def test_an_unknown_scan_is_named(scans, tmp_path):
    with pytest.raises(InputError, match="--without nobody: no such scan; there are scan_0, "):
        make_ct.join_scans(scans, tmp_path, "nobody")


def test_each_scan_is_scored_by_the_model_that_has_not_seen_it(
    scans, tmp_path, monkeypatch, capsys
):
    """Stopped, the same command goes on: it visits each workdir again and scores anew."""
    trained, stop_at = [], "scan_4"

    def train(config, workdir):
        if workdir.name == f"without_{stop_at}":
            raise KeyboardInterrupt
        if workdir.name.endswith("_small"):
            return
        trained.append((workdir.name, volumes_of(config.to_dict())["test"]))

    def score(model, image, mask):
        assert model == f"without_{image.name[:6]}" and mask.name == image.name
        return {**ROW, "dice": 0.95 + 0.01 * int(image.name[5]) / 5}

    monkeypatch.setattr(make_ct, "train_and_evaluate", train)
    monkeypatch.setattr(make_ct, "load", lambda workdir: workdir.name)
    monkeypatch.setattr(make_ct, "score", score)
    command = ["--scans", str(scans), "--runs", str(tmp_path), "--leave-one-out"]
    with pytest.raises(SystemExit, match="130"):
        make_ct.main(command)
    stop_at = ""
    make_ct.main(command)
    visits = [(f"without_scan_{i}", [f"scan_{i}"]) for i in range(6)]
    assert trained == visits[:4] + visits
    shown = capsys.readouterr().out
    assert (
        "Dice: mean 0.9550 of 6 scans (95 % interval 0.9511 to 0.9589), 0.9500 to 0.9600" in shown
    )
    assert len(shown.splitlines()) == 1 + 6 + 4


def test_a_scan_is_scored_as_its_mask_is_written(scans, monkeypatch):
    image, mask = (scans / kind / "scan_0.nii.gz" for kind in ("images", "masks"))
    volume, labels = read_scan(image), read_volume(mask).voxels_ZxHxW > 0
    moved = np.roll(labels, 1, axis=2)
    found = VolumePrediction(moved.astype(np.uint8), 0.9, Density(None, None), (), volume)
    monkeypatch.setattr(make_ct, "predict_volume", lambda *_: found)
    scores = make_ct.score(None, image, mask)
    assert scores["slices"] == len(labels)
    assert scores["dice"] == pytest.approx(2 * (moved & labels).sum() / (2 * labels.sum()))
    voxel = np.prod(volume.spacing)
    assert scores["ml"] == pytest.approx(moved.sum() * voxel / 1000)
    assert 0 < scores["assd_mm"] < scores["hd95_mm"] <= 2 * max(volume.spacing)
