"""Which objects of a bucket are films, and how their outputs are named."""

import contextlib
import time
from collections import Counter

import fsspec
import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.predict.buckets import objects
from jaxlung.predict.buckets.objects import find_objects
from jaxlung.predict.buckets.stores import BucketError
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
    assert objects._read_start(Url("memory://keys"), "_SUCCESS", {"size": 0}, ()) == b""


@pytest.fixture
def closed(bucket, monkeypatch):
    """Names of objects that are denied, which a test adds; and every request for a beginning."""
    denied, asked = set(), []
    cat_file = fsspec.get_filesystem_class("memory").cat_file

    def refuse(store, path, **options):
        asked.append(path)
        if path.rpartition("/")[2] in denied:
            raise PermissionError(path)
        return cat_file(store, path, **options)

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", refuse)
    yield denied, asked
    with contextlib.suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm("/closed", recursive=True)


def test_an_object_that_alone_is_denied_is_taken_for_a_film_whose_row_tells(closed):
    denied, _ = closed
    for name in ("a", "b", "c.dcm", "d.png"):
        fsspec.filesystem("memory").pipe_file(f"/closed/{name}", b"no film")
    denied |= {"a"}
    aside = Counter()
    found = find_objects([Url("memory://closed")], volumes=False, passed_over=aside)
    assert [str(source.name) for source in found] == ["a", "c", "d"]  # .dcm and .png by suffix
    assert aside == {"no suffix": 1}
    assert all("memory://closed/d.png" in source.others for source in found)


def test_a_bucket_that_denies_all_is_left_after_few_requests(closed, monkeypatch):
    denied, asked = closed
    for i in range(200):
        fsspec.filesystem("memory").pipe_file(f"/closed/{i:03d}.dcm", b"x")
        denied.add(f"{i:03d}.dcm")
    monkeypatch.setattr(objects, "_CHUNK", 20)
    read = objects._read_start

    def the_first_is_slow(root, name, *rest):
        if name == "000.dcm":
            time.sleep(0.3)  # in which all others might be asked for
        return read(root, name, *rest)

    monkeypatch.setattr(objects, "_read_start", the_first_is_slow)
    with pytest.raises(BucketError, match="^memory://closed/000.dcm: access is denied"):
        find_objects([Url("memory://closed")], volumes=False)
    assert 1 <= len(set(asked)) <= 20 + 4


def test_one_of_a_list_of_objects_may_be_denied_and_not_all(bucket, closed, monkeypatch):
    denied, _ = closed
    info = fsspec.get_filesystem_class("memory").info

    def refuse(store, path, **options):
        if path.rpartition("/")[2] in denied:
            raise PermissionError(path)
        return info(store, path, **options)

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "info", refuse)
    denied |= {"1.png"}
    given = (f"{bucket}/1.png", f"{bucket}/a/2.jpg")
    assert names(*given) == [("1", "1.png"), ("2", "a/2.jpg")]
    denied |= {"2.jpg"}
    with pytest.raises(InputError, match=f"^{bucket}/1.png: access is denied"):
        names(*given)


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
