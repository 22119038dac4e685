"""Shares of a batch: each writes a folder of its own below --out, and `jaxlung join` unites them.

A share's folder is complete, with a summary and a lock. Joining moves its files, each whole, and
its rows into the --out folder. A join that was interrupted can be given again.
"""

import contextlib
import dataclasses
import itertools
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jaxlung.errors import InputError
from jaxlung.predict.batch.earlier import Earlier, check_nothing_lost, read_earlier
from jaxlung.predict.batch.outputs import ENDS, Job, Options, plan_jobs
from jaxlung.predict.batch.summary import CSV, JOURNAL, JSON, Journal, Row, count_rows
from jaxlung.system.files import is_partial, lock_folder
from jaxlung.system.processes import Share

BUSY = "another jaxlung predict writes there; wait, or name another --out folder"
_WAIT_S = 60  # seconds: a share waits for others that begin, which takes each some milliseconds
_NO_OUTPUTS = (CSV, JSON, JOURNAL, ".jaxlung.lock")
_JOINED = ".joined"  # is there while the folders of joined shares are removed


def list_shares(out: Path) -> dict[Share, Path]:
    """Returns the folders of the shares that have begun, in order."""
    matches = {path: re.fullmatch(r"share-(\d{4})-of-(\d{4})", path.name) for path in out.glob("*")}
    found = {Share(int(m[1]), int(m[2])): path for path, m in matches.items() if m}
    return dict(sorted(found.items()))


def share_folder(out: Path, share: Share) -> Path:
    """Returns the folder that a share writes."""
    return out / f"share-{share}"


@contextlib.contextmanager
def hold_folder(out: Path, share: Share | None) -> Iterator[None]:
    """Holds the folder of a batch, or of a share of it, for this process alone.

    A share holds `out` too until it holds its own folder, so that no batch of all images and no
    join begins meanwhile. Its folder is removed at the end if it is empty.

    Args:
        share: what is to be predicted; None: all.

    Raises:
        InputError: another process writes there, or `out` holds shares of another batch than this.
    """
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        held.enter_context(lock_folder(out, BUSY, wait_s=_WAIT_S if share else 0))
        for other in list_shares(out):
            if share is None or other.of != share.of:
                this = f"{share.number}/{share.of}" if share else "no share"
                raise InputError(
                    f"{out}: holds share {other.number}/{other.of}, and this is {this}; unite the "
                    f"shares first, by: jaxlung join {out}"
                )
        if share:
            with held.pop_all():
                own = share_folder(out, share)
                own.mkdir(exist_ok=True)
                held.callback(_remove_if_empty, own)
                held.enter_context(lock_folder(own, BUSY))
        yield


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def take_share(
    planned: Sequence[Job], settings: Row, options: Options
) -> tuple[list[Job], Options]:
    """Chooses a share's jobs: every Nth, but for what has been joined and is done.

    Args:
        planned: the jobs of all shares, in the --out folder.

    Returns:
        The jobs in the share's own folder, and the options with that folder.

    Raises:
        InputError: the --out folder holds what may not be replaced.
    """
    share, out = options.share, options.out
    assert share is not None
    jobs, joined = planned[share.number - 1 :: share.of], read_earlier(out)
    todo, _ = joined.split(jobs, settings, options)
    check_nothing_lost(joined, jobs, todo, settings, options)
    own = dataclasses.replace(options, out=share_folder(out, share), share=None)
    return plan_jobs([job.source for job in todo], own), own


def join(out: Path) -> int:
    """Moves the files and rows of all shares into the folder that holds their folders.

    Returns:
        How many images failed.

    Raises:
        InputError: before anything is moved: a share is missing, unfinished or running, shares are
            of different numbers or settings, or a file would replace another image's.
    """
    if not out.is_dir():
        raise InputError(f"{out}: no such folder; name the --out folder of the shares")
    with lock_folder(out, BUSY):  # no share begins meanwhile
        for folder in list_shares(out).values():
            with lock_folder(folder, BUSY):
                pass  # it is not running
        if (out / _JOINED).exists():  # an interrupted join had moved everything
            _remove_shares(out)
            if not list_shares(out):
                return _say(out, list(read_earlier(out).rows.values()))
        shares, earlier = _read_shares(out), read_earlier(out)
        settings = next(iter(shares.values())).settings or {}
        chosen = _interleave(shares)
        files = [(folder, path) for folder in shares for path in _outputs(folder)]
        _check_replaces_nothing(out, earlier, settings, chosen, [path for _, path in files])
        pending = {name: row["source"] for name, (_, row) in chosen.items()}
        journal = Journal(out, settings, earlier.rows if earlier.is_of(settings) else {}, pending)
        home = {f"{name}{end}": folder for name, (folder, _) in chosen.items() for end in ENDS}
        for folder, path in files:
            if home.get(str(path), folder) == folder:
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / path, out / path)
            else:
                (folder / path).unlink()
        for _, row in chosen.values():
            journal.add(row)
        every = next(iter(shares.values()))  # each share has walked all folders
        joined = journal.close(chosen, every.passed_over)
        (out / _JOINED).touch()
        _remove_shares(out)
    return _say(out, joined)


def _say(out: Path, rows: Sequence[Row]) -> int:
    print(f"{count_rows(rows)}; {out / CSV}")
    return sum(row["status"] == "failed" for row in rows)


def _read_shares(out: Path) -> dict[Path, Earlier]:
    """Reads the summary in each share's folder, and checks that they are one whole batch."""
    folders = list_shares(out)
    counts = sorted({share.of for share in folders})
    if not counts:
        raise InputError(f"{out}: holds no share; name the --out folder of the shares")
    if len(counts) > 1:
        raise InputError(
            f"{out}: holds shares of {' and of '.join(map(str, counts))}; remove the folders of "
            f"those that are not wanted"
        )
    shares: dict[Path, Earlier] = {}
    for number in range(1, counts[0] + 1):
        name = f"share {number}/{counts[0]}"
        folder = folders.get(Share(number, counts[0]))
        if folder is None:
            raise InputError(f"{out}: {name} is missing; predict it first")
        if (folder / JOURNAL).exists() or not (folder / JSON).exists():
            raise InputError(f"{folder}: {name} is not finished; predict it with --resume")
        shares[folder] = read_earlier(folder)
        first = next(iter(shares.values()))
        if not first.is_of(shares[folder].settings or {}):
            raise InputError(
                f"{folder}: {name} was made with other settings than share 1/{counts[0]}; give its "
                f"command again with the same flags and --overwrite"
            )
    return shares


def _interleave(shares: Mapping[Path, Earlier]) -> dict[str, tuple[Path, Row]]:
    """Returns each name's folder and row, in the order of the whole batch.

    New files may have moved an image to another share, so that two shares have a row for it. The
    first that is a prediction is chosen.
    """
    pairs = ([(folder, row) for row in share.rows.values()] for folder, share in shares.items())
    chosen: dict[str, tuple[Path, Row]] = {}
    for folder, row in filter(None, itertools.chain(*itertools.zip_longest(*pairs))):
        _, other = chosen.setdefault(row["name"], (folder, row))
        if other["source"] != row["source"]:
            raise InputError(
                f"{row['source']} and {other['source']} would both write {row['name']}; predict "
                f"them in two commands with two --out folders"
            )
        if other["status"] != "ok":
            chosen[row["name"]] = folder, row
    return chosen


def _outputs(folder: Path) -> list[Path]:
    """Lists a share's masks and their like, relative to its folder."""
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if str(path) not in _NO_OUTPUTS and not is_partial(path.name)]


def _check_replaces_nothing(
    out: Path,
    earlier: Earlier,
    settings: Row,
    chosen: Mapping[str, tuple[Path, Row]],
    files: Sequence[Path],
) -> None:
    kept = sum(row["status"] == "ok" for row in earlier.rows.values())
    if kept and not earlier.is_of(settings):
        raise InputError(
            f"{out}: holds {kept} predictions made with other settings than the "
            f"shares; move them, or the shares, to another folder"
        )
    owners = earlier.owners
    own = [name for name, (_, row) in chosen.items() if owners.get(name) == row["source"]]
    replaceable = {f"{name}{end}" for name in own for end in ENDS}
    for path in files:
        if str(path) not in replaceable and (out / path).exists():
            raise InputError(f"{out / path} exists and is not replaced; move it elsewhere first")


def _remove_shares(out: Path) -> None:
    """Removes the folders of joined shares, then the mark; a folder with outputs stays."""
    for folder in list_shares(out).values():
        if not _outputs(folder):
            shutil.rmtree(folder)
    (out / _JOINED).unlink()
