"""Objects appear whole; what is wrong is one line without credentials, which names the remedy."""

import errno
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from jaxlung.errors import InputError
from jaxlung.predict.buckets.stores import BucketError, explain, open_store, put, read_place
from jaxlung.system.files import is_partial
from jaxlung.system.urls import Url


def test_paths_and_urls_are_told_apart():
    assert read_place("s3://bucket/films/") == "s3://bucket/films"
    assert isinstance(read_place("s3://bucket"), Url)
    assert read_place("file:///films/a%20b.png") == Path("/films/a b.png")
    assert read_place("films/a.png") == Path("films/a.png")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAABCDEFGHIJKLMNOP:hidden@bucket/a",
        "https://host/a.png?sig=hidden",
        "https://hidden@host/a.png",
    ],
)
def test_a_url_with_credentials_is_refused_without_telling_them(url):
    with pytest.raises(InputError, match="holds credentials.*environment") as refused:
        read_place(url)
    assert "hidden" not in str(refused.value) and "AKIA" not in str(refused.value)


def test_chains_and_unknown_protocols_are_refused():
    with pytest.raises(InputError, match="chains protocols"):
        read_place("zip://a.png::s3://bucket/films.zip")
    with pytest.raises(InputError, match="protocol nosuch is not known"):
        open_store(Url("nosuch://bucket/films"))


@pytest.mark.parametrize(
    "protocol, module, package",
    [
        ("s3", "s3fs", "s3fs"),
        ("gs", "gcsfs", "gcsfs"),
        ("az", "adlfs", "adlfs"),
        ("hdfs", "pyarrow.fs", "pyarrow|JAVA_HOME"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, protocol, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    # What an earlier test has loaded is forgotten.
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    with pytest.raises(InputError, match=f"^{protocol}://films/1.png: .*needs .*({package})"):
        open_store(Url(f"{protocol}://films/1.png"))


class QuotaExceeded(Exception):
    pass


class NoCredentialsError(Exception):
    """Of botocore."""


def _caused(error, cause):
    error.__cause__ = cause
    return error


def _coded(code):
    error = Exception("An error")
    error.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return error


@pytest.mark.parametrize(
    "error, words",
    [
        (FileNotFoundError("x"), "no such object"),
        (PermissionError("x"), "access is denied"),
        (NoCredentialsError(), "access is denied"),
        (_caused(OSError("x"), _coded("ExpiredToken")), "access is denied"),
        (_caused(OSError("x"), _coded("QuotaExceeded")), "full or over its quota"),
        (OSError("An error occurred (507) when calling PutObject"), "full or over its quota"),
        (OSError("org.apache.DSQuotaExceededException: x"), "full or over its quota"),
        (OSError(errno.ENOSPC, "x"), "full or over its quota"),
        (
            ValueError("secret_key=hidden s3://b/403.png"),
            r"\(ValueError: secret_key=\*\*\* s3://b/",
        ),
    ],
)
def test_what_a_store_refuses_is_told_in_one_line(error, words):
    with pytest.raises(BucketError, match=f"^s3://b/403.png: .*{words}") as told:
        raise BucketError(explain("s3://b/403.png", error))
    assert "hidden" not in str(told.value)


class _Breaking(LocalFileSystem):
    """A file system, as a protocol of its own, that can lose its connection."""

    protocol = "breaking"
    broken = False

    def put_file(self, lpath, rpath, **_):
        content = Path(lpath).read_bytes()
        Path(rpath).write_bytes(content[: 2 if self.broken else None])
        if self.broken:
            raise OSError("lost")

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("breaking://"))


class _Hadoop(LocalFileSystem):
    """A file system as HDFS: nothing replaces a file. It can be killed before any change."""

    protocol = "hadoop"
    left = -1  # changes until it is killed; -1: never

    def _change(self):
        if self.left == 0:
            raise KeyboardInterrupt
        _Hadoop.left -= 1

    def put_file(self, lpath, rpath, **_):
        self._change()
        Path(rpath).write_bytes(Path(lpath).read_bytes())

    def mv(self, path1, path2, **_):
        self._change()
        if Path(path2).exists():
            raise FileExistsError(path2)
        Path(path1).rename(path2)

    def rm_file(self, path):
        self._change()
        Path(path).unlink()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("hadoop://"))


@pytest.mark.parametrize("changes", range(4))
def test_an_old_file_is_kept_until_the_new_one_has_its_place(tmp_path, monkeypatch, changes):
    fsspec.register_implementation("hadoop", _Hadoop, clobber=True)
    source, target = tmp_path / "mask", tmp_path / "out" / "1.png"
    source.write_bytes(b"old")
    put(source, Url(f"hadoop://{target}"))
    source.write_bytes(b"new")
    monkeypatch.setattr(_Hadoop, "left", changes)
    with pytest.raises(KeyboardInterrupt):
        put(source, Url(f"hadoop://{target}"))
    there = [target] if target.exists() else [*target.parent.iterdir()]
    assert (b"new" if changes == 3 else b"old") in [path.read_bytes() for path in there]
    monkeypatch.setattr(_Hadoop, "left", -1)
    put(source, Url(f"hadoop://{target}"))
    left = [path for path in target.parent.iterdir() if not is_partial(path.name)]
    assert left == [target] and target.read_bytes() == b"new"


def test_an_old_file_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    fsspec.register_implementation("hadoop", _Hadoop, clobber=True)
    source, target = tmp_path / "mask", tmp_path / "out" / "1.png"
    source.write_bytes(b"old")
    put(source, Url(f"hadoop://{target}"))
    source.write_bytes(b"new")
    move = _Hadoop.mv

    def lost(store, path1, path2, **_):
        if Path(path1).read_bytes() == b"new":
            raise OSError("lost")
        move(store, path1, path2)

    monkeypatch.setattr(_Hadoop, "mv", lost)
    with pytest.raises(BucketError, match="lost"):
        put(source, Url(f"hadoop://{target}"))
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("half", [b"", b"n", None])
def test_a_move_that_moves_half_or_nothing_is_no_success(tmp_path, monkeypatch, half):
    """As stores that copy do when the line breaks, and those that give no answer."""
    fsspec.register_implementation("hadoop", _Hadoop, clobber=True)
    source, target = tmp_path / "mask", tmp_path / "out" / "1.png"
    source.write_bytes(b"old one")
    put(source, Url(f"hadoop://{target}"))
    source.write_bytes(b"new")
    move = _Hadoop.mv

    def breaks(store, path1, path2, **_):
        if path2 != str(target) or Path(path1).read_bytes() != b"new":
            move(store, path1, path2)
        elif half is not None:
            Path(path2).write_bytes(half)

    monkeypatch.setattr(_Hadoop, "mv", breaks)
    with pytest.raises(BucketError, match="moved nothing, or half"):
        put(source, Url(f"hadoop://{target}"))
    assert target.read_bytes() == b"old one"


def test_two_processes_may_put_one_file(tmp_path, monkeypatch):
    """As two copies of a task do; the second one comes while the first one's move is under way."""
    fsspec.register_implementation("hadoop", _Hadoop, clobber=True)
    source, target = tmp_path / "mask", tmp_path / "out" / "1.png"
    source.write_bytes(b"old")
    put(source, Url(f"hadoop://{target}"))
    source.write_bytes(b"new")
    move, came = _Hadoop.mv, []

    def second_comes(store, path1, path2, **_):
        if path1.endswith(".partial") and not came:
            came.append(path1)
            put(source, Url(f"hadoop://{target}"))
        move(store, path1, path2)

    monkeypatch.setattr(_Hadoop, "mv", second_comes)
    put(source, Url(f"hadoop://{target}"))
    assert came and target.read_bytes() == b"new" and [*target.parent.iterdir()] == [target]


def test_a_file_appears_whole_where_a_store_writes_bit_by_bit(tmp_path, monkeypatch):
    fsspec.register_implementation("breaking", _Breaking, clobber=True)
    (tmp_path / "mask").write_bytes(b"second")
    target = tmp_path / "out" / "a" / "1.png"
    put(tmp_path / "mask", Url(f"breaking://{target}"))
    assert target.read_bytes() == b"second"
    (tmp_path / "mask").write_bytes(b"third")
    monkeypatch.setattr(_Breaking, "broken", True)
    with pytest.raises(BucketError, match=r"cannot be reached \(OSError: lost\)"):
        put(tmp_path / "mask", Url(f"breaking://{target}"))
    assert target.read_bytes() == b"second"
    monkeypatch.setattr(_Breaking, "broken", False)
    put(tmp_path / "mask", Url(f"breaking://{target}"))
    assert target.read_bytes() == b"third"
    assert [p for p in target.parent.iterdir() if not is_partial(p.name)] == [target]
