"""The films of a review: their names, what is known of each, and which needs eyes first."""

import dataclasses
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

from jaxlung.errors import InputError
from jaxlung.predict.batch.sources import Source

State = Literal["open", "accepted", "corrected", "rejected"]

LOW_CONFIDENCE = 0.9  # an expected Dice below this calls for eyes
SMALL_OVERLAP = 0.9  # so does a Dice below this with the mask given
_LONGEST = 150  # characters of a file's name, so that suffixes still fit
# `jaxlung train` and `jaxlung score` read these ends of a name otherwise.
_TAKEN = ("_mask", "_overlay", "_probability")


class Film(NamedTuple):
    """A film, or a volume, of the list."""

    place: int  # its place in the list, which moves when films join
    source: Source
    stem: str  # of its files in the review folder; it stays
    name: str  # as it is shown: the path below the one that the user named

    @property
    def id(self) -> str:
        """Its name in addresses and in what a browser keeps: it stays as the stem does."""
        return hashlib.sha256(self.stem.encode()).hexdigest()[:12]

    @property
    def kind(self) -> str:
        return "volume" if self.source.is_volume else "film"

    def about(self, text: object) -> str:
        """Returns a message about this film with its name in the place of its path."""
        words = str(text).replace(str(self.source), self.name)
        return printable(words.replace(str(self.source.path), self.name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of a film. It is kept on disk as JSON and never changes: see `replace`."""

    source: str  # `Source.place`
    stamp: str = ""  # of the file that was predicted
    ready: bool = False  # predicted, or known to be unreadable
    error: str | None = None
    height: int = 0
    width: int = 0
    slices: int = 1
    spacing: tuple[float, float] | None = None  # mm, height and width of a pixel
    warnings: tuple[str, ...] = ()
    confidence: float | None = None
    given_from: str = ""  # the folder of the mask that `given_dice` speaks of
    given_dice: float | None = None
    inverted: bool = False  # a negative, which the page shows turned over
    degrees: int = 0  # by which the film is rotated
    mirrored: bool = False  # the picture's left is the patient's left
    sides_known: bool = False
    first_slice: int = 0
    patient: str = ""  # a keyed digest; "": not known
    state: State = "open"
    reason: str = ""
    reviewer: str = ""
    time: str = ""  # of the last change by the reviewer, ISO 8601, UTC
    verdict: str = ""  # that change: accept, reject or reopen; "": a mask
    revision: int = 0  # counts the reviewer's changes
    edited: bool = False  # the current mask is not the model's first one
    usable: bool = True  # the current mask marks something, and not everything
    dice: float | None = None  # of the first mask and the current one

    @property
    def trains(self) -> bool:
        """Whether image and mask are handed on to training."""
        return self.usable and self.state in ("accepted", "corrected")

    @property
    def attention(self) -> float:
        """Returns how much the film needs eyes; 0: its place in the list decides.

        First come files that cannot be read, then warnings, then low confidence, then a large
        difference to the mask given.
        """
        doubt = 1 - (self.confidence or 0.0)
        if self.error:
            return 4.0
        if self.warnings:
            return 3 + doubt / 2
        if not self.ready:
            return 0.0
        if self.confidence is not None and self.confidence < LOW_CONFIDENCE:
            return 2 + doubt / 2
        if self.given_dice is not None and self.given_dice < SMALL_OVERLAP:
            return 1 + (1 - self.given_dice) / 2
        return 0.0

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def parse_row(values: Mapping[str, Any]) -> Row:
    """Makes a row of what `Row.to_dict` gave to a JSON file. Raises TypeError for other fields."""
    spacing = values["spacing"]
    return Row(
        **{
            **values,
            "warnings": tuple(values["warnings"]),
            "spacing": spacing and (float(spacing[0]), float(spacing[1])),
        }
    )


def describe(film: Film, row: Row) -> dict[str, Any]:
    """Describes a film as the page's list shows it."""
    return {
        "id": film.id,
        "index": film.place,
        "name": film.name,
        "kind": film.kind,
        "ready": row.ready,
        "height": row.height,
        "width": row.width,
        "slices": row.slices,
        "spacing": row.spacing,
        "warnings": row.warnings,
        "confidence": row.confidence,
        "given_dice": row.given_dice,
        "attention": round(row.attention, 4),
        "state": row.state,
        "reason": row.reason,
        "verdict": row.verdict,
        "revision": row.revision,
        "error": row.error,
    }


def printable(text: str) -> str:
    """Escapes the bytes of a file's name that are no UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def name_films(sources: Sequence[Source], known: Mapping[str, str]) -> list[Film]:
    """Names the files of each source in the review folder, which has no folders below.

    Args:
        known: the stems that an earlier start has given, by `Source.place`; they stay.

    Raises:
        InputError: two films have one id, by a chance of one in millions.
    """
    names = _show_names(sources)
    used = {stem.casefold() for stem in known.values()}
    films: list[Film] = []
    for source in sources:
        stem = known.get(source.place)
        if stem is None:
            stem = base = _make_stem(source)
            count = 1
            while stem.casefold() in used:  # some file systems do not tell case apart
                count += 1
                stem = f"{base}_{count}"
            used.add(stem.casefold())
        films.append(Film(len(films), source, stem, names[source]))
    ids: dict[str, Film] = {}
    for film in films:
        if film is not (other := ids.setdefault(film.id, film)):
            raise InputError(f"{film.source}: has the same digest as {other.source}; rename it")
    return films


def _show_names(sources: Sequence[Source]) -> dict[Source, str]:
    """Names films for the page; of films with one name, as much of their paths as differs."""
    alike: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        alike[printable(str(source.name))].append(source)
    names = {}
    for name, group in alike.items():
        if len(group) == 1:
            names[group[0]] = name
            continue
        paths = [PurePath(printable(str(source))).parts for source in group]
        longest = max(map(len, paths))
        length = len(group[0].name.parts)
        while len({parts[-length:] for parts in paths}) < len(paths) and length < longest:
            length += 1
        for source, parts in zip(group, paths, strict=True):
            names[source] = "/".join(parts[-length:])
    return names


def _make_stem(source: Source) -> str:
    parts = [part for part in source.name.parts if part not in ("/", "..")]
    stem = re.sub(r'[\x00-\x1f\\:*?"<>|]', "_", printable("__".join(parts))).strip(". ") or "film"
    if len(stem.encode()) > _LONGEST:
        digest = hashlib.sha256(os.fsencode(str(source.name))).hexdigest()[:8]
        stem = stem.encode()[: _LONGEST - 9].decode(errors="ignore") + "-" + digest
    return f"{stem}_film" if stem.lower().endswith(_TAKEN) else stem


class Conflict(Exception):
    """Another window was there first; holds the film's revision."""

    def __init__(self, revision: int):
        super().__init__(revision)
        self.revision = revision


class NotReady(Exception):
    """The film has yet to be predicted."""


def check_revision(row: Row, revision: int) -> None:
    if row.revision != revision:
        raise Conflict(row.revision)
