"""Writes the review folder. Every file appears whole, and is on disk when its function returns.

    images/ masks/ metadata.csv   accepted and corrected films, as `jaxlung train` takes them
    first_masks/                  the model's masks of all films
    review.csv                    what was decided of each film, by whom and when
    review.json                   which model and which films the review is of
    report/                       corrected against first masks, once the review was finished
    view/                         the server's own: a row for each film, thumbnails, masks set aside

A film's row decides: `settle` brings the files in line with it, whenever the server was killed.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxlung.errors import InputError
from jaxlung.system.files import lock_folder, write_durable
from jaxlung.view.films import Film, Row, parse_row, printable

SCHEMA = "jaxlung-review-1"  # changes when a field changes its meaning or goes
BUSY = "another jaxlung view has this review open; close it, or name another --out folder"
_FOLDERS = ("images", "masks", "first_masks", "view/rows", "view/thumbnails", "view/aside")
_REVIEW = ("id", "film", "state", "reason", "reviewer", "time", "dice_first_to_current")
_METADATA = ("id", "patient", "convention", "spacing_y_mm", "spacing_x_mm")


@contextlib.contextmanager
def hold(out: Path) -> Iterator[None]:
    """Makes the review folder and holds it for this process alone. Raises as `lock_folder`."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with lock_folder(out, BUSY):
            yield
    finally:
        with contextlib.suppress(OSError):  # nothing was written, for a mistake of the command line
            out.rmdir()


class Store:
    """Reads and writes the files of a review; the caller takes care of threads."""

    def __init__(self, out: Path, *, volumes: bool, convention: str):
        """Makes the folders.

        Args:
            volumes: the review is of scans; otherwise of films.
            convention: the structure that the masks mark.
        """
        self.out, self.convention = out, convention
        self.image_end = ".nii.gz" if volumes else ".png"
        # Patients' digests and the page's cookie hang on its key: for nobody else on this machine.
        (out / "view").mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _FOLDERS:
            (out / name).mkdir(parents=True, exist_ok=True)
            for partial in (out / name).glob(".*.partial"):  # of a server that was killed
                partial.unlink()
        self._written: dict[str, str] = {}

    def image(self, film: Film) -> Path:
        return self.out / "images" / f"{film.stem}{self.image_end}"

    def mask(self, film: Film) -> Path:
        return self.out / "masks" / f"{film.stem}{self.image_end}"

    def first(self, film: Film) -> Path:
        return self.out / "first_masks" / f"{film.stem}{self.image_end}"

    def aside(self, film: Film) -> Path:
        """A corrected mask of a film that is not handed on: it was rejected, say."""
        return self.out / "view" / "aside" / f"{film.stem}{self.image_end}"

    def thumbnail(self, film: Film) -> Path:
        return self.out / "view" / "thumbnails" / f"{film.stem}.jpg"

    def _row(self, film: Film) -> Path:
        return self.out / "view" / "rows" / f"{film.stem}.json"

    def list_stems(self) -> set[str]:
        """Lists the stems of all films that have a file which only some states have."""
        folders = (self.out / "images", self.out / "masks", self.out / "view" / "aside")
        files = (path.name for folder in folders for path in folder.iterdir())
        return {name.removesuffix(self.image_end) for name in files}

    def read_key(self) -> bytes:
        """Returns the key of the patients' digests; it is made with the review."""
        path = self.out / "view" / "key"
        if not path.exists():
            write_durable(path, secrets.token_bytes(32))
        with contextlib.suppress(OSError):  # another account's: it can be read all the same
            path.chmod(0o600)
        return path.read_bytes()

    def derive(self, purpose: str) -> str:
        """Derives a secret of this review for one purpose, the same at each start."""
        return hashlib.blake2b(purpose.encode(), key=self.read_key(), digest_size=32).hexdigest()

    def read_row(self, film: Film) -> Row:
        """Reads what is known of a film; a new row where nothing is.

        Raises:
            InputError: the row is damaged.
        """
        path, fresh = self._row(film), Row(source=film.source.place)
        try:
            row = parse_row(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return fresh
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is damaged ({error}); remove it") from error
        return row

    def write_row(self, film: Film, row: Row) -> None:
        write_durable(self._row(film), json.dumps(row.to_dict()).encode())

    def write_first(self, film: Film, mask: bytes, thumbnail: bytes) -> None:
        """Writes the model's mask, and the picture of the list."""
        write_durable(self.first(film), mask)
        write_durable(self.thumbnail(film), thumbnail)

    def current(self, film: Film, row: Row) -> Path:
        """Returns the file of the film's current mask."""
        if not row.edited:
            return self.first(film)
        places = [self.mask(film), self.aside(film)]
        wanted, other = places if row.trains else reversed(places)
        return wanted if wanted.exists() else other

    def settle(
        self,
        film: Film,
        row: Row,
        encode_image: Callable[[], bytes],
        mask: bytes | None = None,
        *,
        renew: bool = False,
        write: bool = True,
    ) -> None:
        """Writes a film's row, and brings its files in line with it.

        The row is written after what it promises and before what it gives up, so that a server may
        be killed at any moment: then the start settles each film again.

        Args:
            encode_image: makes the file in images/.
            mask: the file of the current mask; None: as it is.
            renew: write the image again, as the film's file has changed.
            write: False: the row is on disk already.
        """
        if row.trains:
            if renew or not self.image(film).exists():
                write_durable(self.image(film), encode_image())
            if mask is None and not self.mask(film).exists():
                mask = self.current(film, row).read_bytes()
            if mask is not None:
                write_durable(self.mask(film), mask)
        elif row.edited:
            if mask is None and not self.aside(film).exists():
                mask = self.mask(film).read_bytes()
            if mask is not None:
                write_durable(self.aside(film), mask)
        if write:
            self.write_row(film, row)
        if not row.trains:
            self.mask(film).unlink(missing_ok=True)
            self.image(film).unlink(missing_ok=True)
        if row.trains or not row.edited:
            self.aside(film).unlink(missing_ok=True)

    def write_tables(self, rows: Iterable[tuple[Film, Row]]) -> None:
        """Writes review.csv and metadata.csv where they have changed."""
        rows = list(rows)
        self._write_table("review.csv", _REVIEW, map(_describe, *zip(*rows, strict=True)))
        described = (self._describe_image(film, row) for film, row in rows if row.trains)
        self._write_table("metadata.csv", _METADATA, described)

    def _describe_image(self, film: Film, row: Row) -> tuple[Any, ...]:
        # NIfTI has its spacing itself; PNG has lost that of DICOM.
        spacing = row.spacing if row.spacing and not film.source.is_volume else ("", "")
        return film.stem, row.patient or film.stem, self.convention, *spacing

    def _write_table(self, name: str, header: tuple[str, ...], rows: Iterable[Any]) -> None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
        if self._written.get(name) != text.getvalue():
            write_durable(self.out / name, text.getvalue().encode())
            self._written[name] = text.getvalue()


def _describe(film: Film, row: Row) -> tuple[Any, ...]:
    dice = "" if row.dice is None else f"{row.dice:.4f}"
    return film.stem, film.name, row.state, row.reason, row.reviewer, row.time, dice


def read_review(out: Path) -> dict[str, Any]:
    """Reads review.json; {} where no review has begun.

    Raises:
        InputError: it is damaged, or of another version.
    """
    path = out / "review.json"
    try:
        review = json.loads(path.read_text(encoding="utf-8"))
        if review["schema"] != SCHEMA:
            raise ValueError(f"its schema is {review['schema']!r}, not {SCHEMA!r}")
        return {"settings": dict(review["settings"]), "films": dict(review["films"]), **review}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged ({error}); remove it, or name another --out folder"
        ) from error


def check_same(out: Path, review: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuses to go on with a review under other settings than it began with.

    Raises:
        InputError: in a line that names the first difference.
    """
    before = review.get("settings", settings)
    if before["kind"] != settings["kind"]:
        raise InputError(
            f"{out}: holds a review of {before['kind']}s, and these are {settings['kind']}s; name "
            f"another --out folder"
        )
    for field in settings:
        if field != "model" and before.get(field) != settings[field]:
            same = before.get("model") == settings["model"]
            what = f" ({field} was {before.get(field)})" if same else ""
            raise InputError(
                f"{out}: holds a review of the masks of {before.get('model')}{what}, and this is "
                f"{settings['model']}; give the same flags as then, or name another --out folder"
            )


def check_films(out: Path, review: Mapping[str, Any], films: Iterable[Film]) -> None:
    """Refuses to go on with a review of other films; further ones may join it.

    Raises:
        InputError: films of the review are not among those that were found.
    """
    known: Mapping[str, str] = review.get("films", {})
    if missing := known.keys() - {film.source.place for film in films}:
        raise InputError(
            f"{out}: holds a review of {len(known)} films, of which {len(missing)} are not among "
            f"these ({printable(min(missing))}); give the same paths as then, or name another "
            f"--out folder"
        )


def write_review(
    out: Path, settings: Mapping[str, Any], films: Iterable[Film], reviewer: str | None
) -> None:
    """Writes review.json."""
    review = {
        "schema": SCHEMA,
        "settings": dict(settings),
        "reviewer": reviewer,
        "films": {film.source.place: film.stem for film in films},
    }
    write_durable(out / "review.json", (json.dumps(review, indent=1) + "\n").encode())


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a file a second name; where that is not possible, copies it."""
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())
