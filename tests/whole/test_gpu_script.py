"""benchmarks/gpu.sh: what it starts is there, one part does not end the others, and its table."""

import argparse
import importlib
import json
import os
import subprocess
import sys

import pytest

from benchmarks.speed import gpu_report, speed
from benchmarks.speed.peers.contender import Spec, unet_macs
from benchmarks.speed.peers.flops import count_flops
from jaxlung.cli.flags import read_config
from tests.helpers.doc_pages import ROOT

SCRIPT = ROOT / "benchmarks/gpu.sh"
STEPS = {
    "--dry": ["train-4-float32"],
    "": ["train-64-bfloat16", "train-16-bfloat16", "train-64-float32", "train-16-float32"],
}


@pytest.fixture
def start(tmp_path):
    """Runs the script with a `python3` that notes its arguments, and fails where one has `fail`."""
    log, python = tmp_path / "commands", tmp_path / "bin/python3"
    python.parent.mkdir()
    python.write_text(
        f"#!{sys.executable} -IS\nimport os, sys\n"
        f"open({str(log)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n"
        f"sys.exit(any(os.environ['FAIL'] in word for word in sys.argv))\n"
    )
    python.chmod(0o755)

    def run(*options, fail="nothing", seconds=0):
        path = f"{python.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", SCRIPT, *options, "--out", tmp_path / "out"],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path, "FAIL": fail, "SECONDS": str(seconds)},
        )
        lines = log.read_text().splitlines() if log.exists() else []
        return done, [eval(line) for line in lines]

    return run


@pytest.mark.parametrize("option", STEPS)
def test_each_command_is_there_and_takes_its_options(option, start, monkeypatch, tmp_path):
    done, commands = start(*option.split())
    assert (done.returncode, done.stderr) == (0, "")
    started = [command[1:] for command in commands if command[0] == "-m"]
    names = ["predict", "seeds", "fsdp", *STEPS[option]]
    rows = (tmp_path / "out/parts.tsv").read_text().splitlines()
    assert [row.split("\t")[:2] for row in rows] == [[name, "0"] for name in names]
    assert len(started) == len(names) + 1 and started[-1][0] == "benchmarks.speed.gpu_report"

    class Parsed(Exception):
        pass

    def parse_only(parser, *arguments):
        raise Parsed(parse(parser, *arguments))

    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    for module, *arguments in started:
        if module == "jaxlung":
            command, _, recipe, *settings = arguments
            assert command == "train" and "--workdir" in settings
            read_config(recipe, [one for one in settings if one.startswith("--config.")])
            continue
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(Parsed):  # and no SystemExit, as of an option that is not there
            importlib.import_module(module).main()


def test_it_is_pytorchs_best_setting_in_our_recipes_dtype(start):
    """And without PyTorch our own rows stay."""
    for fail, peers in (("nothing", "jaxlung,torch-compile-channels-last"), ("torch", "jaxlung")):
        done, commands = start("--dry", fail=f'find_spec("{fail}")')
        steps = [command for command in commands if command[1] == "benchmarks.speed.speed"]
        assert {words[words.index("--peers") + 1] for words in steps[-1:]} == {peers}
        assert ("PyTorch is not installed" in done.stdout) == (peers == "jaxlung")


def test_a_part_that_fails_leaves_the_others(start, tmp_path):
    done, commands = start("--dry", fail="predict_speed")
    assert done.returncode == 1 and len(commands) == 1 + 4 + 1
    rows = [row.split("\t") for row in (tmp_path / "out/parts.tsv").read_text().splitlines()]
    assert [row[1] for row in rows] == ["1", "0", "0", "0"]


def test_no_part_begins_when_the_time_is_over(start, tmp_path):
    """Bash counts SECONDS on from the variable's value: the last part is to end by 450."""
    done, commands = start(seconds=446)
    assert done.returncode == 1
    assert [c[1] for c in commands if c[0] == "-m"] == ["benchmarks.speed.gpu_report"]
    assert (tmp_path / "out/predict.txt").read_text() == "no time was left\n"


def test_the_script_is_bash():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_without_a_gpu_nothing_is_measured(start, tmp_path):
    done, commands = start(fail="default_backend")
    assert done.returncode == 2 and len(commands) == 1
    assert "JAX finds no GPU" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_wrong_option_is_named(start):
    done, commands = start("--fast")
    assert done.returncode == 2 and not commands and "--fast: no such option" in done.stderr


def record(rates):
    spec = Spec(dtype="bfloat16")._asdict()
    machine = {"processor": "P", "accelerator": "H", "cores": 2, "versions": {}, "commit": "abc"}
    figures = {"peak_train_bytes": 2.0**30}
    return {
        "spec": spec,
        "peak_flops": {"jax": 400.0, "torch": 300.0},
        "flops": {"1": {"train": 2.0}},
        "machine": machine,
        "rounds": {f"{name}, patch 1": [{"train": r, **figures}] for name, r in rates.items()},
    }


def test_the_table_has_what_the_parts_left(tmp_path):
    """Rates, their ratio, MFU of the larger peak, the part that failed; no line of the others."""
    out, work = tmp_path / "out", tmp_path / "work"
    (out / "train-16-bfloat16").mkdir(parents=True)
    rates = {"jaxlung": 100.0, "torch-compile-channels-last": 50.0}
    (out / "train-16-bfloat16/speed.json").write_text(json.dumps(record(rates)))
    (out / "parts.tsv").write_text("train-16-bfloat16\t0\t70\nseeds\t0\t9\npredict\t124\t60\n")
    for member, loss in enumerate((0.25, 0.5)):
        folder = work / f"seeds/members/{member}"
        folder.mkdir(parents=True)
        line = {"step": 4, "epoch": 2, "train_loss": loss, "images_per_second": 30.0 + member}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        os.utime(folder / "metrics.jsonl", (1000 + 5 * member, 1000 + 5 * member))
    found = gpu_report.gather(out, work)
    assert found["seeds"]["seconds_of_later_members"] == [5.0]
    text = gpu_report.write(found)
    assert "| jaxlung, 16 wide, bfloat16 | 100.0 | 50.0% | 1.00 |" in text
    assert "| torch-compile-channels-last, 16 wide, bfloat16 | 50.0 (x2.00) | 25.0% |" in text
    assert "2 seeds, one after another: 30, 31 images/s" in text and "took 5.0 s" in text
    assert "139 s in all; failed: predict (124)" in text and "abc" in text
    assert "FSDP" not in text and "Prediction" not in text


@pytest.mark.parametrize("patch", [1, 2])
def test_xla_and_we_count_the_same_work(patch):
    """But for padding, which XLA leaves out, and what is no convolution, which we do."""
    spec = Spec(size=64, width=8, depth=2, patch=patch)
    by_hand, by_xla = 2 * unet_macs(*spec[:4]), count_flops(spec)
    assert by_xla["predict_8"] == pytest.approx(by_hand, rel=0.05)
    assert by_xla["train"] == pytest.approx(3 * by_hand, rel=0.05)


def test_a_contender_that_takes_too_long_is_left_out_and_told(monkeypatch, tmp_path, capsys):
    def of_process(program, spec, device, limit=None):
        if program[0] == "flops":
            return {"train": 1.0}
        if program[1] == "torch-eager-contiguous":
            raise RuntimeError("it took more than 5 s")
        return {"train": 7.0}

    monkeypatch.setattr(speed, "of_process", of_process)
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: name)
    words = "x --tasks train --patch 1 --peers jaxlung,torch-eager-contiguous --repeats 2 --peak 1"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="failed: torch-eager-contiguous, patch 1"):
        speed.main()
    assert "it took more than 5 s" in capsys.readouterr().out
    written = json.loads((tmp_path / "speed.json").read_text())
    assert list(written["rounds"]) == ["jaxlung, patch 1"]
    assert written["peak_flops"] == {"given": 1e12}


def test_a_process_ends_at_its_limit():
    with pytest.raises(RuntimeError, match="took more than"):
        speed.of_process(["flops"], Spec(), "cpu", limit=0.01)
