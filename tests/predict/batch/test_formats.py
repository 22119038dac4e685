"""Formats of volumes hold films too, as they lie, with the same masks as PNG."""

import numpy as np
import pytest

pytest.importorskip("pydicom", reason='needs pip install "jaxlung[dicom]"')
nibabel = pytest.importorskip("nibabel", reason='needs pip install "jaxlung[ct]"')
nrrd = pytest.importorskip("nrrd", reason='needs pip install "jaxlung[seg-nrrd]"')

from jaxlung.data.datasets import load_splits  # noqa: E402
from jaxlung.io.images import read_image, write_png  # noqa: E402
from jaxlung.io.volumes import Grid, read_volume  # noqa: E402
from jaxlung.predict.batch.formats import VOLUME_FORMATS, MaskFile  # noqa: E402
from jaxlung.predict.batch.outputs import ENDS  # noqa: E402
from tests.helpers.dicom_files import dicom, saved  # noqa: E402
from tests.helpers.predict_command import predict  # noqa: E402


@pytest.fixture(scope="module")
def films(model, tmp_path_factory):
    """A phantom as PNG, and one as DICOM with a spacing."""
    folder = tmp_path_factory.mktemp("films")
    split = load_splits(model.config.data)["train"]
    write_png(folder / "plain.png", split.read(0).image[:, :50])
    saved(folder / "spaced.dcm", dicom(split.read(1).image, PixelSpacing=[0.2, 0.1]))
    return folder


@pytest.fixture(scope="module")
def masks(films, workdir, tmp_path_factory):
    out = tmp_path_factory.mktemp("png")
    predict(films, "--model", workdir, "--out", out, "--sides")
    return {name: read_image(out / f"{name}.png") for name in ("plain", "spaced")}


def test_nifti_holds_a_film_as_it_lies(films, masks, workdir, tmp_path):
    predict(films, "--model", workdir, "--out", tmp_path, "--sides", "--format", "nii")
    for name, sides in (("plain", (1, 1)), ("spaced", (0.1, 0.2))):
        image = nibabel.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 0].T, masks[name])
        np.testing.assert_allclose(image.affine, np.diag([-sides[0], -sides[1], 1, 1]))
        assert masks[name].any()
    done = (tmp_path / "plain.nii.gz").stat().st_mtime_ns
    predict(films, "--model", workdir, "--out", tmp_path, "--sides", "--format", "nii", "--resume")
    assert (tmp_path / "plain.nii.gz").stat().st_mtime_ns == done


def test_a_segmentation_of_slicer_holds_a_film_as_it_lies(films, masks, workdir, tmp_path):
    predict(films, "--model", workdir, "--out", tmp_path, "--sides", "--format", "seg-nrrd")
    voxels, header = nrrd.read(str(tmp_path / "spaced.seg.nrrd"))
    np.testing.assert_array_equal(voxels[..., 0].T, masks["spaced"])
    np.testing.assert_allclose(header["space directions"], np.diag([0.1, 0.2, 1]))
    assert (tmp_path / "spaced_overlay.png").exists()
    assert header["Segment1_Name"] == "Left lung"


@pytest.mark.parametrize("format", ["nii", "seg-nrrd"])
def test_a_scan_s_mask_is_on_its_grid(format, tmp_path):
    chosen = VOLUME_FORMATS[format]
    path = tmp_path / f"scan{chosen.suffix}"
    labels = np.random.default_rng(0).integers(0, 3, (3, 4, 5)).astype(np.uint8)
    grid = Grid((5, 4, 3), np.diag([-0.7, -0.8, 2.0, 1]), None)
    chosen.write(MaskFile(path, labels, False, None, "ct", grid))
    read = read_volume(path)
    np.testing.assert_array_equal(read.voxels_ZxHxW, labels > 0)
    np.testing.assert_allclose(read.grid.affine_4x4, grid.affine_4x4, atol=1e-6)
    assert chosen.suffix in ENDS  # so that shares are joined with it


def test_a_missing_extra_is_told_before_anything_is_read(films, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    predict(films, "--out", tmp_path / "out", "--format", "nii", code=2)
    assert 'need nibabel: pip install "jaxlung[ct]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
