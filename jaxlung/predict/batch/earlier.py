"""What a folder of predictions holds already, and what of a batch is therefore left to do."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxlung.errors import InputError
from jaxlung.predict.batch.outputs import Job, Options
from jaxlung.predict.batch.summary import CSV, JOURNAL, JSON, SCHEMA, Row


class Earlier(NamedTuple):
    """What a folder of predictions holds."""

    settings: Row | None  # that the predictions were made with; None: there are none
    rows: Mapping[str, Row]  # by the outputs' name
    pending: Mapping[str, str]  # name to source, of a batch that was interrupted
    passed_over: Mapping[str, int]  # files of the last batch's folders that are no image, by kind

    @property
    def owners(self) -> dict[str, str]:
        """The source of each name whose outputs are there, or may be."""
        return {**{name: row["source"] for name, row in self.rows.items()}, **self.pending}

    def is_of(self, settings: Row) -> bool:
        """Tells whether it was made with these settings, wherever the model's folder lies."""
        anywhere = {"model": ""}
        return self.settings is not None and self.settings | anywhere == settings | anywhere

    def split(
        self, jobs: Sequence[Job], settings: Row, options: Options
    ) -> tuple[list[Job], dict[str, Row]]:
        """Decides what a batch does.

        Returns:
            The jobs to do: all, but for what is done already where the batch resumes one of the
            same settings. And the rows to keep in the summary: all, if they have the settings.
        """
        kept = dict(self.rows) if self.is_of(settings) else {}
        if not options.resume:
            return list(jobs), kept
        strict = options.strict
        return [job for job in jobs if not job.is_done(kept.get(job.name), strict=strict)], kept


def check_nothing_lost(
    earlier: Earlier, jobs: Sequence[Job], todo: Sequence[Job], settings: Row, options: Options
) -> None:
    """Refuses to mix predictions of different settings, and to replace what is not its own.

    Args:
        jobs, todo: all of the batch, and those to do.

    Raises:
        InputError: the folder holds predictions of another model or other settings, which
            `overwrite` does not replace one and all; or an output exists that is not of the same
            source in a batch that this one resumes. `overwrite` replaces that too, unless this is a
            share: `join`, which replaces none of them, would refuse its work.
    """
    same, replaces = earlier.is_of(settings), options.overwrite and not options.share
    kept = {name for name, row in earlier.rows.items() if row["status"] == "ok"}
    if replaces:
        kept -= {job.name for job in jobs}
    if kept and not same:
        before = earlier.settings or {}
        changed = (f for f in settings if f != "model" and before.get(f) != settings[f])
        field = next(changed, "settings")
        helps = not options.share and not options.overwrite and kept <= {job.name for job in jobs}
        remedy = ", or pass --overwrite to replace them all" if helps else ""
        raise InputError(
            f"{options.out}: holds {len(kept)} predictions made otherwise ({field}: "
            f"{before.get(field)} then, {settings.get(field)} now); give the same flags as then, "
            f"name another --out folder{remedy}"
        )
    if replaces:
        return
    owners = earlier.owners if (options.resume or options.overwrite) and same else {}
    remedy = "move it elsewhere first, or name another --out folder"
    if not options.overwrite:
        remedy = (
            "name another --out folder, or pass --resume to go on with what was interrupted, or "
            "--overwrite"
        )
    for job in todo:
        owner = owners.get(job.name)
        if owner != job.source.place:
            owned = f", of {owner}," if owner else ""
            for target in filter(options.holds, job.outputs):
                raise InputError(f"{target} exists{owned} and is not replaced; {remedy}")


def read_earlier(folder: Path) -> Earlier:
    """Reads what earlier batches have left, with the rows of a batch that was killed.

    Raises:
        InputError: a summary that is damaged, of another version, or not jaxlung's.
    """
    for name, read in ((JOURNAL, _read_journal), (JSON, _read_summary)):  # a journal has it all
        path = folder / name
        try:
            return read(path.read_text(encoding="utf-8"))
        except FileNotFoundError:  # or another process has just made its journal a summary
            continue
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"{path}: is damaged ({error}); remove it, or name another --out folder"
            ) from error
    if (folder / CSV).exists():
        raise InputError(
            f"{folder / CSV}: exists, without {JSON}; remove it, or name another --out folder"
        )
    return Earlier(None, {}, {}, {})


def _read_journal(text: str) -> Earlier:
    head, *lines = text.split("\n")[:-1]  # the last may be torn
    start = json.loads(head)
    return Earlier(
        dict(start["settings"]), _by_name(map(json.loads, lines)), dict(start["pending"]), {}
    )


def _read_summary(text: str) -> Earlier:
    summary = json.loads(text)
    if summary["schema"] != SCHEMA:
        raise ValueError(f"its schema is {summary['schema']!r}, not {SCHEMA!r}")
    passed_over = dict(summary.get("passed_over", {}))
    return Earlier(dict(summary["settings"]), _by_name(summary["images"]), {}, passed_over)


def _by_name(rows: Iterable[Row]) -> dict[str, Row]:
    return {row["name"]: row for row in rows if row["status"] and row["source"]}
