"""`jaxlung predict --share`: processes side by side in one folder make what one alone would."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
from PIL import Image

from jaxlung.data.datasets import load_splits
from jaxlung.errors import InputError
from jaxlung.predict.batch import summary
from jaxlung.system.processes import Share, find_share
from tests.helpers.predict_command import predict

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def films(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    split = load_splits(model.config.data)["train"]
    for i in range(50):
        Image.fromarray(split.read(i % 8).image).resize((70 + i, 60)).save(folder / f"{i:02d}.png")
    (folder / "bad.png").write_bytes(b"")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the summaries, whose times differ."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "summary" not in path.name
    }


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}


def rows(folder: Path, name: str = summary.JSON) -> list[dict]:
    images = json.loads((folder / name).read_text())["images"]
    return [{**row, "seconds": 0} for row in images]


def test_three_processes_one_of_them_killed_make_what_one_alone_does(workdir, films, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    arguments = (films, "--model", workdir)
    predict(*arguments, "--out", whole, code=1)
    command = [sys.executable, "-m", "jaxlung", "predict", *map(str, arguments), "--out", str(out)]
    processes = [
        subprocess.Popen(
            [*command, "--share", f"{i}/3"],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in (1, 2, 3)
    ]
    journal = out / ".summary.0002-of-0003.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count("\n") > 2:  # its head, and two rows
            break
        time.sleep(0.001)
    processes[1].kill()
    ended = [(process.communicate(), process.returncode) for process in processes]
    assert [code for _, code in ended] == [0, -signal.SIGKILL, 1], ended  # the bad one is the last
    told = "".join(output for (output, _), _ in ended)
    assert "share 1/3: 17 in all" in told and "share 3/3: 17 in all" in told
    assert len(rows(out, "summary.0001-of-0003.json")) == 17
    assert not (out / summary.JSON).exists() and journal.exists()

    recorded = summary.read_all(out).rows
    done = {
        name: time
        for name, time in times(out).items()
        if name.removesuffix(".png").removesuffix("_overlay") in recorded
    }
    predict(*arguments, "--out", out, "--share", "2/3", "--resume")
    assert done.items() <= times(out).items() and 66 < len(done) < 100
    assert (out / "summary.0002-of-0003.csv").exists() and not journal.exists()

    done = times(out)
    predict(*arguments, "--out", out, "--resume", code=1)  # the bad one is tried again
    assert times(out) == done
    assert contents(out) == contents(whole)
    assert rows(out) == rows(whole)
    assert {path.name for path in out.glob("*summary*")} == {summary.JSON, summary.CSV}


def test_a_share_goes_on_with_what_others_have_not_done(workdir, films, tmp_path, capsys):
    """New files move the old ones to other shares; what these have done is not done again."""
    few = tmp_path / "few"
    few.mkdir()
    for i in (1, 2, 3, 4):
        (few / f"{i}.png").write_bytes((films / f"0{i}.png").read_bytes())
    out = tmp_path / "out"
    for i in (1, 2):
        predict(few, "--model", workdir, "--out", out, "--share", f"{i}/2")
    done = times(out)
    (few / "0.png").write_bytes((films / "00.png").read_bytes())
    for i in (1, 2):
        predict(few, "--model", workdir, "--out", out, "--share", f"{i}/2", "--resume")
    assert done.items() <= times(out).items() and len(times(out)) == 10
    names = [row["name"] for row in rows(out, "summary.0001-of-0002.json")]
    assert names == ["0", "2", "4", "1", "3"]  # its own by now, and by then

    refused = (
        (("--share", "1/3", "--resume"), "holds share 1/2, and this is 1/3"),
        (("--share", "1/2", "--resume", "--no-tta"), "made otherwise"),
        (("--share", "1/2", "--overwrite", "--no-tta"), "made otherwise"),
        (("--share", "1/2"), "0.png exists"),
        (("--share", "3/2"), "--share must be I/N"),
    )
    before = {path: path.read_bytes() for path in out.rglob("*")}
    for flags, words in refused:
        predict(few, "--model", workdir, "--out", out, *flags, code=2)
        assert words in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*")} == before


@pytest.mark.parametrize(
    "held, flags",
    [
        (".jaxlung.0001-of-0002.lock", ("--share", "1/2")),
        (".jaxlung.0001-of-0002.lock", ()),
        (".jaxlung.lock", ()),
        (".jaxlung.0001-of-0003.lock", ("--share", "1/2")),
    ],
)
def test_two_processes_do_not_write_the_same_files(workdir, films, tmp_path, capsys, held, flags):
    with filelock.FileLock(tmp_path / held):
        predict(films / "00.png", "--model", workdir, "--out", tmp_path, *flags, code=2)
    assert "another jaxlung predict" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_more_shares_than_files(workdir, films, tmp_path, capsys):
    for i in (1, 2, 3):
        predict(
            films / "00.png",
            films / "01.png",
            "--model",
            workdir,
            "--out",
            tmp_path,
            "--share",
            f"{i}/3",
        )
    assert "share 3/3: 0 in all" in capsys.readouterr().out
    assert rows(tmp_path, "summary.0003-of-0003.json") == []


def test_share_by_flag_and_in_a_slurm_step():
    step = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "2"}
    assert find_share("3/8", {}) == find_share(None, step) == Share(3, 8)
    assert str(Share(3, 8)) == "0003-of-0008"
    assert find_share("1/1", step) is find_share(None, {"SLURM_PROCID": "0"}) is None
    for wrong in ("0/8", "9/8", "3", "3/8/1", "-1/8", "a/b", ""):
        with pytest.raises(InputError, match="--share must be I/N"):
            find_share(wrong, {})


def test_a_share_whose_journal_becomes_its_summary_meanwhile_is_still_read(tmp_path, monkeypatch):
    share = Share(1, 2)
    journal = summary.Journal(tmp_path, {"model": "m"}, {}, {}, share)
    journal.add(summary.make_row(name="a", status="ok", source="/a"))
    path = summary.summary_path(tmp_path, summary.JOURNAL, share)
    read = Path.read_text

    def closed_first(self, *args, **kwargs):
        if self == path and os.path.exists(path):
            journal.close(["a"])
        return read(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", closed_first)
    assert list(summary.read_all(tmp_path).rows) == ["a"]
