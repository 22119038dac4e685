"""The tool that makes the model of CT: what it trains on, and what it leaves out."""

import pytest

from jaxlung.config import parse_config
from jaxlung.data.ct_folder import load_ct_splits, volume_name
from jaxlung.errors import InputError
from tests.helpers.ct_scans import write_scans
from tools import make_ct


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
    [config] = configs
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
