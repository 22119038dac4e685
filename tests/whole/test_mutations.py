"""`jaxlung predict` over damaged, odd and hostile files: no crash, no hang, little memory.

Other seeds: JAXLUNG_MUTATIONS=SEED[,SEED...] pytest -s -m slow tests/whole/test_mutations.py
"""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom", reason='needs pip install "jaxlung[dicom]"')
pytest.importorskip("gdcm", reason='needs pip install "jaxlung[dicom]"')

from jaxlung.errors import InputError, one_line, print_error  # noqa: E402
from jaxlung.io import images as images_io  # noqa: E402
from jaxlung.io.images import read_film, read_image, write_png  # noqa: E402
from jaxlung.phantom import radiographs  # noqa: E402
from jaxlung.predict.batch import summary  # noqa: E402
from jaxlung.predict.batch.sources import find_sources, on_disk  # noqa: E402
from jaxlung.system.silence import silence_stderr  # noqa: E402
from tests.helpers import predict_command  # noqa: E402
from tests.helpers.mutated_files import (  # noqa: E402
    SECRETS,
    deflated_bomb,
    encoded,
    gif,
    jpeg_of_many_scans,
    mutated_files,
    png,
    seeds,
    tiff,
)
from tests.helpers.predict_command import predict  # noqa: E402

ROOT = Path(__file__).parents[2]
SEEDS = [int(seed) for seed in os.environ.get("JAXLUNG_MUTATIONS", "0").split(",")]
SECONDS, MEMORY = 5.0, 2 * 2**30  # of one file; of the process, bytes
SECRET = [part.lower() for value in SECRETS.values() for part in value.split("^")]


COUNT = 150  # of the films that are interrupted: seconds of work


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return radiographs(jax.random.key(0), 4, size=64)[0]


def command(source, workdir, out, *more):
    return [
        sys.executable,
        "-m",
        "jaxlung",
        "predict",
        str(source),
        "--model",
        str(workdir),
        "--out",
        str(out),
        *more,
    ]


def watched(arguments, limit):
    """Runs a command: its exit status, both outputs, and the most memory that it held, bytes."""
    most = 0
    with subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + limit
        while True:
            try:
                out, err = process.communicate(timeout=0.05)
                return process.returncode, out.decode(), err.decode(), most
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    process.kill()
                    raise
            status = Path(f"/proc/{process.pid}/status")
            for line in status.read_text().splitlines() if status.exists() else ():
                if line.startswith("VmHWM:"):
                    most = max(most, 1024 * int(line.split()[1]))


def read_alone(path):
    """Seconds of computing to read it, whatever else the machine does, and its size or None."""
    start = time.process_time()
    try:
        size = read_film(path).image.shape[:2]
    except InputError:
        size = None
    return time.process_time() - start, size


def predicted_alone(path, workdir, out):
    """Seconds of computing to read, predict and write it; the first time is of compilation."""
    for _ in range(2):
        start = time.process_time()
        predict(path, "--model", workdir, "--out", out, "--overwrite")
    shutil.rmtree(out)
    return time.process_time() - start


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_batch_of_mutated_files(workdir, images, tmp_path, count, seed):
    folder, scratch, out = (tmp_path / name for name in ("in", "scratch", "out"))
    folder.mkdir()
    scratch.mkdir()
    paths = mutated_files(folder, images, count, seed, scratch)
    code, said, errors, memory = watched(command(folder, workdir, out), 120 + SECONDS * count)
    what = f"{count} files of seed {seed}"
    assert code == 1 and "Traceback" not in errors, f"{what}: {errors[-2000:]}"
    rows = json.loads((out / summary.JSON).read_text())["images"]
    assert [row["image"] for row in rows] == sorted(map(str, paths)), what
    failed = [row for row in rows if row["status"] == "failed"]
    told = [f"error: {one_line(row['error'])}" for row in failed]
    assert errors.splitlines() == told, what
    assert not [word for word in SECRET if word in (errors + said).lower()], what
    slowest, spent = "", 0.0
    for row in rows:
        seconds, size = read_alone(row["image"])
        if (row["seconds"] or 0) > SECONDS / 2:  # in the batch it may have waited for its turn
            seconds = predicted_alone(row["image"], workdir, tmp_path / "alone")
        slowest, spent = max((slowest, spent), (row["image"], seconds), key=lambda pair: pair[1])
        if row["status"] == "failed":
            continue
        mask = read_image(out / row["mask"])
        assert mask.shape == (row["height"], row["width"]) == size, f"{what}: {row}"
        assert mask.any() or row["warnings"], f"{what}: {row}"
    masks = [row["mask"].removesuffix(".png") for row in rows if row["status"] == "ok"]
    written = {f"{mask}{end}" for mask in masks for end in (".png", "_overlay.png")}
    assert written == {str(path.relative_to(out)) for path in out.rglob("*.png")}, what
    assert spent < SECONDS, f"{what}: {slowest} took {spent:.1f} s"
    assert memory < MEMORY, f"{what}: {memory / 2**30:.2f} GiB"
    counts = Counter(
        "failed" if row["status"] == "failed" else "warned of" if row["warnings"] else "predicted"
        for row in rows
    )
    empty = sum(row.get("lung_px") == 0 for row in rows)
    print(
        f"{what}: {dict(counts)}, {empty} empty masks; slowest {Path(slowest).name!r} "
        f"{spent:.1f} s; {memory / 2**30:.2f} GiB"
    )


def assert_refused_soon(path, words):
    start = time.process_time()  # a busy machine does not stretch it
    with pytest.raises(InputError, match=words):
        read_film(path)
    assert time.process_time() - start < 2


def test_many_frames_are_not_counted(tmp_path):
    for name, data in (("a.tif", tiff(8, 8, chain=20000)), ("a.gif", gif(8, 8, 100_000))):
        (tmp_path / name).write_bytes(data)
        assert_refused_soon(tmp_path / name, "several frames")


def test_what_unpacks_to_too_much_or_for_too_long_is_refused(tmp_path):
    for name, data, words in (
        ("a.dcm", deflated_bomb(2**30, tmp_path), "unpacks to more than"),
        ("a.png", png(2**15, 8), "more pixels than"),
        ("b.png", png(6000, 6000, b""), "more pixels than"),
        ("a.jpg", jpeg_of_many_scans(np.zeros((64, 64), np.uint8), 200), "scans"),
    ):
        (tmp_path / name).write_bytes(data)
        assert_refused_soon(tmp_path / name, words)


def test_an_error_is_told_though_a_library_is_being_silenced(capfd):
    silenced, told = threading.Event(), threading.Event()

    def decode():
        with silence_stderr():
            silenced.set()
            told.wait(0.3)

    thread = threading.Thread(target=decode)
    thread.start()
    silenced.wait()
    print_error("one")
    told.set()
    thread.join()
    assert capfd.readouterr().err == "error: one\n"


def test_names_that_are_no_text_are_told_in_one_line_each(workdir, images, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a\nb", "\x1b[31mc", "\udcff", "d" * 245):
        (folder / f"{name}.png").write_bytes(encoded(images[0], "PNG"))
    predict(folder, "--model", workdir, "--out", out, code=1)  # the last's outputs have no name
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and "too long a name" in said.err
    assert len(said.out.splitlines()) == 4 and "\x1b" not in said.out and "\udcff" not in said.out
    with open(out / summary.CSV, newline="", encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "ok", "failed", "ok"]


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "bare")
    Image.new("L", (8, 8)).save(tmp_path / "b.png")
    assert [source.path.name for source in find_sources([tmp_path], volumes=False)] == [
        "a.png",
        "b.png",
    ]
    assert_refused_soon(tmp_path / "a.png", "pipe")
    assert_refused_soon("/dev/zero", "device")


def test_a_file_too_large_is_not_read(tmp_path):
    for name in ("a.png", "a.dcm"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
        os.truncate(tmp_path / name, 2**33)
        assert_refused_soon(tmp_path / name, "larger than 512 MiB")


def test_damaged_archives_end_in_one_error_each(images, tmp_path):
    rng = np.random.default_rng(0)
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, (suffix, data) in enumerate(seeds(images, tmp_path)[::4]):
            archive.writestr(f"a/{i}{suffix}", data)
    data = whole.read_bytes()
    for _ in range(80):
        broken, first = bytearray(data), int(rng.integers(2)) * (len(data) - 500)
        for at in rng.integers(first, len(data), int(rng.integers(1, 9))):
            broken[at] ^= 1 << int(rng.integers(8))
        path = tmp_path / "broken.zip"
        path.write_bytes(broken)
        try:
            sources = find_sources([path], volumes=False)
        except InputError:
            continue
        for source in sources:
            try:
                with on_disk(source) as unpacked:
                    read_film(unpacked)
            except InputError as error:
                assert str(error).startswith(str(path))


@pytest.fixture
def films(images, tmp_path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(24):
        (folder / f"{i:02d}.png").write_bytes(encoded(images[i % 4], "PNG"))
    return folder


def test_interrupted_it_says_how_to_go_on(workdir, films, tmp_path):
    for i in range(24, COUNT):
        os.link(films / "00.png", films / f"{i}.png")
    out = tmp_path / "out"
    # A suite that a shell runs in the background ignores interruptions, and its children too.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command(films, workdir, out), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    finally:
        signal.signal(signal.SIGINT, handler)
    with process:
        while process.poll() is None and len(list(out.glob("*_overlay.png"))) < 3:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode() == "interrupted; the same command with --resume goes on\n"
    assert (out / summary.JOURNAL).exists()
    predict(films, "--model", workdir, "--out", out, "--resume")
    assert len(json.loads((out / summary.JSON).read_text())["images"]) == COUNT


def test_a_full_disk_ends_it_in_one_line_and_it_can_go_on(
    workdir, films, tmp_path, monkeypatch, capsys
):
    out, write, left = tmp_path / "out", write_png, [9]

    def until_full(path, image):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, image)

    monkeypatch.setattr(images_io, "write_png", until_full)
    predict(films, "--model", workdir, "--out", out, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(out) in line and "No space left" in line and "--resume" in line
    left[0] = 999
    predict(films, "--model", workdir, "--out", out, "--resume")
    rows = json.loads((out / summary.JSON).read_text())["images"]
    assert [row["status"] for row in rows] == ["ok"] * 24


def test_a_folder_that_cannot_be_written_to_is_refused_first(films, tmp_path, monkeypatch, capsys):
    def no_work(*arguments, **options):
        raise AssertionError("it began")

    monkeypatch.setattr("jaxlung.predict.batch.sources.find_sources", no_work)
    monkeypatch.setattr(predict_command, "_load", no_work)
    (tmp_path / "file").write_bytes(b"")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        predict(films, "--out", out, code=2)
        assert "is no folder" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    predict(films, "--out", tmp_path / "new" / "out", code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written to" in line and not (tmp_path / "new").exists()
