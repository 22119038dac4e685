"""A page of a small model, and films that go through it."""

import cv2
import jax
import numpy as np
import pytest

import jaxlung
from jaxlung import phantom
from jaxlung.export.exported import prepare_export
from jaxlung.export.html.write import write_html

# One of each way through the page; the slow test takes all kinds.
SAMPLE = {
    *("grey_233x200.png", "twelve_bits.png", "jpeg_rgb.jpg", "exif_6.jpg"),
    *("inverted.png", "turned_90.png", "voi_lut.dcm", "monochrome1_ls.dcm", "commas.dcm"),
}


@pytest.fixture(scope="module")
def exported(workdir):
    """The small model, as the page has it: kernels are float16."""
    return prepare_export(jaxlung.load(workdir, tta=False), licence="CC-BY-NC-4.0", float16=True)


@pytest.fixture(scope="module")
def page(exported, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "lungs.html"
    write_html(exported, path)
    return path


@pytest.fixture(scope="module")
def phantoms():
    films, _ = phantom.radiographs(jax.random.key(3), 3, size=256)
    return np.stack([cv2.resize(film, (512, 512)) for film in np.asarray(films)])


@pytest.fixture(scope="module")
def sample(phantoms, tmp_path_factory):
    pytest.importorskip("pydicom")
    pytest.importorskip("gdcm")
    from tests.helpers.films import write_films

    return write_films(tmp_path_factory.mktemp("sample"), phantoms, SAMPLE)
