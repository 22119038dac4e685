"""Which objects of a bucket are films, and how their outputs are named."""

from collections import Counter

import fsspec
import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.predict.buckets import objects
from jaxlung.predict.buckets.objects import find_objects
from jaxlung.system.urls import Url
from tests.helpers.bucket_runs import film


@pytest.fixture(scope="module")
def bucket():
    store = fsspec.filesystem("memory")
    for name in ("1.png", "a/2.jpg", "a/b/3.png", ".hidden.png", ".h/4.png", "out/1.png"):
        store.pipe_file(f"/many/{name}", film(1))
    store.pipe_file("/many/scan.nii.gz", b"x")
    store.pipe_file("/many/scan.mhd", b"x")
    store.pipe_file("/many/README", b"no film")
    store.pipe_file("/many/a/films.zip", b"no film")
    yield "memory://many"
    store.rm("/many", recursive=True)


def names(*urls, **options):
    found = find_objects([*map(Url, urls)], volumes=options.pop("volumes", False), **options)
    return [(str(source.name), source.url.removeprefix("memory://many/")) for source in found]


def test_a_folder_gives_every_film_below_it(bucket):
    aside = Counter()
    assert names(bucket, but_not=f"{bucket}/out", passed_over=aside) == [
        ("1", "1.png"),
        ("a/2", "a/2.jpg"),
        ("a/b/3", "a/b/3.png"),
    ]
    assert aside == {".gz": 1, ".mhd": 1, "no suffix": 1, ".zip": 1}


def test_no_key_leads_out_of_the_folder_of_outputs():
    """Whoever may write to a bucket chooses its keys, and outputs are named by them."""
    store, aside = fsspec.filesystem("memory"), Counter()
    keys = ["/keys/../up.png", "/keys//etc/evil.png", "/keys/a/../../b.png", "/keys/fine.png"]
    try:
        store.pipe_file("/keys/fine.png", film(1))
        for key in keys[:3]:
            store.store[key] = store.store["/keys/fine.png"]
        for url in ("memory://keys", "memory://keys/*"):
            found = find_objects([Url(url)], volumes=False, passed_over=aside)
            for source in found:
                assert not source.name.is_absolute() and ".." not in source.name.parts
            assert "fine" in [source.name.name for source in found]
    finally:
        for key in keys:
            store.store.pop(key, None)


@pytest.mark.parametrize(
    "name, below",
    [("a/b.png", True), ("a/..b.png", True), ("/etc/a.png", False), ("a/../../b.png", False)],
)
def test_names_that_stay_below_a_folder(name, below):
    assert objects._stays_below(name) == below


def test_nothing_is_read_of_an_empty_object_which_s3_refuses(monkeypatch):
    monkeypatch.setattr(objects, "open_store", lambda _: pytest.fail("it was read"))
    assert objects._read_start(Url("memory://keys"), "_SUCCESS", {"size": 0}) == b""


def test_scans_in_one_file_are_found_where_the_model_knows_them(bucket):
    assert ("scan", "scan.nii.gz") in names(bucket, volumes=True)
    assert all(name != "scan.mhd" for _, name in names(bucket, volumes=True))


def test_globs_and_single_objects(bucket):
    assert names(f"{bucket}/a/*.jpg") == [("2", "a/2.jpg")]
    assert names(f"{bucket}/a/**/*.png") == [("b/3", "a/b/3.png")]
    assert names(f"{bucket}/*/b") == [("a/b/3", "a/b/3.png")]
    assert names(f"{bucket}/1.png", f"{bucket}/1.png") == [("1", "1.png")]
    [missing] = find_objects([Url(f"{bucket}/9.png")], volumes=False)
    assert missing.stamp == "" and missing.place == f"{bucket}/9.png"


def test_a_stamp_changes_with_the_object(bucket):
    [before] = find_objects([Url(f"{bucket}/1.png")], volumes=False)
    assert before.stamp
    fsspec.filesystem("memory").pipe_file("/many/1.png", film(5))
    [after] = find_objects([Url(f"{bucket}/1.png")], volumes=False)
    assert after.stamp != before.stamp


def test_what_holds_no_film_is_told(bucket):
    for url, words in (
        (f"{bucket}/nothing", "holds no image"),
        (f"{bucket}/*.bmp", "matches no image"),
        (f"{bucket}/a/films.zip", "archives are not read from buckets"),
        ("memory://*/1.png", "names no bucket"),
    ):
        with pytest.raises(InputError, match=words):
            find_objects([Url(url)], volumes=False)


def test_dicom_slices_of_ct_are_passed_over_and_films_are_not(bucket, tmp_path):
    pytest.importorskip("pydicom")
    pytest.importorskip("gdcm")
    from tests.helpers.dicom_files import dicom, saved

    store = fsspec.filesystem("memory")
    for name, modality in (("slice", "CT"), ("film", "DX")):
        file = saved(tmp_path / name, dicom(np.zeros((32, 32), np.uint8), Modality=modality))
        store.pipe_file(f"/many/dicom/{name}", file.read_bytes())
    aside = Counter()
    assert names(f"{bucket}/dicom", passed_over=aside) == [("film", "dicom/film")]
    assert aside == {"DICOM slice of CT": 1}
    store.rm("/many/dicom", recursive=True)
