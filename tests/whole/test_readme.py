"""The README's Python runs as it stands, and its command lines name flags and files that exist."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import tiny
from jaxlung.io.images import write_png
from jaxlung.phantom import radiographs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with what the examples read: an image."""
    monkeypatch.chdir(tmp_path)
    images, _ = radiographs(jax.random.key(9), 1)
    write_png(tmp_path / "image1.png", images[0])
    return tmp_path


def test_python_examples_run(clone, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    assert len(BLOCKS) == 2
    for block in BLOCKS:
        names: dict = {}
        exec(compile(block, "README.md", "exec"), names)
    assert (clone / "lungs.png").stat().st_size > 0
    assert names["logits"].shape == (1, 256, 256, 1)
    assert np.isfinite(names["loss_per_image"]).all()
    assert 0 <= names["dice"][0] <= 1 and 0 <= names["nsd"] <= 1 and names["hd95"] >= 0


def test_files_that_the_readme_names_exist():
    for name in re.findall(r"\]\(([\w./]+\.(?:md|png))\)", README) + ["configs/unet_large.py"]:
        assert (ROOT / name).exists(), name


def test_config_fields_that_the_readme_names_exist():
    fields = re.findall(r"--config\.(\w+)\.(\w+)", README)
    assert fields
    for section, field in fields:
        assert field in tiny.get_config()[section], f"{section}.{field}"
