"""`prepare` fetches a public set, or takes what was fetched by hand, and writes it with TFDS."""

import contextlib
import io
import logging
import os
from pathlib import Path
from typing import Any

from jaxlung.catalog import CATALOG
from jaxlung.catalog.entry import NamedSet
from jaxlung.data.prepared import data_dir_of, is_prepared, make_builder, open_records
from jaxlung.errors import InputError


def prepare(
    name: str, data_dir: str | os.PathLike[str] = "", manual_dir: str | os.PathLike[str] = ""
) -> Any:
    """Downloads a set, reads it from end to end and writes it for `prepared.open_set`; once.

    Args:
        name: of `catalog`.
        data_dir: TFDS's folder; "" is `prepared.data_dir_of("")`.
        manual_dir: the folder of NAME/ with what was fetched by hand; "" is
            data_dir/downloads/manual.

    Returns:
        the TFDS builder.

    Raises:
        InputError: something is missing, damaged or moved, or does not load; one line says what.
    """
    if name not in CATALOG:
        raise InputError(f"{name!r} is no set; there are {', '.join(CATALOG)}")
    entry = CATALOG[name]
    manual = Path(manual_dir or data_dir_of(data_dir) / "downloads" / "manual").expanduser()
    needed = entry.manual or manual_dir
    if needed and not is_prepared(name, data_dir) and not (manual / entry.builder).is_dir():
        raise InputError(
            f"{manual / entry.builder}: no such folder (of manual downloads {manual}). "
            f"{entry.instructions}"
        )
    builder = make_builder(entry, data_dir)
    import tensorflow_datasets as tfds

    options = tfds.download.DownloadConfig(
        manual_dir=manual, compute_stats=tfds.download.ComputeStatsMode.SKIP
    )
    try:
        # `data prepare` says better what TFDS prints; urllib3 warns of each of ten retries.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=options)
    except Exception as error:
        if not is_prepared(name, data_dir):
            raise InputError(f"{name}: {_reason(error, entry, manual)}") from error
        builder = make_builder(entry, data_dir)  # another process was first
    if not is_prepared(name, data_dir):  # TFDS takes any folder of that name for a prepared set
        raise InputError(
            f"{builder.data_path}: is damaged (it has no dataset_info.json); delete it and prepare "
            f"the set again"
        )
    open_records(builder)
    return builder


def _reason(error: BaseException, entry: NamedSet, manual: Path) -> str:
    """Returns one line on what TFDS raised: jaxlung's own error within it, where there is one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return " ".join(str(cause).split())
        cause = cause.__cause__ or cause.__context__
    words = " ".join(str(error).split())
    kind = type(error).__name__
    of_requests = type(error).__module__.startswith("requests")
    if kind == "DownloadError" or of_requests or isinstance(error, ConnectionError):
        return (
            f"the download failed ({words[:200]}); check the network and try again. "
            f"{entry.instructions} The folder of manual downloads is {manual}, the homepage "
            f"{entry.homepage}"
        )
    known = {
        "NonMatchingChecksumError": "a download has the wrong checksum; delete it and try again",
        "ExtractError": "an archive cannot be unpacked; delete the download and try again",
    }
    return f"{known.get(kind, f'could not be prepared: {kind}')} ({words[:300]})"
