"""`jaxlung predict --share` and `jaxlung join`: several processes make what one alone would."""

import json
import shutil
import signal
import time
from pathlib import Path

import filelock
import pytest
from PIL import Image

from jaxlung.data.datasets import load_splits
from jaxlung.errors import InputError
from jaxlung.predict.batch import run, shares, summary
from jaxlung.predict.batch.earlier import read_earlier
from jaxlung.predict.batch.outputs import ENDS, Options, plan_jobs
from jaxlung.predict.batch.sources import find_sources
from jaxlung.system.processes import Share, find_share
from tests.helpers import forked_commands
from tests.helpers.contents import content_of
from tests.helpers.predict_command import jaxlung, predict


@pytest.fixture(scope="module")
def films(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    split = load_splits(model.config.data)["train"]
    for i in range(50):
        Image.fromarray(split.read(i % 8).image).resize((70 + i, 60)).save(folder / f"{i:02d}.png")
    (folder / "bad.png").write_bytes(b"")
    return folder


@pytest.fixture
def few(films, tmp_path) -> Path:
    """Four films, 1 to 4."""
    folder = tmp_path / "few"
    folder.mkdir()
    for i in (1, 2, 3, 4):
        shutil.copy(films / f"0{i}.png", folder / f"{i}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the summaries, whose times differ."""
    return {
        path.relative_to(folder).as_posix(): content_of(path)
        for path in folder.rglob("*")
        if path.is_file() and "summary" not in path.name
    }


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def rows(folder: Path) -> list[dict]:
    images = json.loads((folder / summary.JSON).read_text())["images"]
    return [{**row, "seconds": 0} for row in images]


def test_three_processes_one_of_them_killed_make_what_one_alone_does(
    workdir, films, tmp_path, capsys
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    arguments = (films, "--model", workdir)
    predict(*arguments, "--out", whole, code=1)
    folder = out / "share-0002-of-0003"
    journal = folder / summary.JOURNAL
    processes = [
        forked_commands.start(
            *("-m", "jaxlung", "predict", *arguments, "--out", out, "--share", f"{i}/3"),
            out=tmp_path / f"log{i}",
            err=tmp_path / f"errors{i}",
        )
        for i in (1, 2, 3)
    ]
    deadline = time.monotonic() + 240
    while processes[1].is_alive() and time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count("\n") > 2:  # its head, and two rows
            processes[1].kill()
            break
        time.sleep(0.001)
    for process in processes:
        process.join(240)
    assert journal.exists()
    # The bad one is the last.
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL, 1]
    for i in (1, 3):
        assert f"share {i}/3: 17 in all" in (tmp_path / f"log{i}").read_text()
    assert len(rows(out / "share-0001-of-0003")) == 17 and not (out / summary.JSON).exists()
    before = times(out)
    jaxlung("join", out, code=2)
    assert "share 2/3 is not finished" in capsys.readouterr().err and times(out) == before

    recorded = read_earlier(folder).rows
    done = {
        name: time
        for name, time in times(folder).items()
        if name.removesuffix(".png").removesuffix("_overlay") in recorded
    }
    predict(*arguments, "--out", out, "--share", "2/3", "--resume")
    assert done.items() <= times(folder).items() and 0 < len(done) < 34
    assert (folder / summary.CSV).exists() and not journal.exists()

    done = times(out)
    jaxlung("join", out, code=1)  # the bad one has failed
    assert times(out) == done
    assert contents(out) == contents(whole)
    assert rows(out) == rows(whole)
    assert not list(out.glob("share-*")) and not list(out.glob(".*"))
    assert "51 in all: 50 predicted" in capsys.readouterr().out


def test_new_files_after_a_join_are_all_that_shares_do(workdir, films, few, tmp_path):
    out = tmp_path / "out"
    arguments = (few, "--model", workdir, "--out", out)
    for i in (1, 2):
        predict(*arguments, "--share", f"{i}/2")
    jaxlung("join", out)
    done = times(out)
    shutil.copy(films / "00.png", few / "0.png")
    for i in (1, 2):
        predict(*arguments, "--share", f"{i}/2", "--resume")
    assert {row["name"] for row in rows(out / "share-0001-of-0002")} == {"0"}
    assert rows(out / "share-0002-of-0002") == []
    jaxlung("join", out)
    assert done.items() <= times(out).items() and len(times(out)) == 10
    assert {row["name"] for row in rows(out)} == set("01234")


def test_an_image_that_moved_to_another_share_is_joined_once(workdir, films, few, tmp_path):
    out = tmp_path / "out"
    arguments = (few, "--model", workdir, "--out", out)
    for i in (1, 2):
        predict(*arguments, "--share", f"{i}/2")
    shutil.copy(films / "00.png", few / "0.png")
    for i in (1, 2):
        predict(*arguments, "--share", f"{i}/2", "--resume")
    jaxlung("join", out)
    assert sorted(row["name"] for row in rows(out)) == list("01234")
    predict(few, "--model", workdir, "--out", tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_what_cannot_be_one_batch_is_refused(workdir, few, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = (few, "--model", workdir, "--out", out)

    def refused(words):
        assert words in capsys.readouterr().err
        assert {path: path.read_bytes() for path in out.rglob("*.*")} == before

    predict(*arguments, "--share", "1/2")
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    capsys.readouterr()
    for flags, words in (
        (("--share", "1/3", "--resume"), "holds share 1/2, and this is 1/3"),
        (("--share", "1/2", "--resume", "--no-tta"), "made otherwise"),
        (("--share", "1/2"), "1.png exists"),
        (("--share", "3/2"), "--share must be I/N"),
        (("--resume",), "holds share 1/2, and this is no share; unite the shares first"),
    ):
        predict(*arguments, *flags, code=2)
        refused(words)
    jaxlung("join", out, code=2)
    refused("share 2/2 is missing")
    jaxlung("join", tmp_path / "few", code=2)
    refused("holds no share")

    predict(*arguments, "--share", "2/2", "--no-tta")
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    jaxlung("join", out, code=2)
    refused("share 2/2 was made with other settings")
    predict(*arguments, "--share", "2/2", "--overwrite")
    (out / "2.png").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    jaxlung("join", out, code=2)
    refused("2.png exists and is not replaced")
    (out / "2.png").unlink()
    (out / "share-0001-of-0003").mkdir()
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    jaxlung("join", out, code=2)
    refused("holds shares of 2 and of 3")


def test_a_share_refuses_at_once_what_join_would_not_replace(workdir, few, tmp_path, capsys):
    """`--overwrite` replaces the predictions of the same images and settings, and no other file."""
    out = tmp_path / "out"
    arguments = (few, "--model", workdir, "--out", out)

    def refused(*flags, words):
        before = contents(out)
        predict(*arguments, "--share", "1/2", *flags, code=2)
        errors = capsys.readouterr().err
        assert words in errors and contents(out) == before and not list(out.glob("share-*"))
        return errors

    out.mkdir()
    (out / "1.png").write_bytes(b"mine")
    refused("--overwrite", words="1.png exists and is not replaced; move it elsewhere first")
    refused(words="or --overwrite")
    (out / "1.png").unlink()
    predict(*arguments, "--no-tta")
    for flags in ([], ["--resume"], ["--overwrite"]):
        assert "--overwrite" not in refused(*flags, words="4 predictions made otherwise")
    predict(*arguments, "--overwrite")
    done = times(out)
    for i in (1, 2):
        predict(*arguments, "--share", f"{i}/2", "--overwrite")
    jaxlung("join", out)
    assert times(out).keys() == done.keys() and not times(out).items() & done.items()


@pytest.mark.parametrize("moves", [0, 1, 5, 8])
def test_an_interrupted_join_goes_on(workdir, few, tmp_path, monkeypatch, moves):
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict(few, "--model", workdir, "--out", whole)
    for i in (1, 2):
        predict(few, "--model", workdir, "--out", out, "--share", f"{i}/2")
    left, replace = [moves], shares.os.replace

    def interrupted(source, target):
        if "share-" in str(source):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        replace(source, target)

    def removed_one(out):
        shutil.rmtree(next(iter(shares.list_shares(out).values())))
        raise KeyboardInterrupt

    monkeypatch.setattr(shares.os, "replace", interrupted)
    monkeypatch.setattr(shares, "_remove_shares", removed_one)
    jaxlung("join", out, code=130)
    assert len(list(out.glob("*.png"))) == moves
    monkeypatch.undo()
    jaxlung("join", out)
    assert contents(out) == contents(whole) and rows(out) == rows(whole)
    assert not list(out.glob("share-*")) and not list(out.glob(".*"))


@pytest.mark.parametrize("held", [".", "share-0002-of-0002"])
def test_no_join_while_another_process_writes(workdir, few, tmp_path, capsys, held):
    out = tmp_path / "out"
    for i in (1, 2):
        predict(few, "--model", workdir, "--out", out, "--share", f"{i}/2")
    with filelock.FileLock(out / held / ".jaxlung.lock"):
        jaxlung("join", out, code=2)
        if held != ".":
            predict(few, "--model", workdir, "--out", out, "--share", "2/2", "--resume", code=2)
    errors = capsys.readouterr().err.splitlines()
    assert errors and all("another jaxlung predict" in line for line in errors)
    assert not list(out.glob("*.png"))


def test_a_journal_that_becomes_its_summary_meanwhile_is_still_read(tmp_path, monkeypatch):
    journal = summary.Journal(tmp_path, {"model": "m"}, {}, {})
    journal.add(summary.make_row(name="a", status="ok", source="/a"))
    path = tmp_path / summary.JOURNAL
    read = Path.read_text

    def closed_first(self, *args, **kwargs):
        if self == path and path.exists():
            journal.close(["a"], {})
        return read(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", closed_first)
    assert list(read_earlier(tmp_path).rows) == ["a"]


def test_a_share_and_a_batch_of_all_files_exclude_each_other(
    workdir, few, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "out"
    arguments = (few, "--model", workdir, "--out", out)
    monkeypatch.setattr(shares, "_WAIT_S", 0.1)
    follow, ends = run._follow, []

    def beginning_another(flags):
        def begin(*batch):
            monkeypatch.setattr(run, "_follow", follow)
            predict(*arguments, *flags, code=2)
            ends.append(capsys.readouterr().err)
            return follow(*batch)

        return begin

    monkeypatch.setattr(run, "_follow", beginning_another(["--share", "1/2"]))
    predict(*arguments)
    assert "another jaxlung predict" in ends[0] and not list(out.glob("share-*"))
    for path in out.iterdir():
        path.unlink()
    monkeypatch.setattr(run, "_follow", beginning_another([]))
    predict(*arguments, "--share", "1/2")
    assert "holds share 1/2, and this is no share" in ends[1] and not list(out.glob("*.png"))


@pytest.mark.parametrize("name", ["a.png", "a.nii.gz"])
def test_join_knows_every_output(tmp_path, name):
    (tmp_path / name).touch()
    options = Options(out=tmp_path / "out", probabilities=True, slices=True, resample=True)
    sources = find_sources([tmp_path / name], volumes=name.endswith(".gz"))
    [job] = plan_jobs(sources, options)
    assert len(job.outputs) == (5 if job.is_volume else 3)
    assert {path.name for path in job.outputs} <= {f"a{end}" for end in ENDS}


def test_more_shares_than_files(workdir, films, tmp_path, capsys):
    for i in (1, 2, 3):
        paths = (films / "00.png", films / "01.png")
        predict(*paths, "--model", workdir, "--out", tmp_path, "--share", f"{i}/3")
    assert "share 3/3: 0 in all" in capsys.readouterr().out
    assert rows(tmp_path / "share-0003-of-0003") == []
    jaxlung("join", tmp_path)
    assert [row["name"] for row in rows(tmp_path)] == ["00", "01"]


def test_share_by_flag_and_in_a_slurm_step():
    step = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "2"}
    assert find_share("3/8", {}) == find_share(None, step) == Share(3, 8)
    assert str(Share(3, 8)) == "0003-of-0008"
    assert find_share("1/1", step) is find_share(None, {"SLURM_PROCID": "0"}) is None
    for wrong in ("0/8", "9/8", "3", "3/8/1", "-1/8", "a/b", ""):
        with pytest.raises(InputError, match="--share must be I/N"):
            find_share(wrong, {})
