"""The README's Python runs as it stands, and its command lines name flags and files that exist."""

import re

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxlung
from configs import tiny
from jaxlung.io.images import write_png
from tests.helpers.doc_pages import ROOT, code_blocks, list_lines, read, sentences

README = read("README.md")
FOLDERS = ("docs", "docs/start", "docs/howto", "docs/reference")
PAGES = ["README.md", "MODEL_CARD.md"]
PAGES += sorted(str(p.relative_to(ROOT)) for f in FOLDERS for p in (ROOT / f).glob("*.md"))
BLOCKS = code_blocks("README.md", "python")


@pytest.fixture(scope="module")
def film():
    """A body with two dark lungs, uint8 [320, 300]: enough of a chest for examples to run on."""
    down, across = np.mgrid[:320, :300] + 0.5
    film = np.full((320, 300), 190, np.uint8)
    for centre in (90, 210):
        film[((down - 150) / 105) ** 2 + ((across - centre) / 48) ** 2 <= 1] = 60
    return film


@pytest.fixture
def folder(tmp_path, monkeypatch, film):
    """The working folder, with the files that the examples read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    write_png(tmp_path / "image1.png", film)
    write_png(tmp_path / "lung_image.png", film)
    write_png(tmp_path / "mask.png", 255 * (film < 100).astype(np.uint8))
    return tmp_path


def test_python_examples_run(folder):
    assert len(BLOCKS) == 2
    for block in BLOCKS:
        names: dict = {}
        exec(compile(block, "README.md", "exec"), names)
    assert (folder / "lungs.png").stat().st_size > 0
    assert names["logits"].shape == (1, 256, 256, 1)
    assert np.isfinite(names["loss_per_image"]).all()
    assert names["dice"].shape == (1,) and 0 <= names["dice"][0] <= 1


def test_the_three_lines_of_the_recipe(folder):
    """As users of OpenCV and Keras know them: preprocess, predict, show."""
    model = jaxlung.load("cxr")
    image, mask = jaxlung.preprocess_image(
        cv2.imread("lung_image.png", 0), cv2.imread("mask.png", 0)
    )
    prediction = model.predict(image.reshape(1, 256, 256, 1))
    shown = plt.imshow(prediction[0, :, :, 0], cmap="gray")
    plt.close("all")
    assert prediction.shape == (1, 256, 256, 1) and shown.get_array().shape == (256, 256)
    found = prediction[0, :, :, 0] > 0.5
    assert 2 * (found & (mask > 0)).sum() / (found.sum() + mask.sum()) > 0.5


def test_files_that_the_readme_names_exist():
    names = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", README)
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists(), name


def test_readme_is_short():
    assert len(README.splitlines()) <= 120
    long = [text for text in sentences("README.md") if len(text.split()) > 35]
    assert not long


def test_set_up_has_the_first_commands():
    """One line installs and trains, one tests; nothing to type stands before them."""
    [clone, train, test] = code_blocks("README.md")[0].splitlines()
    assert README.index(clone) > README.index("\n## Set-up\n") > 0
    assert train == "pip install -e . && jaxlung train --config unet"
    assert test == 'pip install -e ".[test]" && pytest'


def test_config_fields_that_the_readme_names_exist():
    fields = re.findall(r"--config\.(\w+)\.(\w+)", README)
    assert fields
    for section, field in fields:
        assert field in tiny.get_config()[section], f"{section}.{field}"


def test_no_two_commands_write_to_one_folder():
    """So that all pages can be followed in one folder: a second command would be refused."""
    places = {}
    for page in PAGES:
        for line in list_lines(read(page)):
            if "--resume" in line:
                continue
            found = re.findall(r"--out[ =](?!\w+://)([\w./]+)", line)
            if "eval" in line and not found:  # its default place is in the workdir
                found = re.findall(r"eval(?:\.py)? (--workdir .*)", line)
            for place in found:
                places.setdefault(place.strip().rstrip("/"), []).append(f"{page}: {line}")
    assert len(places) > 15
    assert [lines for lines in places.values() if len(lines) > 1] == []


def test_a_workdir_has_one_command_that_trains_it():
    commands = {}
    for page in PAGES:
        for line in list_lines(read(page)):
            workdir = re.search(r"(?:train|train\.py) .*--workdir (runs/\w+)", line)
            if workdir:
                line = re.sub(r" --process \d( &)?| && .*", "", line).strip("` .")
                commands.setdefault(workdir[1], set()).add(line)
    assert len(commands) > 10
    assert [lines for lines in commands.values() if len(lines) > 1] == []


def test_a_clone_is_not_called_as_the_package():
    """Python takes a folder `jaxlung` beside a script for a package."""
    texts = [read(page) for page in PAGES]
    folders = [name for text in texts for name in re.findall(r"git clone URL (\S+)", text)]
    assert folders and "jaxlung" not in folders
