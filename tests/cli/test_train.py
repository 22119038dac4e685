"""`jaxlung train` and `jaxlung eval`, from recipe to report."""

import json

import pytest

from jaxlung.cli.main import main
from jaxlung.config import Config

SMALL = ["--config.data.loader=memory", "--config.data.size=16", "--config.model.width=2"]


def test_train_by_name_go_on_and_evaluate(tmp_path, monkeypatch, capsys):
    """Each prints the next command; a finished run says how to train on."""
    monkeypatch.chdir(tmp_path)
    train = ["train", "--config", "tiny", *SMALL]
    main(train)
    assert "next: jaxlung eval --workdir runs/tiny\n" in capsys.readouterr().out
    config = json.loads((tmp_path / "runs/tiny/config.json").read_text())
    assert config["model"]["width"] == 2 and config["data"]["size"] == 16
    main(train)
    said = capsys.readouterr().out
    assert "complete at step 6; to train on" in said
    assert "--config.train.init_from=runs/tiny\n" in said
    main(["eval", "--workdir", "runs/tiny", "--no-tta", "--tolerance-px=3"])
    report = json.loads((tmp_path / "runs/tiny/eval/phantom_test/metrics.json").read_text())
    assert report["results"][0]["n"] == 3
    assert report["settings"]["nsd_tolerance_px"] == 3.0
    with pytest.raises(SystemExit) as stop:
        main([*train, "--config.train.postprocess=False"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "train.postprocess: True -> False" in error


def test_help_names_every_setting_and_recipe(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for section, fields in Config().to_dict().items():
        for field, default in fields.items():
            assert f"\n  {section}.{field}={default}" in text
    for recipe in ("ct", "cxr", "ensemble", "tiny", "unet", "unet_large"):
        assert recipe in text
