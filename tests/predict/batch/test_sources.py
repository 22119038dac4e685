"""From what a user names to images one by one."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxlung.errors import InputError
from jaxlung.io.ct.raw_volumes import open_raw_volume
from jaxlung.io.images import read_image
from jaxlung.io.passed_over import count_in_words
from jaxlung.predict.batch.archives import read_member_start
from jaxlung.predict.batch.outputs import Options, plan_jobs
from jaxlung.predict.batch.sources import find_sources, on_disk, read_list

pytest.importorskip("pydicom")
pytest.importorskip("gdcm")
from tests.helpers.dicom_files import dicom, saved  # noqa: E402

CT = "1.2.840.10008.5.1.4.1.1.2"
FILM = np.arange(480, dtype=np.uint16).reshape(24, 20) * 8


@pytest.fixture
def films(tmp_path) -> Path:
    """Five images in a folder and below, and what is none."""
    folder = tmp_path / "films"
    for name in ("b.png", "a.jpg", "sub/b.png", "sub/deep/c.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6), len(name)).save(folder / name)
    for name in ("IM0001", "1.2.840.7"):
        saved(folder / "sub" / name, dicom(np.zeros((6, 8), np.uint16)))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "b.png").write_bytes(b"")
    return folder


EXPECTED = ["a", "b", "sub/1.2.840.7", "sub/IM0001", "sub/b", "sub/deep/c"]


def names(sources):
    return [source.name.as_posix() for source in sources]


def pack(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder))
    return archive


def test_folder_is_walked_and_what_is_no_image_is_passed_over(films):
    assert names(find_sources([films], volumes=False)) == EXPECTED


def test_archive_holds_the_same_as_the_folder(films, tmp_path):
    archive = pack(films, tmp_path / "films.zip")
    packed = find_sources([archive], volumes=False)
    assert sorted(names(packed)) == EXPECTED
    plain = {str(s.name): s for s in find_sources([films], volumes=False)}
    for source in packed:
        with on_disk(source) as path, on_disk(plain[str(source.name)]) as other:
            np.testing.assert_array_equal(read_image(path), read_image(other))
        assert not path.exists()


def test_globs_files_and_lists(films):
    assert names(find_sources([films / "*.png"], volumes=False)) == ["b"]
    assert names(find_sources([films / "**" / "*.tif"], volumes=False)) == ["sub/deep/c"]
    assert names(find_sources([films / "s*"], volumes=False)) == EXPECTED[2:]
    everything = find_sources([films / "**"], volumes=False)
    assert len(everything) == len({source.path for source in everything})
    assert len(find_sources([films / "**" / "*.*"], volumes=False, but_not=films / "sub")) < len(
        everything
    )
    assert names(find_sources([films / "sub" / "b.png"], volumes=False)) == ["b"]
    assert read_list(b"a b.png\n\nc.png", "-") == ["a b.png", "c.png"]


def test_a_name_with_the_signs_of_a_glob_is_a_file_where_there_is_one(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "film[1].png")
    assert names(find_sources([tmp_path / "film[1].png"], volumes=False)) == ["film[1]"]


def test_outputs_within_the_inputs_are_passed_over(films):
    out = films / "sub"
    assert names(find_sources([films], volumes=False, but_not=out)) == ["a", "b"]


def test_the_folder_of_the_outputs_is_no_input(films):
    with pytest.raises(InputError, match="--out"):
        find_sources([films], volumes=False, but_not=films)


def test_links_are_followed_and_lead_nowhere_twice(films, tmp_path):
    (tmp_path / "linked").symlink_to(films)
    (films / "sub" / "round").symlink_to(films)
    assert names(find_sources([tmp_path / "linked"], volumes=False)) == EXPECTED


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning):
        for _ in range(2):
            archive.writestr("1.png", b"")
    with pytest.raises(InputError, match="two members"):
        find_sources([tmp_path / "a.zip"], volumes=False)


def test_a_missing_file_is_left_for_its_turn(tmp_path):
    assert names(find_sources([tmp_path / "gone.png"], volumes=False)) == ["gone"]


@pytest.mark.parametrize("name", ["*.png", "empty", "bad.zip", "empty.zip"])
def test_paths_that_lead_to_nothing_are_refused_by_name(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"PK nothing")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", "no image")
    with pytest.raises(InputError, match=name.replace("*", r"\*")):
        find_sources([tmp_path / name], volumes=False)


def test_members_that_lead_out_of_the_archive_are_refused(tmp_path):
    leading_out = (
        "..\\a.png",
        "x\\..\\..\\a.png",
        "\\a.png",
        "C:\\a.png",
        "c:/a.png",
        "\\\\b\\c\\a.png",
    )
    for member in ("../a.png", "/a.png", "x/../../a.png", *leading_out):
        path = tmp_path / "evil.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"")
        with pytest.raises(InputError, match="leads out"):
            find_sources([path], volumes=False)


def test_damaged_members_are_errors_that_name_them(films, tmp_path):
    archive = pack(films, tmp_path / "films.zip")
    data = bytearray(archive.read_bytes())
    source = find_sources([archive], volumes=False)[0]
    start = data.index(source.member.encode()) + len(source.member)
    data[start : start + 40] = bytes(40)
    archive.write_bytes(data)
    with pytest.raises(InputError, match=source.member), on_disk(source):
        pass


def test_errors_inside_name_the_member_and_not_where_it_was_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/broken.png", b"nothing")
    (source,) = find_sources([tmp_path / "a.zip"], volumes=False)
    with pytest.raises(InputError) as caught, on_disk(source) as path:
        read_image(path)
    assert str(caught.value).startswith(f"{tmp_path}/a.zip/x/broken.png: ")


def test_stamp_changes_with_the_file(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)
    (source,) = find_sources([path], volumes=False)
    before = source.stamp
    Image.new("L", (8, 9)).save(path)
    assert source.stamp != before
    path.unlink()
    with pytest.raises(InputError, match="a.png"):
        _ = source.stamp


def test_volumes_are_files_and_folders_of_a_series(tmp_path):
    folder = tmp_path / "scans"
    for name in ("patient1/series1/1", "patient1/series1/2", "patient2/1"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        saved(folder / name, dicom(np.zeros((6, 8), np.uint16), Modality="CT", SOPClassUID=CT))
    (folder / "x.nii.gz").write_bytes(b"")
    (folder / "film.png").write_bytes(b"")
    expected = ["patient1/series1", "patient2", "x"]
    assert sorted(names(find_sources([folder], volumes=True))) == expected
    assert names(find_sources([folder / "patient2"], volumes=True)) == ["patient2"]
    archive = pack(folder, tmp_path / "scans.zip")
    packed = {str(s.name): s for s in find_sources([archive], volumes=True)}
    assert sorted(packed) == expected
    with on_disk(packed["patient1/series1"]) as path:
        assert sorted(file.name for file in path.iterdir()) == ["1", "2"]


def test_scans_of_one_name_in_several_formats_are_told_apart(tmp_path):
    for name in ("a.nii.gz", "a.mha", "b.nrrd", "d/a.nrrd"):
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "scans" / name).write_bytes(b"")
    archive = pack(tmp_path / "scans", tmp_path / "scans.zip")
    for place in (tmp_path / "scans", archive):
        sources = find_sources([place], volumes=True)
        jobs = plan_jobs(sources, Options(out=tmp_path / "out"))
        assert sorted(job.name for job in jobs) == ["a", "a.mha", "b", "d/a"]


def test_voxels_beside_their_header_are_not_passed_over(tmp_path):
    for name in ("1.2.3.mhd", "1.2.3.raw", "b.nhdr", "b.raw.gz", "lonely.raw"):
        (tmp_path / name).write_bytes(b"x")
    passed_over = Counter()
    found = find_sources([tmp_path], volumes=True, passed_over=passed_over)
    assert names(found) == ["1.2.3", "b"] and passed_over == {".raw": 1}


def test_voxels_in_an_archive_come_with_their_header(tmp_path):
    meta = b"NDims = 3\r\nDimSize = 2 3 4\r\nElementSpacing = 1 1 1\r\nElementType = MET_UCHAR\r\n"
    nrrd = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nspace: ras\n"
    nrrd += b"space directions: (1,0,0) (0,1,0) (0,0,1)\n"
    voxels = np.arange(24, dtype=np.uint8)
    files = {
        "a/1.2.mhd": meta + b"ElementDataFile = voxels of 1.raw\r\n",
        "a/voxels of 1.raw": voxels.tobytes(),
        "a/b.nhdr": nrrd + b"data file: b.raw\n",
        "a/b.raw": voxels.tobytes(),
        "a/c.mha": meta + b"ElementDataFile = LOCAL\r\n" + voxels.tobytes(),
        "lonely.raw": b"x",
    }
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    passed_over = Counter()
    found = find_sources([tmp_path / "scans.zip"], volumes=True, passed_over=passed_over)
    assert names(found) == ["a/1.2", "a/b", "a/c"] and passed_over == {".raw": 1}
    for source in found:
        with on_disk(source) as path:
            read = open_raw_volume(path).read_voxels()
            np.testing.assert_array_equal(read.reshape(-1, order="F"), voxels)
    first = found[0].stamp
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data[::-1] if name.endswith("1.raw") else data)
    (other, *_) = find_sources([tmp_path / "other.zip"], volumes=True)
    assert other.stamp != first


@pytest.fixture
def mixed(tmp_path) -> Path:
    """A film of each kind that is read, and other files."""
    folder = tmp_path / "mixed"
    (folder / "below").mkdir(parents=True)
    for name in ("a.png", "b.webp", "c.jp2", "below/d.jfif"):
        Image.new("L", (8, 6), 9).save(folder / name, "JPEG" if name.endswith("jfif") else None)
    for name in ("e.heic", "f.HEIC", "JPCLN001.IMG", "below/README", "Thumbs.db", "below/.hidden"):
        (folder / name).write_bytes(bytes(500))
    saved(folder / "whole.dcm", dicom(FILM, 12))
    bare = dicom(FILM, 12)
    del bare.file_meta
    bare.save_as(folder / "below" / "IM1", implicit_vr=True, little_endian=True)
    saved(folder / "dicomdir", dicom(FILM, 12))
    others = {"report.dcm": "88.11", "below/PR1": "11.1", "seg.dcm": "66.4", "dose": "481.2"}
    for name, uid in others.items():
        report = dicom(FILM, 12, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{uid}")
        saved(folder / name, report)
    return folder


MIXED = ["a", "b", "below/IM1", "below/d", "c", "whole"]


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_passed_over_is_counted(mixed, tmp_path, packed):
    place = pack(mixed, tmp_path / "mixed.zip") if packed else mixed
    passed_over = Counter()
    found = find_sources([place], volumes=False, passed_over=passed_over)
    assert sorted(names(found)) == MIXED
    assert passed_over == {
        ".heic": 2,
        ".img": 1,
        "no suffix": 1,
        "DICOMDIR": 1,
        "DICOM without image": 4,
    }
    assert count_in_words(passed_over) == (
        "9 files passed over (.heic 2, .img 1, DICOM without image 4, DICOMDIR 1, no suffix 1)"
    )
    for source in found:
        with on_disk(source) as path:
            assert read_image(path).ndim >= 2


def test_a_folder_of_other_files_alone_says_what_they_are(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"holds no image; 1 file passed over \(\.heic 1\)$"):
        find_sources([tmp_path], volumes=False)


def test_the_outputs_are_not_counted(mixed):
    (mixed / "out").mkdir()
    (mixed / "out" / "summary.csv").write_text("x")
    passed_over = Counter()
    find_sources([mixed], volumes=False, but_not=mixed / "out", passed_over=passed_over)
    assert ".csv" not in passed_over


def test_files_beside_the_slices_of_a_series_are_counted(tmp_path):
    for name in ("study/a/IM1", "study/a/IM2", "study/b/IM1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        saved(tmp_path / name, dicom(FILM, 12, Modality="CT", SOPClassUID=CT))
    for name, more in (
        ("scout", {"SOPClassUID": CT, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("a", {"ImageType": ["DERIVED", "SECONDARY"]}),  # a dose report, drawn: Secondary Capture
    ):
        (tmp_path / "study" / name).mkdir(exist_ok=True)
        saved(tmp_path / "study" / name / "IM9", dicom(FILM, 12, Modality="CT", **more))
    report = dicom(FILM, 12, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67", Modality="SR")
    (tmp_path / "study" / "dose").mkdir()
    for name in ("study/a/IM3", "study/dose/IM1"):
        saved(tmp_path / name, report)
    saved(tmp_path / "study" / "dicomdir", dicom(FILM, 12))
    (tmp_path / "study" / "a" / "notes.txt").write_text("x")
    for place in (tmp_path / "study", pack(tmp_path / "study", tmp_path / "study.zip")):
        passed_over = Counter()
        found = find_sources([place], volumes=True, passed_over=passed_over)
        assert names(found) == ["a", "b"]
        assert passed_over == {
            "DICOM without image": 2,
            "DICOMDIR": 1,
            ".txt": 1,
            "localizer": 1,
            "screenshot": 1,
        }
    with pytest.raises(InputError, match=r"holds no CT volume; 1 file passed over \(localizer 1\)"):
        find_sources([tmp_path / "study" / "scout"], volumes=True)


def test_an_archive_of_windows_is_read(tmp_path):
    Image.new("L", (8, 6), 9).save(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member in ("films\\", "films\\1.png", "films\\below\\2.png"):
            data = b"" if member.endswith("\\") else (tmp_path / "a.png").read_bytes()
            archive.writestr(zipfile.ZipInfo(member), data)
    found = find_sources([tmp_path / "a.zip"], volumes=False)
    assert names(found) == ["films/1", "films/below/2"]
    for source in found:
        with on_disk(source) as path:
            assert path.name in ("1.png", "2.png") and read_image(path).shape == (6, 8)


@pytest.mark.parametrize(
    "data",
    [
        b"a b.png\r\nM\xc3\xbc.png\r\n",
        b"\xef\xbb\xbfa b.png\r\nM\xc3\xbc.png\r\n",
        b"a b.png\0M\xc3\xbc.png\0",
        "a b.png\r\nM\u00fc.png\r\n".encode("utf-16"),
        "a b.png\nM\u00fc.png".encode("utf-32"),
    ],
)
def test_lists_of_any_system(data):
    assert read_list(data, "-") == ["a b.png", "M\u00fc.png"]


def test_lists_of_other_encodings_are_refused():
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        with pytest.raises(InputError, match="^stdin: is neither UTF-8 nor UTF-16"):
            read_list("a.png\nb.png\n".encode(encoding), "stdin")


def test_names_in_other_bytes_are_read_where_they_exist(tmp_path, monkeypatch):
    """On Linux any bytes are a name; elsewhere, and in a list in Latin-1, they name no file."""
    monkeypatch.chdir(tmp_path)
    data = "a.png\nM\u00fcller.png\nB\u00f6hm.png\n".encode("latin-1")
    with pytest.raises(
        InputError, match="^stdin: is not UTF-8, and none of its 2 names in .* UTF-8$"
    ):
        read_list(data, "stdin")
    try:
        Path("M\udcfcller.png").touch()
    except OSError:
        pytest.skip("this file system has names of UTF-8 alone")
    names = ["a.png", "M\udcfcller.png", "B\udcf6hm.png"]
    assert read_list(data, "stdin") == list(names)


def test_short_names_between_nuls_are_no_utf_16():
    names = [f"./{i}" for i in range(5)]
    assert read_list("\0".join([*names, ""]).encode(), "-") == list(names)


def test_two_members_whose_names_become_one_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member in ("M\u00fc.png", "Mu\u0308.png"):
            archive.writestr(member, b"")
    sources = find_sources([tmp_path / "a.zip"], volumes=False)
    with pytest.raises(InputError, match="Mu?.*png and .*M.*png would both write"):
        plan_jobs(sources, Options(out=tmp_path / "out"))


def test_counts_are_of_the_path_that_is_named(tmp_path):
    """An empty folder is not blamed with another's files, and no file is counted twice."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    Image.new("L", (8, 6), 9).save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=f"^{tmp_path / 'b'}: holds no image$"):
        find_sources([tmp_path / "a", tmp_path / "b"], volumes=False)
    archive, passed_over = pack(tmp_path / "a", tmp_path / "a.zip"), Counter()
    places = [tmp_path / "a", tmp_path / "b" / ".." / "a", archive, archive]
    find_sources(places, volumes=False, passed_over=passed_over)
    assert passed_over == {".heic": 2}


def test_members_are_opened_where_their_suffix_does_not_decide(mixed, tmp_path, monkeypatch):
    opened = []

    def read_start(archive, member):
        opened.append(member)
        return read_member_start(archive, member)

    monkeypatch.setattr("jaxlung.predict.batch.sources.read_member_start", read_start)
    found = find_sources([pack(mixed, tmp_path / "mixed.zip")], volumes=False)
    assert sorted(names(found)) == MIXED
    assert "whole.dcm" in opened and "below/IM1" in opened
    assert not [name for name in opened if name.endswith((".png", ".webp", ".jp2", ".jfif"))]
