"""`jaxlung predict` from and to buckets in memory: as in folders, and it goes on after a stop."""

import csv
import io
import json

import fsspec
import pytest

from jaxlung.predict.buckets import output
from jaxlung.system.files import name_partial
from tests.helpers.bucket_runs import Tiny, film

FILMS, MASKS = "memory://films", "memory://masks"


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


@pytest.fixture
def bucket():
    """An empty memory, but for ten films in two folders."""
    store = fsspec.filesystem("memory")
    store.rm("/", recursive=True)
    for i in range(10):
        store.pipe_file(f"/films/{'ab'[i % 2]}/{i}.png", film(i))
    yield store
    store.rm("/", recursive=True)


def objects(store, root="/masks"):
    """Every object but the summaries, whose times differ."""
    found = {path[len(root) + 1 :]: store.cat_file(path) for path in store.find(root)}
    return {name: data for name, data in found.items() if "summary" not in name}


def rows(store, root="/masks"):
    return list(csv.DictReader(io.StringIO(store.cat_file(f"{root}/summary.csv").decode())))


def test_a_bucket_gives_what_a_folder_gives(tiny, bucket, tmp_path):
    bucket.get("/films", str(tmp_path / "films"), recursive=True)
    tiny.predict(tmp_path / "films", "--out", tmp_path / "here")
    tiny.predict(FILMS, "--out", MASKS)
    tiny.predict(FILMS, "--out", tmp_path / "mixed")
    here = {
        path.relative_to(tmp_path / "here").as_posix(): path.read_bytes()
        for path in (tmp_path / "here").rglob("*.png")
    }
    assert len(here) == 20 and objects(bucket) == here
    mixed = {path.name for path in (tmp_path / "mixed").rglob("*.png")}
    assert len(mixed) == 20
    found = rows(bucket)
    assert [row["image"] for row in found[:2]] == [f"{FILMS}/a/0.png", f"{FILMS}/a/2.png"]
    assert {row["status"] for row in found} == {"ok"} and len(found) == 10
    names = {path.rpartition("/")[2] for path in bucket.find("/masks")}
    assert {"summary.csv", "summary.json"} <= names and not any(n.startswith(".") for n in names)


def test_bad_and_vanished_films_are_rows_and_the_others_go_on(tiny, bucket, capsys, monkeypatch):
    bucket.pipe_file("/films/a/bad.png", b"no film")
    get = type(bucket).get_file

    def get_file(store, path, *rest, **options):
        if path.endswith("/1.png"):  # listed, and removed by somebody before it is read
            raise FileNotFoundError(path)
        return get(store, path, *rest, **options)

    monkeypatch.setattr(type(bucket), "get_file", get_file)
    tiny.predict(FILMS, "--out", MASKS, code=1)
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        errors[0],
        f"error: {FILMS}/b/1.png: there is no such object",
    ]
    assert errors[0].startswith(f"error: {FILMS}/a/bad.png: is not an image")
    assert sum(row["status"] == "ok" for row in rows(bucket)) == 9


def deny(monkeypatch, bucket, *ends):
    """Denies every object of such names; returns which were asked for."""
    asked, store = [], type(bucket)

    def refusing(read):
        def refuse(store, path, *rest, **options):
            asked.append(path)
            if path.endswith(ends):
                raise PermissionError(path)
            return read(store, path, *rest, **options)

        return refuse

    for name in ("get_file", "cat_file"):
        monkeypatch.setattr(store, name, refusing(getattr(store, name)))
    return asked


def test_one_film_that_is_denied_is_a_row_and_all_of_them_end_the_run(
    tiny, bucket, capsys, monkeypatch
):
    deny(monkeypatch, bucket, "/a/0.png", "/b/3.png")
    for again in ((), ("--resume",)):
        tiny.predict(FILMS, "--out", MASKS, *again, code=1)
        assert [line.split(": ")[:3] for line in capsys.readouterr().err.splitlines()] == [
            ["error", f"{FILMS}/{name}", line_end]
            for name in ("a/0.png", "b/3.png")
            for line_end in ["access is denied; check the credentials, and what they may do there"]
        ]
        found = {row["name"]: row["status"] for row in rows(bucket)}
        assert len(found) == 10 and {n for n in found if found[n] == "failed"} == {"a/0", "b/3"}
    bucket.rm("/masks", recursive=True)
    asked = deny(monkeypatch, bucket, ".png")
    tiny.predict(FILMS, "--out", MASKS, code=2)
    [line] = capsys.readouterr().err.splitlines()
    assert f"cannot go on ({FILMS}/a/0.png: access is denied" in line
    assert asked and not bucket.exists("/masks/summary.csv")


def test_what_an_earlier_run_left_does_not_stay_beside_a_new_summary(tiny, bucket):
    bucket.pipe_file("/masks/summary.parquet", b"of an earlier run on Ray")
    unfinished = f"/masks/a/{name_partial('0.png')}"
    bucket.pipe_file(unfinished, b"of a process that was killed")
    tiny.predict(FILMS, "--out", MASKS)
    assert not bucket.exists(unfinished)
    assert bucket.exists("/masks/summary.csv") and not bucket.exists("/masks/summary.parquet")


def test_a_run_that_was_killed_goes_on(tiny, bucket, capsys, monkeypatch):
    tiny.predict(FILMS, "--out", "memory://whole")
    monkeypatch.setattr(output, "_ROWS", 2)
    monkeypatch.setattr(output, "_SECONDS", 1e9)
    add, rows_told = output._BucketJournal.add, []

    def dies(journal, row):
        rows_told.append(row)
        if len(rows_told) == 6:  # and so does what would tidy up: a kill leaves no time for it
            monkeypatch.setattr(output._BucketJournal, "flush", lambda _: None)
            raise KeyboardInterrupt
        add(journal, row)

    monkeypatch.setattr(output._BucketJournal, "add", dies)
    tiny.predict(FILMS, "--out", MASKS, code=130)
    monkeypatch.undo()
    left = [path for path in bucket.find("/masks") if "summary" in path]
    assert len(left) > 1 and not any(path.endswith(".csv") for path in left)
    capsys.readouterr()
    tiny.predict(FILMS, "--out", MASKS, code=2)
    assert "--resume" in capsys.readouterr().err
    tiny.predict(FILMS, "--out", MASKS, "--resume")
    before = int(capsys.readouterr().out.split(" of them before")[0].rpartition("(")[2])
    assert before == 4  # of 5 rows the last part was not full yet
    assert objects(bucket) == objects(bucket, "/whole")
    assert [row["name"] for row in rows(bucket)] == [row["name"] for row in rows(bucket, "/whole")]
    assert [path for path in bucket.find("/masks") if "/.summary" in path] == []


def test_resume_predicts_what_is_new_or_has_changed(tiny, bucket, capsys):
    tiny.predict(FILMS, "--out", MASKS)
    before = objects(bucket)
    bucket.pipe_file("/films/a/2.png", film(77))
    bucket.pipe_file("/films/new.png", film(78))
    bucket.rm("/masks/b/3.png")
    capsys.readouterr()
    tiny.predict(FILMS, "--out", MASKS, "--resume")
    assert "11 in all: 11 predicted (8 of them before)" in capsys.readouterr().out
    after = objects(bucket)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {"a/2.png", "a/2_overlay.png", "new.png", "new_overlay.png"}
    assert len(changed) >= 3
    summary = json.loads(bucket.cat_file("/masks/summary.json"))
    assert len(summary["images"]) == 11


def test_what_exists_is_not_replaced_and_shares_are_refused(tiny, bucket, capsys):
    tiny.predict(FILMS, "--out", MASKS)
    tiny.predict(FILMS, "--out", MASKS, code=2)
    tiny.predict(FILMS, "--out", MASKS, "--no-turn", "--resume", "--share", "1/2", code=2)
    tiny.predict(f"{FILMS}/a", "--out", f"{FILMS}/a", code=2)
    exists, shares, same = capsys.readouterr().err.splitlines()
    assert f"{MASKS}/a/0.png exists and is not replaced" in exists
    assert "shares need a folder" in shares and "name another --out" in same


def test_a_full_bucket_ends_the_run(tiny, bucket, capsys, monkeypatch):
    put = type(bucket).put_file

    def put_file(store, path, key, **options):
        if key.endswith("/4.png"):
            raise OSError("An error occurred (QuotaExceeded) when calling the PutObject operation")
        return put(store, path, key, **options)

    monkeypatch.setattr(type(bucket), "put_file", put_file)
    tiny.predict(FILMS, "--out", MASKS, code=2)
    *_, last = capsys.readouterr().err.splitlines()
    assert f"{MASKS}: cannot go on ({MASKS}/a/4.png: the bucket is full" in last
    assert "--resume" in last
    monkeypatch.undo()
    tiny.predict(FILMS, "--out", MASKS, "--resume")
    assert len(rows(bucket)) == 10
