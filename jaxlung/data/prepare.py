"""`prepare`: fetches a public set, or takes what was fetched by hand, and writes it with TFDS."""

import contextlib
import io
import logging
import os
import shlex
from pathlib import Path
from typing import Any

from jaxlung.catalog import CATALOG, NamedSet
from jaxlung.data.prepared import data_dir_of, is_prepared, make_builder, open_records
from jaxlung.errors import InputError


def prepare(
    name: str,
    data_dir: str | os.PathLike[str] = "",
    manual_dir: str | os.PathLike[str] = "",
    beam_options: str = "",
) -> Any:
    """Downloads a set, reads it from end to end and writes it for `open_set`; once.

    Args:
        name: of `catalog`.
        data_dir: TFDS's folder; "" is ~/tensorflow_datasets.
        manual_dir: where NAME/ with what was fetched by hand is; "" is data_dir/downloads/manual.
        beam_options: flags of an Apache Beam pipeline, for the sets that are prepared by one, such
            as "--runner=FlinkRunner --flink_master=HOST:8081"; "" runs it on this machine.

    Returns:
        the TFDS builder.

    Raises:
        InputError: one line on what is missing, damaged or moved, or does not load.
    """
    if name not in CATALOG:
        raise InputError(f"{name!r} is no set; there are {', '.join(CATALOG)}")
    entry = CATALOG[name]
    manual = Path(manual_dir).expanduser() if manual_dir else _default_manual(data_dir)
    needed = entry.manual or manual_dir
    if needed and not is_prepared(name, data_dir) and not (manual / entry.builder).is_dir():
        raise InputError(
            f"{manual / entry.builder}: no such folder (of manual downloads {manual}). "
            f"{entry.instructions}"
        )
    builder = make_builder(entry, data_dir)
    import tensorflow_datasets as tfds

    options = tfds.download.DownloadConfig(
        manual_dir=manual,
        compute_stats=tfds.download.ComputeStatsMode.SKIP,
        beam_options=_pipeline_options(beam_options) if beam_options else None,
    )
    try:
        # TFDS prints what `data prepare` says better, urllib3 a warning for each of ten retries.
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


def _pipeline_options(flags: str) -> Any:
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(
            "--beam-options needs Apache Beam, which is not installed: pip install 'jaxlung[beam]'"
        ) from error
    return PipelineOptions(shlex.split(flags))


def _default_manual(data_dir: str | os.PathLike[str]) -> Path:
    return data_dir_of(data_dir) / "downloads" / "manual"


def _reason(error: BaseException, entry: NamedSet, manual: Path) -> str:
    """One line on what TFDS raised: our own error within it, where there is one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return " ".join(str(cause).split())
        cause = cause.__cause__ or cause.__context__
    words = " ".join(str(error).split())
    if "InputError: " in words:  # Beam keeps the text of a worker's error alone
        return words.rsplit("InputError: ", 1)[1].split(" [while running")[0]
    kind = type(error).__name__
    if kind == "DownloadError" or type(error).__module__.startswith("requests"):
        return (
            f"the download failed ({words[:120]}); try again later. {entry.instructions} The "
            f"homepage is {entry.homepage}, the folder of manual downloads {manual}"
        )
    known = {
        "NonMatchingChecksumError": "a download has the wrong checksum; delete it and try again",
        "ExtractError": "an archive cannot be unpacked; delete the download and try again",
    }
    return f"{known.get(kind, f'could not be prepared: {kind}')} ({words[:300]})"
