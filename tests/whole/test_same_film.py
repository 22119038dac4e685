"""One radiograph however it is stored: the same mask, and labels by the patient's side."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxlung import load, phantom
from jaxlung.io.images import read_image
from jaxlung.io.masks import read_labels

pytest.importorskip("pydicom", reason='needs pip install "jaxlung[dicom]"')
pytest.importorskip("gdcm", reason='needs pip install "jaxlung[dicom]"')
from tests.helpers.dicom_files import dicom, saved  # noqa: E402
from tests.helpers.predict_command import predict  # noqa: E402


def store(folder, film):
    """A film of 8 bits in ten ways, in folder; returns the names of those that are mirrored."""
    folder.mkdir()
    flipped = np.ascontiguousarray(film[:, ::-1])
    deep = film.astype(np.uint16) * 16 + 100  # 12 bits, of which a part is used
    Image.fromarray(film).save(folder / "png8.png")
    Image.fromarray(np.repeat(film[..., None], 3, -1)).save(folder / "rgb.png")
    Image.fromarray(deep).save(folder / "png16.png")
    Image.fromarray(20_000 + deep // 4).save(folder / "low_contrast.png")
    Image.fromarray(255 - film).save(folder / "negative.png")
    Image.fromarray(flipped).save(folder / "flipped.png")
    for bits, pixels, most in ((8, film, 255), (12, deep, 4095)):
        saved(folder / f"mono2_{bits}.dcm", dicom(pixels, bits))
        turned = dicom(
            (most - pixels).astype(pixels.dtype), bits, PhotometricInterpretation="MONOCHROME1"
        )
        saved(folder / f"mono1_{bits}.dcm", turned)
    saved(folder / "mirrored.dcm", dicom(flipped, PatientOrientation=["R", "F"]))
    return {"flipped", "mirrored"}


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def check(film, tmp_path, *model):
    flipped = store(tmp_path / "films", film)
    out = tmp_path / "out"
    predict(tmp_path / "films", *model, "--out", out, "--sides", "--no-overlay")
    expected = read_labels(out / "png8.png", sides=True)
    assert set(np.unique(expected)) == {0, 1, 2}
    assert np.argwhere(expected == 1)[:, 1].mean() < np.argwhere(expected == 2)[:, 1].mean()
    names = {path.stem for path in (tmp_path / "films").iterdir()}
    assert names == {path.stem for path in out.glob("*.png")} and len(names) == 11
    for name in names:
        labels = read_labels(out / f"{name}.png", sides=True)
        if name in flipped:
            labels = labels[:, ::-1]
        # A picture file cannot say that it is mirrored: its labels go by where the lungs are.
        sides = (2, 1) if name == "flipped" else (1, 2)
        for side, other in zip((1, 2), sides, strict=True):
            assert dice(labels == other, expected == side) >= 0.99, name


def test_of_a_simulated_film(workdir, tmp_path):
    images, _ = phantom.radiographs(jax.random.key(0), 1)  # the gate is sure of its negative
    check(np.asarray(images[0]), tmp_path, "--model", workdir)


@pytest.mark.parametrize(
    "name",
    [
        "MCUCXR_0001_0",
        pytest.param("MCUCXR_0126_1", marks=pytest.mark.slow),
        pytest.param("MCUCXR_0311_1", marks=pytest.mark.slow),
    ],
)
def test_of_a_real_film(shared_data, tmp_path, name):
    check(read_image(shared_data / "montgomery" / "images" / f"{name}.png"), tmp_path)


@pytest.mark.slow
def test_flipped_and_deep_films_of_a_whole_set(shared_data):
    model = load("cxr")
    paths = sorted((shared_data / "montgomery" / "images").iterdir())
    films = [read_image(path) for path in paths]
    deep = [film.astype(np.uint16) * 200 + 1000 for film in films]
    flipped = [np.ascontiguousarray(film[:, ::-1]) for film in films]
    masks, of_deep, of_flipped = (
        [found.mask for _, found in model.predict_many(images, progress=False)]
        for images in (films, deep, flipped)
    )
    assert min(map(dice, masks, of_deep)) >= 0.99
    assert min(dice(a, b[:, ::-1]) for a, b in zip(masks, of_flipped, strict=True)) >= 0.99
