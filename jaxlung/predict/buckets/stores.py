"""Opens buckets by fsspec, moves objects, and says in one line why one cannot be moved.

A URL holds no credentials: each protocol's package finds its own, in the environment, in files of
the home folder or in the machine's role. So URLs can be printed, and kept in summaries.
"""

import contextlib
import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from jaxlung.errors import InputError
from jaxlung.system.files import name_partial
from jaxlung.system.urls import Url, is_url, redact, redact_url

_JAVA = ("hdfs", "arrow_hdfs")
# What to install for a protocol.
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(_JAVA, "pyarrow"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **{"smb": "smbprotocol", "oss": "ossfs", "oci": "ocifs", "webhdfs": "requests"},
}
# Stores whose objects appear whole. Others are file systems, where a file is renamed at its end.
_WHOLE = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci")
_SOME = 4  # at most so many objects are asked for beside one, before a bucket counts as closed
# By names of exceptions, codes of errors, and statuses of HTTP.
_DENIED = re.compile(
    r"AccessDenied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken"
    r"|NoCredentials|PartialCredentials|DefaultCredentials|Unauthorized|AuthenticationFailed"
    r"|AuthorizationFailure|TokenRefresh|RefreshError|AccessControl|^40[13]$",
    re.IGNORECASE,
)
_FULL = re.compile(r"Quota|InsufficientStorage|StorageFull|AccountLimitExceeded|^507$", re.I)


class BucketError(OSError):
    """A bucket refuses, so that the batch cannot go on; the message is one line."""


def read_place(text: str) -> Path | Url:
    """Reads a path or a URL that a user gave; file:///films is a path.

    Raises:
        InputError: the URL holds credentials, or fsspec's chains of protocols.
    """
    if not is_url(text):
        return Path(text)
    shown = redact_url(text)
    if shown != text:
        raise InputError(
            f"{shown}: holds credentials, which others see in the list of processes; leave them "
            f"to the environment or to the configuration of the protocol's package"
        )
    if "::" in text:
        raise InputError(f"{text}: chains protocols by ::, which is not supported; name the bucket")
    url = Url(text.rstrip("/") if not text.endswith("://") else text)
    if url.protocol in ("file", "local"):
        return Path(unquote(urlsplit(url).path) if url.protocol == "file" else url[8:])
    return url


def open_store(url: Url) -> tuple[Any, str]:
    """Returns fsspec's file system for a URL, and the path in it.

    Raises:
        InputError: the protocol is not known, its package is missing, or it refuses.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import available_protocols, registry

    if url.protocol not in (*available_protocols(), *registry):
        raise InputError(
            f"{url}: the protocol {url.protocol} is not known; those of fsspec are, as s3, gs, "
            f"az and hdfs"
        )
    try:
        store, path = url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(url.protocol)
        remedy = f"pip install {package}" if package else redact(error)
        raise InputError(
            f"{url}: its protocol needs a package that is missing: {remedy}"
        ) from error
    except Exception as error:
        if url.protocol in _JAVA:
            raise InputError(
                f"{url}: needs Java and Hadoop's client, whose libraries are not found; set "
                f"JAVA_HOME, HADOOP_HOME and CLASSPATH"
            ) from error
        raise InputError(explain(url, error)) from error
    return store, str(path)


def explain(url: str, error: BaseException) -> str:
    """Says in one line why a store refused, without credentials."""
    names = list(_names(error))
    if any(map(_FULL.search, names)) or _is_disk_full(error):
        return f"{url}: the bucket is full or over its quota; make room"
    if isinstance(error, FileNotFoundError):
        return f"{url}: there is no such object or bucket"
    if is_denied(error):
        return f"{url}: access is denied; check the credentials, and what they may do there"
    reason = redact(" ".join(str(error).split()))[:200]
    return f"{url}: cannot be reached ({type(error).__name__}{': ' if reason else ''}{reason})"


def is_denied(error: BaseException) -> bool:
    """Says whether a store refused for want of permission, and not for load or a lost line."""
    return isinstance(error, PermissionError) or any(map(_DENIED.search, _names(error)))


def _is_disk_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _names(error: BaseException | None) -> Iterator[str]:
    """Yields types, codes and statuses of an error and of what caused it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield type(error).__name__
        yield from re.findall(r"\w+Exception\b", str(error))  # of Java, as HDFS quotes them
        yield from re.findall(r"An error occurred \((\w+)\)", str(error))  # of botocore
        for name in ("status", "status_code", "code", "error_code"):
            yield str(getattr(error, name, ""))
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            yield str(response.get("Error", {}).get("Code", ""))
            yield str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _errors_explained(url: str) -> Iterator[None]:
    try:
        yield
    except (InputError, BucketError):
        raise
    except Exception as error:
        raise BucketError(explain(url, error)) from error


def fetch(url: Url, path: Path, others: Sequence[str] = ()) -> None:
    """Fetches an object into a file.

    Args:
        others: URLs of objects in the same bucket.

    Raises:
        InputError: there is no such object, or it is denied although one of the others is not.
        BucketError: the store refuses.
    """
    with _errors_explained(url):
        store, key = open_store(url)
        try:
            store.get_file(key, str(path))
        except FileNotFoundError as error:
            raise InputError(f"{url}: there is no such object") from error
        except Exception as error:
            if is_denied(error) and gives_any(others):
                raise InputError(explain(url, error)) from error
            raise


def choose_some(urls: Sequence[str]) -> tuple[str, ...]:
    """Chooses a few of the objects of a bucket, all over it, for `gives_any`.

    Example:
        >>> choose_some(["m://b/1", "m://b/2", "m://b/3", "m://b/4", "m://b/5", "m://b/6"])
        ('m://b/1', 'm://b/3', 'm://b/5')
    """
    return tuple(urls[:: max(1, -(-len(urls) // _SOME))])


def gives_any(urls: Sequence[str]) -> bool:
    """Says whether one of these objects can be read: if so, no bucket is closed to this process.

    A store says "denied" alike of one object and of all.
    """
    for url in urls:
        with contextlib.suppress(Exception):
            store, key = open_store(Url(url))
            store.cat_file(key, start=0, end=1)
            return True
    return False


def put(path: Path, url: Url) -> None:
    """Puts a file into a bucket; the object appears whole or not at all. Raises BucketError.

    Where a store writes bit by bit, what is there is moved aside while the new file takes its
    place: some stores replace nothing by a move, others remove it first.
    """
    with _errors_explained(url):
        store, key = open_store(url)
        if url.protocol in _WHOLE:
            store.put_file(str(path), key)
            return
        place = PurePosixPath(key)
        partial = str(place.with_name(name_partial(place.name)))
        store.makedirs(str(place.parent), exist_ok=True)
        store.put_file(str(path), partial)
        aside = str(place.with_name(name_partial(place.name)))
        _replace(store, partial, key, aside, path.stat().st_size)


def _replace(store: Any, partial: str, key: str, aside: str, size: int) -> None:
    """Moves a whole file of `size` bytes to its place; what was there is kept until that is done.

    A move that failed may have succeeded for another process, which put the same. One that did not
    fail may have moved nothing, or half: some stores copy, others give no answer.
    """
    if store.exists(key):
        with contextlib.suppress(FileNotFoundError):  # another process replaces it, too
            store.mv(key, aside)
    failure: Exception = OSError("the store moved nothing, or half of it")
    try:
        store.mv(partial, key)
    except Exception as error:
        failure = error
    if not store.exists(key) or store.info(key)["size"] != size:
        if store.exists(aside):
            _drop(store, key)
            store.mv(aside, key)
        raise failure
    _drop(store, partial)
    _drop(store, aside)


def _drop(store: Any, key: str) -> None:
    if store.exists(key):
        with contextlib.suppress(FileNotFoundError):  # another process drops it, too
            store.rm_file(key)


def remove(url: Url) -> None:
    """Removes an object, if it is there. Raises BucketError."""
    with _errors_explained(url), contextlib.suppress(FileNotFoundError):
        store, key = open_store(url)
        store.rm_file(key)


def list_below(url: Url) -> dict[str, dict[str, Any]]:
    """Lists the objects below a URL: what fsspec knows of each, by its path relative to the URL.

    Raises:
        InputError: the store refuses. A bucket that is not there is empty.
    """
    store, root = open_store(url)
    try:
        store.invalidate_cache()  # another process may have written
        try:
            store.info(root)  # `find` takes a folder that may not be listed for an empty one
            found = store.find(root, detail=True)
        except FileNotFoundError:
            return {}
        finally:
            store.invalidate_cache()  # of millions of objects it is large
    except Exception as error:
        raise InputError(explain(url, error)) from error
    below = root.rstrip("/") + "/"
    return {
        key[len(below) :]: info
        for key, info in sorted(found.items())
        if key.startswith(below) and key != below and info.get("type") == "file"
    }
