"""Objects appear whole; what is wrong is one line without credentials, which names the remedy."""

import errno
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from jaxlung.errors import InputError
from jaxlung.predict.buckets.stores import BucketError, explain, open_store, put, read_place
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
    assert target.read_bytes() == b"third" and len(list(target.parent.iterdir())) == 1
