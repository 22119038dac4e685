"""URLs of buckets, and credentials kept out of all that is printed or written."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:/ is a drive
_CREDENTIAL = (
    r"secret|token|passw(?:or)?d|passphrase|signature|credential|account_?key|access_?key"
    r"|api_?key|private_?key|connection_?string"
)
# Protocols that have a bucket, a container or a user before @. Of others it may be a token.
_NAMED = r"(?:abfss?|az|wasbs?|adl|oci|hdfs|arrow_hdfs|webhdfs|sftp|ssh|smb|ftp)://"
_IN_URL = (
    (re.compile(r"(://)[^/\s@:]*:(?!\d+/)[^\s@]*@"), r"\1***@"),  # user:password@host; no port
    (
        re.compile(rf"(?<![\w+.-])(?!{_NAMED})([\w+.-]+://)[^/\s@]+@", re.IGNORECASE),
        r"\1***@",  # token@host
    ),
    (re.compile(r"(://[^\s?'\"]*\?)[^\s'\"]*=[^\s'\"]*"), r"\1***"),  # a query, with a signature
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"), "***"),  # ids of AWS's access keys
)
_IN_TEXT = (
    *_IN_URL,
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
    # key=value, "key": "value", <key>value</key>
    (
        re.compile(
            rf"((?:[\w-]*(?:{_CREDENTIAL})[\w-]*|\bsig|\bkey)['\"]?\s*[=:>]\s*['\"]?)"
            rf"[^\s,'\"&;)<>]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)
# Names of variables whose values are hidden.
_NAMES = re.compile(rf"{_CREDENTIAL}|(?:^|_)(?:key|sas|sig)(?:_|$)", re.IGNORECASE)
_SHORTEST = 8  # characters of a credential; to hide shorter ones would hide words


class Url(str):
    """Where a bucket or an object lies, as s3://bucket/films/1.png; without a final slash."""

    @property
    def protocol(self) -> str:
        return self.partition("://")[0].lower()


def is_url(text: str) -> bool:
    """Says whether a text names a bucket or an object, and no file of this machine.

    Example:
        >>> is_url("s3://bucket/films"), is_url("C:/films"), is_url("films/1.png")
        (True, False, False)
    """
    return bool(_URL.match(text))


def redact_url(url: str) -> str:
    """Replaces the credentials that a URL holds: of a user, in a query, or the id of a key."""
    for pattern, replacement in _IN_URL:
        url = pattern.sub(replacement, url)
    return url


def redact(text: object, environ: Mapping[str, str] = os.environ) -> str:
    """Replaces whatever may be a credential by ***: passwords, keys, tokens, signatures, queries.

    Values of environment variables and of fsspec's configuration that are named as credentials
    are replaced wherever they stand, whatever the text around them.

    Example:
        >>> redact("https://me:pw@host/a.png?sig=f00 failed", {})
        'https://***@host/a.png?*** failed'
    """
    shown = str(text)
    for value in sorted(_secrets(environ), key=len, reverse=True):
        shown = shown.replace(value, "***")
    for pattern, replacement in _IN_TEXT:
        shown = pattern.sub(replacement, shown)
    return shown


def _secrets(environ: Mapping[str, str]) -> set[str]:
    config = sys.modules.get("fsspec.config")
    pairs = [*environ.items(), *_leaves(getattr(config, "conf", {}))]
    return {value for name, value in pairs if len(value) >= _SHORTEST and _NAMES.search(name)}


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields the name and the text of each entry of nested dicts."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, str(key))
    elif isinstance(tree, str):
        yield name, tree
