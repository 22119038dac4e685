"""Names what lies beside images and is passed over: by suffix, or by what its content is."""

from collections.abc import Mapping
from pathlib import PurePath

from jaxlung.io.dicom.signature import starts_dicom

_COMPANIONS = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini")  # what systems leave behind


def is_hidden(name: str) -> bool:
    """Says whether a file or folder is hidden, or a companion that a system has left there.

    Example:
        >>> is_hidden(".DS_Store"), is_hidden("Thumbs.db"), is_hidden("film.png")
        (True, True, False)
    """
    return (name.startswith(".") and name != "..") or name.lower() in _COMPANIONS


def name_kind(start: bytes, name: str) -> str:
    """Names the kind of a file that is no image.

    Args:
        start: its first `signature.START` bytes.

    Example:
        >>> name_kind(b"", "a.HEIC"), name_kind(b"", "README")
        ('.heic', 'no suffix')
    """
    if starts_dicom(start, name):
        is_directory = PurePath(name).stem.lower() == "dicomdir"
        return "DICOMDIR" if is_directory else "DICOM without image"
    return PurePath(name).suffix.lower() or "no suffix"


def count_in_words(passed_over: Mapping[str, int]) -> str:
    """Counts files in words; "" where there are none.

    Example:
        >>> count_in_words({".heic": 2, "no suffix": 1})
        '3 files passed over (.heic 2, no suffix 1)'
    """
    total = sum(passed_over.values())
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(passed_over.items()))
    return f"{total} file{'s' if total > 1 else ''} passed over ({kinds})" if total else ""
