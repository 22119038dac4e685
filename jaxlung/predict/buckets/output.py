"""Writes masks and the summary to a bucket: each file is made here, put there, and removed here.

A bucket appends to no object. So the journal of a batch is an object with its beginning, and one
for every few hundred rows after that; the last rows of a process that is killed are predicted
again.
"""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from jaxlung.errors import InputError
from jaxlung.predict.batch.summary import CSV, JOURNAL, JSON, PARQUET, Journal, Row
from jaxlung.predict.buckets.stores import fetch, list_below, put, remove
from jaxlung.system.files import check_out, final_name
from jaxlung.system.urls import Url

_PART = ".summary-"  # how the names of a journal's parts begin
_ROWS, _SECONDS = 256, 10  # of a part, at most: what a kill loses


class Bucket:
    """Where the outputs of a batch go; `stage` is the folder of this machine they are made in."""

    def __init__(self, url: Url, stage: Path):
        self.url, self.stage = url, stage
        self._there: set[str] = set()

    def at(self, stage: Path) -> "Bucket":
        """Returns the same bucket, for another process that only publishes."""
        return Bucket(self.url, stage)

    def place(self, path: Path) -> Url:
        """Returns the URL of a file of the stage."""
        return Url(f"{self.url}/{path.relative_to(self.stage).as_posix()}")

    def tell(self, text: str) -> str:
        """Names the bucket where a message names the stage."""
        return text.replace(str(self.stage), self.url)

    def holds(self, path: Path) -> bool:
        """Says whether an output was there when the batch began."""
        return path.relative_to(self.stage).as_posix() in self._there

    def publish(self, paths: Iterable[Path]) -> None:
        """Moves files of the stage into the bucket. Raises BucketError."""
        for path in paths:
            put(path, self.place(path))
            path.unlink()

    def restore(self) -> None:
        """Reads what is there: names of outputs, and the summary or journal of earlier batches.

        Raises:
            InputError: the bucket refuses.
        """
        self._there = set(list_below(self.url))
        if JOURNAL in self._there:
            self._fetch(JOURNAL)
            parts = self._parts(_digest(self.stage / JOURNAL))
            with open(self.stage / JOURNAL, "ab") as journal:
                for name in parts:
                    self._fetch(name)
                    journal.write((self.stage / name).read_bytes())
                    (self.stage / name).unlink()
        for name in (JSON, CSV):
            if name in self._there:
                self._fetch(name)

    def _fetch(self, name: str) -> None:
        fetch(Url(f"{self.url}/{name}"), self.stage / name)

    def _parts(self, batch: str = "") -> list[str]:
        """Returns the names of the journal's parts, in order: of one batch, or of all."""
        return sorted(name for name in self._there if name.startswith(f"{_PART}{batch}"))

    def begin_journal(
        self, stage: Path, settings: Row, rows: Mapping[str, Row], pending: Mapping[str, str]
    ) -> Journal:
        """Begins the journal of a batch, in the bucket too; what others left goes after that."""
        return _BucketJournal(self, stage, settings, rows, pending)

    def clear(self, pending: Iterable[str]) -> None:
        """Removes parts of earlier journals, and what killed processes had not put of `pending`."""
        stems = tuple(pending)
        unfinished = [name for name in self._there if _final_place(name).startswith(stems)]
        for name in [*self._parts(), *unfinished]:
            remove(Url(f"{self.url}/{name}"))


def _final_place(name: str) -> str:
    """Returns where an unfinished object was to lie; a line end, which no place is, of others."""
    final = final_name(PurePosixPath(name).name)
    return str(PurePosixPath(name).with_name(final)) if final else "\n"


class _BucketJournal(Journal):
    """A journal whose rows are put into the bucket, some at a time."""

    def __init__(
        self,
        bucket: Bucket,
        stage: Path,
        settings: Row,
        rows: Mapping[str, Row],
        pending: Mapping[str, str],
    ):
        super().__init__(stage, settings, rows, pending)
        self._bucket = bucket
        self._batch = _digest(self._path)
        self._written = self._path.stat().st_size  # bytes of it that are in the bucket
        self._waiting, self._number, self._last = 0, 0, time.monotonic()
        put(self._path, bucket.place(self._path))
        bucket.clear(pending)

    @property
    def _path(self) -> Path:
        return self.folder / JOURNAL

    def _part(self, number: int) -> Path:
        return self.folder / f"{_PART}{self._batch}-{number:06d}.jsonl"

    def add(self, row: Row) -> None:
        super().add(row)
        self._waiting += 1
        if self._waiting >= _ROWS or time.monotonic() - self._last >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Puts the rows that are not in the bucket yet. Raises BucketError."""
        if self._waiting:
            part = self._part(self._number)
            with open(self._path, "rb") as file:
                file.seek(self._written)
                part.write_bytes(file.read())
            size = part.stat().st_size
            self._bucket.publish([part])
            self._written += size
            self._number += 1
        self._waiting, self._last = 0, time.monotonic()

    def close(
        self, order: Iterable[str], passed_over: Mapping[str, int], *, parquet: bool = False
    ) -> list[Row]:
        rows = super().close(order, passed_over, parquet=parquet)
        names = (CSV, PARQUET, JSON) if parquet else (CSV, JSON)
        if self._bucket.holds(self.folder / PARQUET):  # as `Journal.close` does
            remove(self._bucket.place(self.folder / PARQUET))
        self._bucket.publish(self.folder / name for name in names)
        remove(self._bucket.place(self._path))  # the summary counts from now on
        for number in range(self._number):
            remove(self._bucket.place(self._part(number)))
        return rows


def _digest(journal: Path) -> str:
    """Names a batch by its journal's beginning; its parts carry the name."""
    return hashlib.sha256(journal.read_bytes()).hexdigest()[:12]


@contextlib.contextmanager
def open_out(out: Path | Url) -> Iterator[tuple[Path, Bucket | None]]:
    """Gives the folder to write to; for a bucket a temporary one, and the bucket.

    Raises:
        InputError: the folder cannot be written to, or the bucket refuses. An error raised inside
            that names the temporary folder names the bucket instead.
    """
    if isinstance(out, Path):
        check_out(out)
        yield out, None
        return
    with tempfile.TemporaryDirectory(prefix="jaxlung-") as name:
        bucket = Bucket(out, Path(name))
        try:
            bucket.restore()
            yield bucket.stage, bucket
        except InputError as error:
            raise InputError(bucket.tell(str(error))) from error
