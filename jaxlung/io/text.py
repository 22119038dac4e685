"""Reads text that users bring from any system, and compares names whatever system wrote them."""

import codecs
import unicodedata
from pathlib import Path

from jaxlung.errors import InputError

# UTF-32 before UTF-16, whose mark it begins with.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Share of pieces of a byte at most between NULs: UTF-16 without its mark. Lists of `find -print0`
# have NULs too, between names.
_WIDE = 0.5


def read_text(path: Path) -> str:
    """Reads a text file, as `decode_text` does.

    Raises:
        OSError: it cannot be read.
        InputError: as `decode_text`; or it holds a NUL, as no text does.
    """
    text = decode_text(path.read_bytes(), path)
    if "\0" in text:
        raise InputError(f"{path}: is no text, as it holds NUL bytes; save it as UTF-8")
    return text


def decode_text(data: bytes, name: object, *, errors: str = "strict") -> str:
    """Decodes UTF-8, with or without byte order mark, and UTF-16 or UTF-32 with it.

    Args:
        name: of what is decoded, for the error.
        errors: of UTF-8 without a mark, as `bytes.decode` takes it.

    Raises:
        InputError: it is in another encoding.

    Example:
        >>> decode_text("a.png".encode("utf-16"), "list"), decode_text(b"a.png", "list")
        ('a.png', 'a.png')
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    try:
        pieces = data.split(b"\0")
        if not encoding and sum(len(piece) < 2 for piece in pieces[1:]) > _WIDE * len(pieces):
            raise UnicodeError
        return data.decode(encoding or "utf-8", "strict" if encoding else errors)
    except UnicodeError:
        raise InputError(
            f"{name}: is neither UTF-8 nor UTF-16 with a byte order mark; save it as UTF-8"
        ) from None


def is_utf8(name: str) -> bool:
    """Says whether a name can be written as UTF-8; no JSON or report could hold stray bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def compose(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC), in which names are compared.

    Systems write an accented letter as one character or as a letter and its accent.

    Example:
        >>> compose("Mu\\u0308ller") == "M\\u00fcller"
        True
    """
    return unicodedata.normalize("NFC", name)
