"""Finds the films in buckets, as `batch.sources` does in folders."""

import glob
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from jaxlung.errors import InputError
from jaxlung.io.dicom.signature import START, starts_ct, starts_dicom
from jaxlung.io.images import is_image_start, may_be_dicom, stem_of
from jaxlung.io.passed_over import count_in_words, is_hidden, name_kind
from jaxlung.io.volumes import SUFFIXES as VOLUMES
from jaxlung.io.volumes import volume_stem
from jaxlung.predict.batch.sources import Source
from jaxlung.predict.buckets.stores import (
    BucketError,
    choose_some,
    explain,
    gives_any,
    is_denied,
    list_below,
    open_store,
)
from jaxlung.system.urls import Url

_READERS = 32  # objects whose beginning is read at a time: a request takes some 20 ms
_CHUNK = 256  # objects that are asked for together: a bucket that refuses is left after these
_HEADERS = (".mhd", ".nhdr")  # whose voxels lie in a file of their own
_SLICE = "DICOM slice of CT"


def find_objects(
    urls: Sequence[Url],
    *,
    volumes: bool,
    but_not: str = "",
    passed_over: Counter[str] | None = None,
) -> list[Source]:
    """Finds every film that the URLs lead to, once, in the order given.

    Args:
        volumes: find scans too: NIfTI, MetaImage and NRRD in one file.
        but_not: the URL of the outputs, which may lie in one of the inputs; "" for none.
        passed_over: counts, by kind, the objects that are no film.

    Raises:
        InputError: a URL leads to nothing or to an archive, or the bucket refuses.
    """
    found: dict[str, Source] = {}
    aside: dict[str, str] = {}
    for url in urls:
        if url == but_not:
            raise InputError(f"{url}: is the folder of the images; name another --out folder")
        before = len(aside)
        sources = list(_at(url, volumes, but_not, aside, _some_beside(url, urls)))
        if not sources:
            is_glob = glob.has_magic(url)
            counts = count_in_words(Counter(list(aside.values())[before:]))
            raise InputError(
                f"{url}: {'matches' if is_glob else 'holds'} no image"
                f"{'; ' if counts else ''}{counts}"
            )
        for source in sources:
            found.setdefault(source.url, source)
    if passed_over is not None:
        passed_over.update(aside.values())
    return _with_others(list(found.values()))


def _with_others(sources: Sequence[Source]) -> list[Source]:
    """Gives each source a few URLs of its bucket: they tell whether it alone is refused."""
    of_buckets = defaultdict(list)
    for source in sources:
        of_buckets[_bucket(source.url)].append(source.url)
    some = {bucket: choose_some(urls) for bucket, urls in of_buckets.items()}
    return [source._replace(others=some[_bucket(source.url)]) for source in sources]


def _some_beside(url: str, urls: Sequence[str]) -> tuple[str, ...]:
    """Chooses a few of the URLs that lie in the same bucket."""
    return choose_some([other for other in urls if _bucket(other) == _bucket(url)])


def _bucket(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _at(
    url: Url, volumes: bool, but_not: str, aside: dict[str, str], given: Sequence[str]
) -> Iterator[Source]:
    store, key = open_store(url)
    root, objects = url, _read_object(store, url, key, given)
    if objects is None and glob.has_magic(url):
        root, objects = _match(url)
    if objects is None:
        objects = list_below(url)
        if not objects:  # a missing object is reported when its turn comes
            objects = {"": {}} if PurePosixPath(url).suffix else {}
    if "" in objects and url.lower().endswith(".zip"):
        raise InputError(
            f"{url}: archives are not read from buckets; unpack it there or copy it here"
        )
    if "" in objects:
        yield _make_source(url, PurePosixPath(url).name, objects[""], volumes)
        return
    # Outputs have the names of objects, and a key may be any text: "../a.png", "//etc/a.png".
    odd = {name for name in objects if not _stays_below(name)}
    aside |= {Url(f"{root}/{name}"): "key with .. or //" for name in odd}
    listed = {
        name: info
        for name, info in objects.items()
        if name not in odd
        and not any(map(is_hidden, PurePosixPath(name).parts))
        and not (but_not and f"{root}/{name}".startswith(f"{but_not}/"))
    }
    for name, start in _read_starts(root, listed):
        place = Url(f"{root}/{name}")
        if start is not None and (kind := _name_aside(start, name, volumes)):
            aside[place] = kind
        else:
            yield _make_source(place, name, listed[name], volumes)


def _stays_below(name: str) -> bool:
    """Says whether a file of this name lies below the folder that it is put into."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _read_object(
    store: Any, url: Url, key: str, given: Sequence[str]
) -> dict[str, dict[str, Any]] | None:
    """Returns what is known of an object as {"": info}; None of a folder, or of nothing.

    Args:
        given: some of the URLs that were given. If the bucket gives one of them, an object that it
            denies is reported when its turn comes.
    """
    try:
        info = store.info(key)
    except FileNotFoundError:
        return None
    except Exception as error:
        alone = PurePosixPath(url).suffix and not glob.has_magic(url)
        if alone and is_denied(error) and gives_any(given):
            return {"": {}}
        raise InputError(explain(url, error)) from error
    return {"": info} if info.get("type") == "file" else None


def _match(url: Url) -> tuple[Url, dict[str, dict[str, Any]]]:
    """Returns the folder before a URL's first wildcard, and what matches by its path below it."""
    protocol, _, place = url.partition("://")
    parts = place.split("/")
    plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    if plain == 0:
        raise InputError(f"{url}: names no bucket before its wildcard; name one")
    root = Url(f"{protocol}://{'/'.join(parts[:plain])}")
    store, key = open_store(url)
    _, root_key = open_store(root)
    try:
        matches = store.glob(key, detail=True)
    except Exception as error:
        raise InputError(explain(url, error)) from error
    objects = {}
    for match, info in sorted(matches.items()):
        name = match[len(root_key.rstrip("/")) + 1 :]
        if info.get("type") == "file":
            objects[name] = info
        else:
            below = list_below(Url(f"{root}/{name}")).items()
            objects |= {f"{name}/{inner}": one for inner, one in below}
    return root, objects


def _read_starts(
    root: Url, listed: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, bytes | None]]:
    """Yields each object's name, and its first bytes as `_read_start`."""
    names = list(listed)
    others = choose_some([f"{root}/{name}" for name in names])
    with ThreadPoolExecutor(_READERS) as readers:
        for i in range(0, len(names), _CHUNK):
            chunk = names[i : i + _CHUNK]
            starts = readers.map(lambda name: _read_start(root, name, listed[name], others), chunk)
            yield from zip(chunk, starts, strict=True)


def _read_start(
    root: Url, name: str, info: Mapping[str, Any], others: Sequence[str]
) -> bytes | None:
    """Reads an object's first START bytes where they decide what it is.

    Returns:
        None of an object that is denied, although one of the others is not. It is taken for a
        film, so that it gets a row with its error.

    Raises:
        BucketError: the bucket refuses.
    """
    if not may_be_dicom(name) or _kind_by_name(name):
        return b""
    if info.get("size") == 0:  # S3 refuses a range of nothing
        return b""
    url = Url(f"{root}/{name}")
    store, key = open_store(url)
    try:
        return bytes(store.cat_file(key, start=0, end=START))
    except FileNotFoundError:  # it is reported when its turn comes
        return b""
    except Exception as error:
        if is_denied(error) and gives_any(others):
            return None
        raise BucketError(explain(url, error)) from error


def _kind_by_name(name: str) -> str:
    """Returns the suffix of what is surely no DICOM, so that nothing is read of it."""
    suffix = PurePosixPath(name).suffix.lower()
    known = (*VOLUMES, ".gz", ".zip", ".txt", ".csv", ".json", ".jsonl", ".md", ".xml", ".html")
    return suffix if suffix in known else ""


def _name_aside(start: bytes, name: str, volumes: bool) -> str:
    """Names the kind of an object that is passed over; "" of a film or scan."""
    if name.lower().endswith(VOLUMES):
        return "" if volumes and not name.lower().endswith(_HEADERS) else name_kind(b"", name)
    if not is_image_start(start, name):
        return name_kind(start, name)
    return _SLICE if starts_dicom(start, name) and starts_ct(start) else ""


def _make_source(url: Url, name: str, info: Mapping[str, Any], volumes: bool) -> Source:
    is_volume = volumes and name.lower().endswith(VOLUMES)
    place = PurePosixPath(name)
    stem = volume_stem(Path(place)) if is_volume else stem_of(Path(place))
    return Source(Path(url), "", place.with_name(stem), is_volume, url, _make_stamp(info))


def _make_stamp(info: Mapping[str, Any]) -> str:
    """Makes a digest that changes when the object does; "" of one that is not there."""
    keys = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated")
    tag = next((info[key] for key in (*keys, "created") if info.get(key)), "")
    text = f"{info.get('size')}-{tag}"
    return hashlib.sha256(text.encode()).hexdigest()[:16] if info else ""
