"""The wheel alone, far from the clone, trains, evaluates, predicts and fine-tunes."""

import functools
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxlung.io.images import write_png
from jaxlung.io.masks import read_mask
from jaxlung.phantom import radiographs

ROOT = Path(__file__).parents[2]
FEW = [
    f"--config.data.{field}"
    for field in ("size=64", "phantom_train=4", "phantom_validation=2", "phantom_test=2")
]
SHORT = ["--config.train.batch_size=2", "--config.train.num_epochs=1"]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs the `jaxlung` of a fresh environment that holds the wheel, in a folder of its own.

    The dependencies are those of this environment: a wheel names them, and pip installs them.
    """
    root = tmp_path_factory.mktemp("wheel")
    work = root / "work"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*command):
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", root, ROOT)
    [wheel] = root.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"jaxlung"}
    for recipe in (ROOT / "configs").glob("*.py"):
        assert f"jaxlung/configs/{recipe.name}" in names
    venv.create(root / "venv", with_pip=True)
    bin = root / "venv" / "bin"
    call(bin / "pip", "install", "--no-deps", wheel)
    packages = call(bin / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return functools.partial(call, bin / "jaxlung"), work


@pytest.mark.slow
def test_the_wheel_trains_evaluates_predicts_and_fine_tunes(command):
    run, folder = command
    assert "next: jaxlung eval --workdir runs/unet" in run(
        "train", "--config", "unet", *FEW, *SHORT
    )
    assert "Dice" in run("eval", "--workdir", "runs/unet")
    film = np.asarray(radiographs(jax.random.key(9), 1)[0][0])
    write_png(folder / "film.png", film)
    run("predict", "film.png", "--model", "runs/unet", "--out", "masks")
    assert read_mask(folder / "masks" / "film.png").shape == film.shape
    (folder / "own.py").write_text(
        "from jaxlung.config import load_recipe\n"
        "def get_config():\n"
        "    config = load_recipe('cxr')\n"
        "    config.train.init_from = 'cxr'\n"
        "    return config\n"
    )
    run("train", "--config", "own.py", *FEW, *SHORT, "--config.optim.learning_rate=2e-4")
    run("predict", "film.png", "--model", "runs/own", "--out", "tuned")
    assert read_mask(folder / "tuned" / "film.png").shape == film.shape
