"""Downloads with TFDS that end soon, and say why, where the host cannot be reached."""

import os
import sys
from pathlib import Path
from typing import Any

import requests

# Seconds to connect, for each address of the host, and to begin an answer.
TIMEOUT_S = (10, 20)


def download(dl_manager: Any, url: str) -> Path:
    """Downloads a file, or returns what TFDS has downloaded before.

    The host is asked first: TFDS tries ten times, for minutes, behind bars that stay at 0.

    Raises:
        ConnectionError: the host does not answer, or does not give the file.
    """
    if not _is_downloaded(dl_manager, url):
        print(f"downloading {url}", file=sys.stderr, flush=True)
        try:
            with requests.get(url, stream=True, timeout=TIMEOUT_S) as answer:
                answer.raise_for_status()
        except requests.RequestException as error:
            raise ConnectionError(f"{url}: {_reason(error)}") from error
    return Path(os.fspath(dl_manager.download(url)))


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {max(TIMEOUT_S):g} s"
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    return f"the host cannot be reached, {type(error).__name__}"


def _is_downloaded(dl_manager: Any, url: str) -> bool:
    """Tells whether TFDS keeps the file: it writes a note with the address beside each."""
    folder = Path(os.fspath(dl_manager.download_dir))
    notes = (note for pattern in ("*.INFO", "*/*.INFO") for note in folder.glob(pattern))
    return any(url in note.read_text(encoding="utf-8", errors="replace") for note in notes)
