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
_WIDE = 0.4  # share of NUL among the bytes at even or odd places: UTF-16 without its mark


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
        if not encoding and max(data[i::2].count(0) for i in (0, 1)) > _WIDE * (len(data) // 2 + 1):
            raise UnicodeError
        return data.decode(encoding or "utf-8", "strict" if encoding else errors)
    except UnicodeError:
        raise InputError(
            f"{name}: is neither UTF-8 nor UTF-16 with a byte order mark; save it as UTF-8"
        ) from None


def compose(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC), in which names are compared.

    Systems write an accented letter as one character or as a letter and its accent.

    Example:
        >>> compose("Mu\\u0308ller") == "M\\u00fcller"
        True
    """
    return unicodedata.normalize("NFC", name)
