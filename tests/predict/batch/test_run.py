"""`jaxlung predict` over many files: outputs, summary, going on, what is refused."""

import csv
import io
import json
import os
import signal
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import filelock
import jax
import numpy as np
import pytest
from PIL import Image

from jaxlung.data.datasets import load_splits
from jaxlung.io.images import read_image
from jaxlung.io.masks import read_labels
from jaxlung.predict.batch import outputs, run, summary, work
from jaxlung.predict.batch.earlier import Earlier, read_earlier
from jaxlung.predict.batch.formats import IMAGE_FORMATS, VOLUME_FORMATS
from tests.helpers import forked_commands
from tests.helpers.contents import content_of
from tests.helpers.predict_command import predict


@pytest.fixture(scope="module")
def films(model, tmp_path_factory) -> Path:
    """Eleven simulated radiographs, in folders."""
    folder = tmp_path_factory.mktemp("films")
    split = load_splits(model.config.data)["train"]
    for i in range(11):
        path = folder / ("a", "b")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(split.read(i).image).resize((70 + i, 60)).save(path)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the summaries, whose times differ."""
    return {
        path.relative_to(folder).as_posix(): content_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (summary.JSON, summary.CSV)
    }


def rows(folder: Path) -> list[dict]:
    return json.loads((folder / summary.JSON).read_text())["images"]


def untimed(folder: Path) -> list[dict]:
    return [{**row, "seconds": 0} for row in rows(folder)]


def test_masks_are_those_of_the_python_interface(workdir, model, films, tmp_path):
    out = tmp_path / "out"
    predict(films, "--model", workdir, "--out", out, "--probabilities", "--sides")
    for path in films.rglob("*.png"):
        stem = out / path.relative_to(films).with_suffix("")
        found = model.prediction(path)
        labels = read_labels(f"{stem}.png", sides=True)
        np.testing.assert_array_equal(labels > 0, found.mask)
        np.testing.assert_array_equal(labels, found.labels)
        probability = read_image(f"{stem}_probability.png") / 65535
        np.testing.assert_allclose(probability, found.probability, atol=1e-4)
        assert read_image(f"{stem}_overlay.png").shape == (*found.mask.shape, 3)


def test_summary_has_a_row_for_each_image(workdir, model, films, tmp_path):
    out = tmp_path / "out"
    predict(films, "--model", workdir, "--out", out, "--no-overlay")
    found = rows(out)
    assert [row["image"] for row in found] == sorted(map(str, films.rglob("*.png")))
    for row in found:
        mask = model.predict(row["image"])
        assert (row["height"], row["width"]) == mask.shape
        assert row["lung_px"] == row["right_px"] + row["left_px"] == mask.sum()
        assert 0 < row["confidence"] <= 1 and row["status"] == "ok" and row["seconds"] > 0
        assert set(summary.FIELDS) < set(row)
        assert row["lung_mm2"] is None  # PNG does not say how large a pixel is
    table = list(csv.DictReader(io.StringIO((out / summary.CSV).read_text())))
    assert tuple(table[0]) == summary.FIELDS
    assert [row["image"] for row in table] == [row["image"] for row in found]
    assert not list(out.rglob(".*"))


def test_archive_list_and_folder_give_the_same(workdir, films, tmp_path, monkeypatch):
    outs = [tmp_path / name for name in ("folder", "zip", "list")]
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        for path in films.rglob("*.png"):
            archive.write(path, path.relative_to(films))
    paths = sorted(films.rglob("*.png"))
    listed = "".join(f"{path}\n" for path in paths).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    for out, named in zip(outs, (films, tmp_path / "films.zip", "-"), strict=True):
        predict(named, "--model", workdir, "--out", out)
    assert contents(outs[0]) == contents(outs[1])
    assert sorted(contents(outs[2]).values()) == sorted(contents(outs[0]).values())


def test_bad_files_are_told_at_the_end_and_in_the_summary(workdir, films, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = next(films.rglob("*.png"))
    for name in ("1.png", "3.png"):
        (folder / name).write_bytes(good.read_bytes())
    (folder / "2.png").write_bytes(good.read_bytes()[:200])
    (folder / "4.dcm").write_bytes(b"no DICOM")
    for name in ("5.heic", "6.IMG", "README"):
        (folder / name).write_bytes(b"no image")
    predict(folder, "--model", workdir, "--out", tmp_path / "out", code=1)
    captured = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in captured.err.splitlines()] == [
        f"{folder}/2.png",
        f"{folder}/4.dcm",
    ]
    assert "4 in all: 2 predicted" in captured.out and "2 failed" in captured.out
    assert [row["status"] for row in rows(tmp_path / "out")] == ["ok", "failed", "ok", "failed"]
    assert "2.png" in rows(tmp_path / "out")[1]["error"]
    assert captured.out.endswith("3 files passed over (.heic 1, .img 1, no suffix 1)\n")
    whole = json.loads((tmp_path / "out" / summary.JSON).read_text())
    assert whole["passed_over"] == {".heic": 1, ".img": 1, "no suffix": 1}


def test_resume_does_what_is_missing_changed_or_failed_and_no_more(workdir, films, tmp_path):
    source = tmp_path / "films"
    for path in films.rglob("*.png"):
        (source / path.relative_to(films)).parent.mkdir(parents=True, exist_ok=True)
        (source / path.relative_to(films)).write_bytes(path.read_bytes())
    bad = source / "a" / "bad.png"
    bad.write_bytes(b"")
    out = tmp_path / "out"
    predict(source, "--model", workdir, "--out", out, code=1)
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    changed, removed = source / "b" / "1.png", out / "a" / "0_overlay.png"
    Image.fromarray(read_image(changed)[:, ::-1].copy()).save(changed)
    removed.unlink()
    bad.write_bytes((source / "a" / "2.png").read_bytes())
    predict(source, "--model", workdir, "--out", out, "--resume")
    again = {path for path in out.rglob("*.png") if path.stat().st_mtime_ns != times.get(path)}
    expected = {out / "a" / "0", out / "a" / "bad", out / "b" / "1"}
    assert {Path(str(path).removesuffix(".png").removesuffix("_overlay")) for path in again} == (
        expected
    )
    after = contents(out)
    assert {name for name in before if before[name] != after[name]} == {
        "b/1.png",
        "b/1_overlay.png",
    }
    assert len(rows(out)) == 12 and all(row["status"] == "ok" for row in rows(out))


def test_resume_by_another_model_or_other_masks_is_refused(workdir, films, tmp_path, capsys):
    one = next(films.rglob("*.png"))
    predict(one, "--model", workdir, "--out", tmp_path / "out")
    before = contents(tmp_path / "out")
    for changed, word in (("--sides", "masks"), ("--no-tta", "tta")):
        predict(one, "--model", workdir, "--out", tmp_path / "out", "--resume", changed, code=2)
        assert word in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


def test_a_second_batch_adds_to_the_summary(workdir, films, tmp_path):
    paths = sorted(films.rglob("*.png"))
    for path in paths[:2]:
        predict(path, "--model", workdir, "--out", tmp_path / "out")
    assert {row["image"] for row in rows(tmp_path / "out")} == set(map(str, paths[:2]))


def test_resume_replaces_no_output_of_another_image(workdir, films, tmp_path, capsys):
    one, other = sorted(films.rglob("*.png"))[:2]
    for folder, path in (("x", one), ("y", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.png").write_bytes(path.read_bytes())
    out = tmp_path / "out"
    predict(tmp_path / "x" / "same.png", "--model", workdir, "--out", out)
    before = contents(out)
    predict(tmp_path / "y" / "same.png", "--model", workdir, "--out", out, "--resume", code=2)
    assert f"{tmp_path}/x/same.png" in capsys.readouterr().err
    assert contents(out) == before


def test_of_the_same_size_and_time_in_another_folder_is_another_image(workdir, films, tmp_path):
    one, other = (read_image(path)[:60, :60] for path in sorted(films.rglob("*.png"))[:2])
    for folder, pixels in (("x", one), ("y", other)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "1.bmp")
        os.utime(tmp_path / folder / "1.bmp", (1, 1))
    out = tmp_path / "out"
    predict(tmp_path / "x", "--model", workdir, "--out", out)
    before = contents(out)
    predict(tmp_path / "y", "--model", workdir, "--out", out, "--resume", code=2)
    assert contents(out) == before


def test_paths_mean_the_same_from_elsewhere(workdir, films, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.chdir(films)
    predict("a", "--model", workdir, "--out", out)
    times = [path.stat().st_mtime_ns for path in sorted(out.glob("*.png"))]
    monkeypatch.chdir(films.parent)
    predict(f"{films.name}/a", "--model", workdir, "--out", out, "--resume")
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("*.png"))] == times


def test_an_image_named_as_an_overlay_does_not_replace_it(workdir, films, tmp_path, capsys):
    one, other = sorted(films.rglob("*.png"))[:2]
    for name, path in (("1.png", one), ("1_overlay.png", other)):
        (tmp_path / name).write_bytes(path.read_bytes())
    out = tmp_path / "out"
    predict(tmp_path / "1.png", "--model", workdir, "--out", out)
    before = contents(out)
    predict(tmp_path / "1_overlay.png", "--model", workdir, "--out", out, "--resume", code=2)
    assert "1_overlay.png exists" in capsys.readouterr().err
    assert contents(out) == before


def test_a_killed_overwrite_by_another_model_is_not_taken_for_done(
    workdir, films, tmp_path, monkeypatch
):
    """The journal of a killed batch counts, and not the summary of the one before."""
    out, plain = tmp_path / "out", tmp_path / "plain"
    predict(films, "--model", workdir, "--out", out)
    predict(films, "--model", workdir, "--no-tta", "--probabilities", "--out", plain)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_follow", killed)  # before its first image
    predict(films, "--model", workdir, "--no-tta", "--overwrite", "--out", out, code=130)
    monkeypatch.undo()
    predict(films, "--model", workdir, "--no-tta", "--probabilities", "--resume", "--out", out)
    assert contents(out) == contents(plain)


def test_overwrite_with_other_settings_needs_all_that_is_there(workdir, films, tmp_path, capsys):
    out = tmp_path / "out"
    predict(films, "--model", workdir, "--out", out)
    before = contents(out)
    one = next(films.rglob("*.png"))
    predict(one.parent, "--model", workdir, "--no-tta", "--overwrite", "--out", out, code=2)
    assert "11 predictions made otherwise (tta: True then, False now)" in capsys.readouterr().err
    assert contents(out) == before
    predict(films, "--model", workdir, "--no-tta", "--overwrite", "--out", out)
    assert contents(out) != before


def test_a_summary_of_another_program_is_left_alone(workdir, films, tmp_path, capsys):
    (tmp_path / summary.CSV).write_text("mine")
    predict(next(films.rglob("*.png")), "--model", workdir, "--out", tmp_path, code=2)
    assert summary.CSV in capsys.readouterr().err
    assert (tmp_path / summary.CSV).read_text() == "mine"


def test_strict_goes_on_with_what_was_warned_of(workdir, tmp_path):
    Image.new("L", (128, 128), 90).save(tmp_path / "blank.png")
    arguments = (tmp_path / "blank.png", "--model", workdir, "--out", tmp_path / "out")
    predict(*arguments)
    predict(*arguments, "--resume", "--strict", code=1)
    assert "earlier run" in rows(tmp_path / "out")[0]["error"]


def test_names_of_any_bytes(workdir, films, tmp_path):
    folder = os.fsencode(tmp_path / "odd")
    os.mkdir(folder)
    for name in (b"a\xff.png", b"line\nbreak.png", b"50%.png"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(next(films.rglob("*.png")).read_bytes())
    predict(tmp_path / "odd", "--model", workdir, "--out", tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 3
    assert rb"a\udcff.png" in (tmp_path / "out" / summary.CSV).read_bytes()


def test_an_error_of_writing_one_image_does_not_end_the_batch(
    workdir, films, tmp_path, monkeypatch, capsys
):
    def write(job, *arguments):
        if job.source.name.name == "2":
            raise ValueError("name of a patient")
        written(job, *arguments)

    written = outputs.write_image
    monkeypatch.setattr(work, "write_image", write)
    predict(films, "--model", workdir, "--out", tmp_path, code=1)
    [line] = capsys.readouterr().err.splitlines()
    assert "2.png" in line and "ValueError" in line and "patient" not in line
    assert [row["status"] for row in rows(tmp_path)].count("ok") == 10


def test_two_batches_in_one_folder_are_refused(workdir, films, tmp_path, capsys):
    lock = filelock.FileLock(tmp_path / ".jaxlung.lock")
    with lock:
        predict(films, "--model", workdir, "--out", tmp_path, code=2)
    assert "another jaxlung predict" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))


def test_strict_refuses_what_is_warned_of_and_writes_nothing(workdir, films, tmp_path, capsys):
    blank = tmp_path / "blank.png"
    Image.new("L", (128, 128), 90).save(blank)
    predict(blank, "--model", workdir, "--out", tmp_path / "plain")
    assert rows(tmp_path / "plain")[0]["warnings"]
    capsys.readouterr()
    predict(blank, "--model", workdir, "--out", tmp_path / "out", "--strict", code=1)
    assert "refused" in capsys.readouterr().err
    assert contents(tmp_path / "out") == {}


def test_an_ensemble_of_one_model_twice_is_that_model(workdir, model, films):
    import jaxlung

    twice = jaxlung.load([workdir, workdir])
    path = next(films.rglob("*.png"))
    np.testing.assert_allclose(twice.predict_proba(path), model.predict_proba(path), atol=1e-6)
    assert twice.members == 2


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_and_resumed_it_writes_the_same(workdir, films, tmp_path, kills):
    many = tmp_path / "many"
    many.mkdir()
    for i in range(20 * kills + 20):
        (many / f"{i:03d}.png").write_bytes(sorted(films.rglob("*.png"))[i % 11].read_bytes())
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict(many, "--model", workdir, "--out", whole, "--probabilities")
    rng = np.random.default_rng(0)
    arguments = [many, "--model", workdir, "--out", out, "--probabilities", "--resume"]
    killed = 0
    for _ in range(kills):
        done = len(list(out.glob("*_overlay.png")))
        process = forked_commands.start(
            *("-m", "jaxlung", "predict", *arguments), out=tmp_path / "log", err=tmp_path / "errors"
        )
        deadline = time.monotonic() + 60
        while process.is_alive() and time.monotonic() < deadline:
            if len(list(out.glob("*_overlay.png"))) > done + 1:
                time.sleep(rng.uniform(0, 0.03))
                process.kill()
                break
            time.sleep(0.001)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        for path in out.glob("*.png"):  # whatever is there is whole
            assert content_of(path) == content_of(whole / path.name)
    assert killed == kills
    predict(*arguments)
    assert contents(out) == contents(whole)
    assert untimed(out) == untimed(whole)


def test_of_a_turned_or_partial_film_sides_are_not_told(workdir, tmp_path):
    """Half a film has its lung on the other side of the picture's middle."""
    import jaxlung

    film = np.asarray(jaxlung.phantom.radiographs(jax.random.key(5), 1)[0][0])
    Image.fromarray(film).save(tmp_path / "whole.png")
    Image.fromarray(film[:, :128]).save(tmp_path / "right_half.png")
    Image.fromarray(np.rot90(film).copy()).save(tmp_path / "turned.png")
    flags = ("--sides", "--no-turn", "--model", workdir)
    predict(tmp_path / "*.png", *flags, "--out", tmp_path / "out")
    found = {row["name"]: row for row in rows(tmp_path / "out")}
    assert found["whole"]["right_px"] and found["whole"]["left_px"]
    for name in ("right_half", "turned"):
        row = found[name]
        assert row["warnings"] and row["lung_px"]
        assert row["right_px"] is row["left_px"] is row["right_to_left"] is None


def test_dicom_seg_of_a_picture_is_refused_before_anything_is_written(films, workdir, tmp_path):
    pytest.importorskip("highdicom")
    predict(
        next(films.rglob("*.png")),
        "--model",
        workdir,
        "--out",
        tmp_path / "out",
        "--format",
        "dicom-seg",
        code=1,
    )
    assert contents(tmp_path / "out") == {}
    assert "earlier" not in rows(tmp_path / "out")[0]["error"]


@pytest.mark.parametrize("sides", [False, True])
def test_dicom_seg_of_a_film_has_its_lungs(workdir, films, tmp_path, sides):
    pytest.importorskip("highdicom")
    pydicom = pytest.importorskip("pydicom")
    from tests.helpers.dicom_files import dicom, saved

    uid = pydicom.uid.generate_uid
    film = read_image(next(films.rglob("*.png")))
    header = {"StudyInstanceUID": uid(), "SeriesInstanceUID": uid(), "PixelSpacing": [1, 2]}
    saved(tmp_path / "film.dcm", dicom(film, **header))
    flags = ["--format", "dicom-seg", *(["--sides"] if sides else [])]
    predict(tmp_path / "film.dcm", "--model", workdir, "--out", tmp_path / "out", *flags)
    written = pydicom.dcmread(tmp_path / "out" / "film.dcm")
    assert len(written.SegmentSequence) == 1 + sides
    [row] = rows(tmp_path / "out")
    assert row["mask"] == "film.dcm" and row["lung_mm2"] == 2 * row["lung_px"]


def test_a_torn_line_of_the_journal_is_passed_over(tmp_path):
    journal = summary.Journal(tmp_path, {"model": "m"}, {}, {"a": "/a", "b": "/b"})
    for name in "ab":
        journal.add(summary.make_row(name=name, status="ok", source=f"/{name}"))
    path = tmp_path / summary.JOURNAL
    os.truncate(path, path.stat().st_size - 5)
    settings, found, pending, _ = read_earlier(tmp_path)
    assert settings == {"model": "m"} and list(found) == ["a"] and list(pending) == ["a", "b"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("same", "resume", "todo", "kept"),
    [
        (False, False, "abc", ""),
        (False, True, "abc", ""),  # of other settings nothing counts as done
        (True, False, "abc", "abx"),
        (True, True, "bc", "abx"),
    ],
)
def test_what_is_left_to_do(tmp_path, same, resume, overwrite, todo, kept):
    """a is done, b has failed, c is new, and x was there before; nothing is read or written."""

    class StubJob(NamedTuple):
        name: str

        def is_done(self, row, *, strict):
            assert not strict
            return row is not None and row["status"] == "ok"

    rows = {name: {"status": "failed" if name == "b" else "ok"} for name in "abx"}
    earlier = Earlier({"tta": True, "model": "runs/a"}, rows, {}, {})
    settings = {"tta": same, "model": "elsewhere/a"}
    options = outputs.Options(out=tmp_path, resume=resume, overwrite=overwrite)
    found, keep = earlier.split([StubJob(name) for name in "abc"], settings, options)
    assert "".join(job.name for job in found) == todo and "".join(keep) == kept


def test_formats_are_the_choices_of_the_command_line(capsys):
    assert set(IMAGE_FORMATS) == set(VOLUME_FORMATS)
    predict("x.png", "--out", "out", "--format", "none", code=2)
    errors = capsys.readouterr().err
    assert all(repr(name) in errors for name in IMAGE_FORMATS)


def test_measure_by_hand():
    labels = np.zeros((4, 6), np.uint8)
    labels[:, :2], labels[:2, 3:] = 1, 2
    row = summary.measure_lungs(labels, 1.0)
    assert (row["right_px"], row["left_px"], row["lung_px"]) == (8, 6, 14)
    assert (row["right_mm2"], row["left_mm2"], row["lung_mm2"]) == (8, 6, 14)
    assert row["right_to_left"] == round(8 / 6, 3)
    assert summary.measure_lungs(labels[None], 1000.0)["lung_ml"] == 14
    alone = summary.measure_lungs((labels == 1).astype(np.uint8), None)
    assert alone["right_to_left"] is None and "lung_mm2" not in alone
