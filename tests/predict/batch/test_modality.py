"""Scans and images are told apart by what the files are, wherever they lie."""

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io.images import write_png
from jaxlung.predict.batch import modality
from jaxlung.predict.batch.modality import find_images_and_volumes
from tests.helpers.ct_scans import affine_of, body, save
from tests.helpers.dicom_files import dicom, saved

pytest.importorskip("pydicom")
SLICE = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}


def film(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.arange(64, dtype=np.uint8).reshape(8, 8))


@pytest.fixture
def study(tmp_path):
    """X-rays as pictures and as DICOM, a series, a NIfTI scan, and what belongs to neither."""
    folder = tmp_path / "study"
    film(folder / "film.png")
    saved(folder / "film.dcm", dicom(np.zeros((8, 8), np.uint16), 12, Modality="DX"))
    (folder / "series").mkdir()
    for z in range(2):
        saved(folder / "series" / f"{z}.dcm", dicom(np.zeros((8, 8), np.uint16), 12, **SLICE))
    save(folder / "scans" / "scan.nii.gz", body()[0], affine_of())
    (folder / "notes.docx").write_text("x")
    return folder


def kinds(sources):
    return {str(source.name): source.is_volume for source in sources}


def test_a_folder_of_everything(study):
    passed_over = Counter[str]()
    found = find_images_and_volumes([study], passed_over=passed_over)
    names = {Path(s.path).name: s.is_volume for s in found}
    assert names == {"film.png": False, "film.dcm": False, "series": True, "scan.nii.gz": True}
    assert passed_over == {".docx": 1}


@pytest.mark.parametrize(
    ("name", "is_volume"),
    [("film.png", False), ("film.dcm", False), ("series", True), ("scans/scan.nii.gz", True)],
)
def test_a_path_of_each(study, name, is_volume):
    [source] = find_images_and_volumes([study / name])
    assert source.is_volume == is_volume and source.path == study / name
    assert len(find_images_and_volumes([study / name, study])) == 4  # each once


def test_globs(study):
    assert kinds(find_images_and_volumes([study / "*.png"])) == {"film": False}
    assert kinds(find_images_and_volumes([study / "sc*"])) == {"scans/scan": True}
    assert list(kinds(find_images_and_volumes([study / "se*"])).values()) == [True]


def test_an_archive_holds_images_or_scans(study, tmp_path):
    for name, members in (("films.zip", ["film.png"]), ("scans.zip", ["scans/scan.nii.gz"])):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.write(study / member, member)
    assert kinds(find_images_and_volumes([tmp_path / "films.zip"])) == {"film": False}
    assert kinds(find_images_and_volumes([tmp_path / "scans.zip"])) == {"scans/scan": True}


def test_nothing_is_named_and_a_missing_file_is_an_image(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        find_images_and_volumes([tmp_path / "empty"])
    [source] = find_images_and_volumes([tmp_path / "gone.png"])
    assert not source.is_volume


def test_x_rays_beside_the_slices_of_a_series_are_images(study):
    """A flat export: the series is one scan, all else is found and predicted for itself."""
    for name in ("film.png", "film.dcm"):
        (study / name).rename(study / "series" / name)
    found = find_images_and_volumes([study])
    names = {Path(s.path).name: s.is_volume for s in found}
    assert names == {"film.png": False, "film.dcm": False, "series": True, "scan.nii.gz": True}


def test_an_archive_of_everything(study, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in sorted(study.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(study))
    passed_over = Counter[str]()
    found = find_images_and_volumes([tmp_path / "all.zip"], passed_over=passed_over)
    assert {source.member: source.is_volume for source in found} == {
        **{"film.png": False, "film.dcm": False, "series/": True, "scans/scan.nii.gz": True}
    }
    assert passed_over == {".docx": 1}


def test_a_folder_of_pictures_is_walked_once_and_none_is_opened(study, monkeypatch):
    """Folders of pictures may be large, and far away."""
    for name in ("film.dcm", "series", "scans"):
        path = study / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    walks = []
    find = modality.find_sources
    monkeypatch.setattr(modality, "find_sources", lambda *a, **k: walks.append(k) or find(*a, **k))
    monkeypatch.setattr(modality, "read_start", None)  # would fail
    passed_over = Counter[str]()
    assert kinds(find_images_and_volumes([study], passed_over=passed_over)) == {"film": False}
    assert len(walks) == 1 and passed_over == {".docx": 1}


def test_another_compressed_file_is_no_scan(study):
    shutil.rmtree(study / "series")
    shutil.rmtree(study / "scans")
    (study / "notes.tar.gz").write_bytes(b"x")
    passed_over = Counter[str]()
    found = find_images_and_volumes([study], passed_over=passed_over)
    assert {Path(s.path).name for s in found} == {"film.png", "film.dcm"}
    assert passed_over == {".docx": 1, ".gz": 1}
