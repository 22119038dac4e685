"""Every shell block of getting started and of Kaggle's page runs, on simulated films.

Fast, each command meets the real parsers, and each program is compiled. Slow, the blocks run one
after the other in a folder with the files that the page speaks of. Three things differ then:
installations are left out (`.ci/run` installs by the README's line), trainings get the settings of
SMALLER or TUNED after their own, so that they take seconds, and the review page opens no browser.
"""

import contextlib
import csv
import http.cookiejar
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
import zipfile

import jax
import numpy as np
import pytest

from jaxlung.cli.flags import read_config
from jaxlung.cli.main import make_parser
from jaxlung.io.images import write_png
from jaxlung.phantom import radiographs
from tests.helpers.doc_pages import (
    ROOT,
    anchors_of,
    code_blocks,
    list_commands,
    list_lines,
    programs,
    read,
    sentences,
)

PAGES = ["clinician", "researcher", "engineer", "kaggle"]
PATHS = {name: f"docs/{'howto' if name == 'kaggle' else 'start'}/{name}.md" for name in PAGES}
SHORT = "--config.train.num_epochs=1 --config.train.batch_size=4".split()
SMALLER = [*SHORT, "--config.data.size=32", "--config.model.width=4", "--config.model.depth=1"]
TUNED = [*SHORT, "--config.data.size=64"]  # a start from a bundled model keeps its network


def commands_of(name):
    return [command for block in code_blocks(PATHS[name]) for command in list_commands(block)]


@pytest.mark.parametrize("name", PAGES)
def test_commands_meet_the_real_parsers(name):
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    known, parsed = {*programs(PATHS[name])}, 0
    for command in commands_of(name):
        program, *arguments = shlex.split(command)
        if program == "jaxlung":
            flags, rest = make_parser().parse_known_args(arguments)
            if flags.command == "train":
                read_config(flags.config, rest)
            else:
                assert not rest, command
            parsed += 1
        elif program == "pip":
            names = re.findall(r"\[([\w,-]+)\]", command)
            assert {one for part in names for one in part.split(",")} <= {*extras}
        elif program.startswith("python") and arguments[0] != "-m":
            assert arguments[0] in known, command
        else:
            assert program in ("git", "cd", "mkdir", ".", "python", "python3"), command
    assert parsed >= (1 if name == "engineer" else 3)
    for one, text in programs(PATHS[name]).items():
        compile(text, one, "exec")


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_short_and_their_sentences_too(name):
    assert len(read(PATHS[name]).splitlines()) <= 150
    assert not [text for text in sentences(PATHS[name]) if len(text.split()) > 35]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_pages_and_sections(name):
    folder = (ROOT / PATHS[name]).parent
    for path, _, anchor in re.findall(r"\]\(([\w./-]+)(#([\w-]+))?\)", read(PATHS[name])):
        assert (folder / path).exists(), path
        if anchor:
            assert anchor in anchors_of((folder / path).read_text()), f"{path}#{anchor}"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder, whose `jaxlung` is this one."""
    (tmp_path / "bin").mkdir()
    for name, part in (("jaxlung", "-m jaxlung"), ("python", "")):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {part} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    return tmp_path / "work"


def run_blocks(name, folder):
    """Runs the page's blocks in their order."""
    for one, text in programs(PATHS[name]).items():
        (folder / one).write_text(text)
    for block in code_blocks(PATHS[name]):
        for line in list_lines(block):
            if re.search(r"pip install|git clone|-m venv", line) or not line:
                continue
            if line.startswith("jaxlung view"):
                look_at_review(line, folder)
                continue
            if "jaxlung train" in line and "--config tiny" not in line:
                line = shlex.join(
                    [*shlex.split(line), *(TUNED if "init_from" in line else SMALLER)]
                )
            done = subprocess.run(
                ["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=900
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def look_at_review(line, folder):
    """Starts the review page and asks for it once, as a browser does."""
    command = [*shlex.split(line), "--no-browser"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = next(text.strip() for text in server.stdout if text.startswith("http"))
            jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
            with contextlib.closing(urllib.request.build_opener(jar).open(address)) as answer:
                assert b"<html" in answer.read().lower()
        finally:
            server.terminate()


def make_pairs(folder, n, seed=0):
    films, masks = radiographs(jax.random.key(seed), n, size=64)
    for i, (film, mask) in enumerate(zip(films, masks, strict=True)):
        for kind, pixels in (("images", film), ("masks", 255 * mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_png(folder / kind / f"f{i:02}.png", pixels)


@pytest.mark.slow
def test_a_clinician_gets_masks_areas_and_a_page(place):
    pytest.importorskip("gdcm")
    from tests.helpers.dicom_files import dicom, saved

    (place / "dicoms" / "a").mkdir(parents=True)
    films, _ = radiographs(jax.random.key(5), 2)
    for i, film in enumerate(np.asarray(films)):
        saved(place / f"dicoms/a/film{i}.dcm", dicom(film, PixelSpacing=[0.4, 0.4]))
    run_blocks("clinician", place)
    assert (place / "lungs_for_clinic.html").stat().st_size > 10**6
    with (place / "lung_masks" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    columns = re.findall(r"`(\w+)`", read(PATHS["clinician"]).split("## Read the table")[1])
    assert {c for c in columns if c not in ("ok", "failed", "lung_and_heart")} <= {*rows[0]}
    for row in rows:
        assert row["status"] == "ok" and float(row["lung_mm2"]) > 100
        assert (place / "lung_masks" / "a" / "film0_overlay.png").exists()


@pytest.mark.slow
def test_a_researcher_gets_a_model_and_reports(place):
    make_pairs(place / "my_films", 24)
    make_pairs(place / "other_hospital", 4, seed=9)
    run_blocks("researcher", place)
    [report] = (place / "runs/student/eval").glob("*/report.html")
    assert report.stat().st_size > 0
    three = json.loads((place / "three_models/metrics.json").read_text())
    assert len(three["results"]) == 3 and {r["n"] for r in three["results"]} == {4}
    scores = json.loads((place / "student_scores/metrics.json").read_text())
    assert [result["n"] for result in scores["results"]] == [4]


@pytest.mark.slow
def test_an_engineers_loss_falls_on_eight_devices(place):
    run_blocks("engineer", place)
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8"}
    out = subprocess.run(
        [sys.executable, "own_loss.py"], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert out[0].startswith("8 devices") and "'data': 8" in out[0]
    losses = [float(line.split()[1]) for line in out[1:]]
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_kaggles_zip_becomes_a_report(place):
    films, masks = radiographs(jax.random.key(2), 34, size=64)
    stems = [f"{'MCU' if i % 2 else 'CHN'}CXR_{i:04}_{i // 2 % 2}" for i in range(34)]
    with zipfile.ZipFile(place / "archive.zip", "w") as archive:
        for i, (stem, film, mask) in enumerate(zip(stems, films, masks, strict=True)):
            folder = "CXR_png" if i < 32 else "test"
            suffix = "" if stem.startswith("MCU") else "_mask"
            write_png(place / "film.png", film)
            write_png(place / "mask.png", 255 * mask)
            for top in ("", "data/"):  # some downloads hold all of it twice
                top += "Lung Segmentation"
                archive.write(place / "film.png", f"{top}/{folder}/{stem}.png")
                if i < 30:
                    archive.write(place / "mask.png", f"{top}/masks/{stem}{suffix}.png")
    run_blocks("kaggle", place)
    test = json.loads((place / "runs/kaggle/data.json").read_text())["test"]
    scored = json.loads((place / "kaggle_scores/metrics.json").read_text())
    assert [result["n"] for result in scored["results"]] == [len(test)]
    [own] = (place / "runs/kaggle/eval").glob("*/metrics.json")
    means = [
        report["results"][0]["grids"]["original"]["per_image"]["dice"]["mean"]
        for report in (scored, json.loads(own.read_text()))
    ]
    assert means[0] == pytest.approx(means[1], abs=1e-6)  # as step 7 says
    with (place / "kaggle_masks" / "summary.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
