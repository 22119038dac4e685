"""A review: what is known of its films, and what the page changes. All is on disk when answered."""

import dataclasses
import itertools
import threading
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jaxlung.errors import InputError, one_line
from jaxlung.view import first, pictures
from jaxlung.view.films import Film, NotReady, Row, check_revision, describe
from jaxlung.view.reading import Reader, Setup, check_slice, measure_dice
from jaxlung.view.store import Store, write_review
from jaxlung.view.worker import Worker

_AHEAD = 3  # films that are predicted beyond the one that the page shows
_READ = 2  # of these, whose pixels are read too
_CHANGED = "the file has changed since it was reviewed: check the mask"
_LONGEST = 500  # characters of a reason or a name


class Review:
    """The state of a review; its methods may be called in any thread."""

    def __init__(self, setup: Setup, store: Store):
        """Reads the rows, and brings the files of a server that was killed in line with them."""
        self.setup, self.store, self.reader = setup, store, Reader(setup, store)
        self.films = {film.id: film for film in setup.films}
        self.reviewer = setup.reviewer
        self.lock = threading.RLock()
        self.finishing = threading.Lock()  # one report at a time
        self._key = store.read_key()
        # A later start goes on with larger numbers, so that a page that stayed open asks anew.
        self.change = int(time.time() * 1000)
        self._changed_at = dict.fromkeys(self.films, self.change)
        present = store.list_stems()
        self.rows = {film.id: self._read_row(film, film.stem in present) for film in setup.films}
        write_review(store.out, setup.settings, setup.films, self.reviewer)
        store.write_tables(self.list_rows())
        self.worker = Worker(list(self.films), self._is_done, self._predict)

    def _read_row(self, film: Film, has_files: bool) -> Row:
        row = self.store.read_row(film)
        if row.ready and not row.error and not self.store.first(film).exists():
            row = dataclasses.replace(row, ready=False)
        try:
            has_changed = bool(row.stamp) and row.stamp != film.source.stamp
        except InputError as error:
            return dataclasses.replace(row, error=film.about(error), ready=True)
        if (has_changed or row.error) and row.state == "open" and not row.edited:
            row = Row(source=row.source, revision=row.revision)  # predicted anew
            has_changed = False
        if has_changed:
            others = [one for one in row.warnings if one != _CHANGED]
            row = dataclasses.replace(row, warnings=(*others, _CHANGED))
        if row.state != "open" or row.edited or has_files:
            mask = None
            if row.trains and not row.edited and self.store.mask(film).exists():
                before = self.store.first(film).read_bytes()  # and no save that was not answered
                mask = before if before != self.store.mask(film).read_bytes() else None
            self.store.settle(
                film, row, lambda: self.reader.encode_image(film, row), mask, write=False
            )
        return row

    def list_rows(self) -> list[tuple[Film, Row]]:
        """Lists the films with what is known of each."""
        return [(film, self.rows[film.id]) for film in self.setup.films]

    # What the page asks for

    def summarise(self, since: int | None = None) -> dict[str, Any]:
        """Describes all films, or those that have changed since."""
        with self.lock:
            ids = [i for i, at in self._changed_at.items() if since is None or at > since]
            listed = [describe(self.films[i], self.rows[i]) for i in ids]
            if since is not None:
                return {"films": listed, "change": self.change}
            return {
                "films": listed,
                "reviewer": self.reviewer,
                "has_given": bool(self.setup.given),
                # What waits in a browser is of this review, not of another one on the same port.
                "review": self.store.derive("page")[:32],
                "change": self.change,
            }

    def _list_from(self, film_id: str) -> list[str]:
        """Lists a film and the open ones after it, in the page's order."""
        with self.lock:
            order = sorted(
                (i for i, row in self.rows.items() if row.state == "open" or i == film_id),
                key=lambda i: -self.rows[i].attention,
            )
        return order[order.index(film_id) :]

    def ask(self, film_id: str) -> None:
        """Has a film predicted now, and after it the next ones in the page's order."""
        self.worker.ask(self._list_from(film_id)[: 1 + _AHEAD])

    def read_ahead(self, film_id: str) -> None:
        """Reads the pixels of the next films, so that they are there when the page asks."""
        later = (i for i in self._list_from(film_id)[1:] if not self.rows[i].error)
        for i in itertools.islice(later, _READ):
            if not self.films[i].source.is_volume:  # a scan would take the place of all others
                self.reader.show(self.films[i], self.rows[i])

    def describe(self, film_id: str) -> dict[str, Any]:
        """Describes a film as the page needs it to show it. Raises as `Reader.show`."""
        return self.reader.describe(self.films[film_id], self.rows[film_id])

    def show(self, film_id: str, z: int) -> pictures.Shown:
        """Returns a film's pixels, or a slice's. Raises as `Reader.show`."""
        return self.reader.show(self.films[film_id], self.rows[film_id], z)

    def mask(self, film_id: str, z: int, which: str) -> tuple[np.ndarray, int]:
        """Returns a mask's labels, uint8 [H, W], and the film's revision.

        Args:
            which: "current", "first" or "given".

        Raises:
            NotReady: there is no mask yet.
            LookupError: there is no such slice, or no mask given.
            InputError: the film or the mask given cannot be read.
        """
        with self.lock:
            film, row = self.films[film_id], self._ready_row(film_id)
            check_slice(z, row.slices)
            if which == "given":
                labels = self.reader.given(film, row)
            else:
                labels = self.reader.labels(film, row, edited=which == "current" and row.edited)
            return (labels[z] if labels.ndim == 3 else labels), row.revision

    def probability(self, film_id: str, z: int) -> np.ndarray:
        """Returns the model's probabilities, uint8 [H, W], 255 is 1. Raises as `mask`."""
        check_slice(z, self._ready_row(film_id).slices)
        return self.reader.probability(self.films[film_id], z)

    def _ready_row(self, film_id: str) -> Row:
        row = self.rows[film_id]
        if row.error:
            raise InputError(row.error)
        if not row.ready:
            raise NotReady
        return row

    # What the page changes

    def save(self, film_id: str, z: int, mask_HxW: np.ndarray, revision: int) -> Row:
        """Keeps a corrected mask, of a film or of a slice.

        Args:
            mask_HxW: bool.
            revision: of the film that was corrected.

        Returns: the film's row, once all is on disk.

        Raises: as `mask`; Conflict: the film has another revision.
        """
        with self.lock:
            row = self._ready_row(film_id)
            check_revision(row, revision)
            check_slice(z, row.slices)
            film, output = self.films[film_id], self.setup.model.output
            first_labels = self.reader.labels(film, row, edited=False)
            if film.source.is_volume:
                labels = self.reader.labels(film, row, edited=row.edited).copy()
                labels[z] = first.label_slice(mask_HxW, labels[z], output)
            else:
                labels = first.label_mask(mask_HxW, row, output)
            mask = labels > 0
            data = pictures.encode_mask(mask, self.reader.grid(film))
            changed = self._reviewed(
                row,
                state="corrected",
                reason="",
                verdict="",
                edited=True,
                usable=first.is_usable(mask),
                dice=measure_dice(first_labels > 0, mask),
            )
            self._commit(film_id, changed, data)
            self.reader.keep_labels(film, labels, edited=True)
            return changed

    def judge(self, film_id: str, verdict: str, reason: str, revision: int) -> Row:
        """Accepts, rejects or reopens a film. Returns and raises as `save`.

        Raises:
            InputError: what cannot be read can only be rejected.
        """
        with self.lock:
            row = self.rows[film_id]
            check_revision(row, revision)
            if verdict == "accept":
                self._ready_row(film_id)
            states = {
                "accept": "corrected" if row.edited else "accepted",
                "reject": "rejected",
                "reopen": "open",
            }
            words = one_line(reason)[:_LONGEST] if verdict == "reject" else ""
            is_anew = verdict == "reopen" and self.reader.is_outdated(self.films[film_id], row)
            if is_anew:
                row = Row(source=row.source, revision=row.revision)
            changed = self._reviewed(row, state=states[verdict], reason=words, verdict=verdict)
            if verdict == "accept" and not row.edited:
                changed = dataclasses.replace(changed, dice=1.0)
            self._commit(film_id, changed)
            if is_anew:
                self.worker.ask([film_id])
            return changed

    def name_reviewer(self, name: str) -> str:
        """Keeps who reviews; asked once, and sent nowhere."""
        with self.lock:
            self.reviewer = one_line(name)[:_LONGEST]
            write_review(self.store.out, self.setup.settings, self.setup.films, self.reviewer)
            return self.reviewer

    def _reviewed(self, row: Row, **changes: Any) -> Row:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return dataclasses.replace(
            row, revision=row.revision + 1, reviewer=self.reviewer or "", time=now, **changes
        )

    def _commit(self, film_id: str, row: Row, mask: bytes | None = None) -> None:
        film, renew = self.films[film_id], False
        if mask is not None or row.trains:
            stamp = self.reader.stamp(film)
            renew = row.stamp != stamp
            warnings = tuple(words for words in row.warnings if words != _CHANGED or not renew)
            row = dataclasses.replace(row, stamp=stamp, warnings=warnings)
        self.store.settle(film, row, lambda: self.reader.encode_image(film, row), mask, renew=renew)
        self._set_row(film_id, row)
        self.store.write_tables(self.list_rows())

    def _set_row(self, film_id: str, row: Row) -> None:
        self.change += 1
        self.rows[film_id], self._changed_at[film_id] = row, self.change

    # In the background

    def _is_done(self, film_id: str) -> bool:
        row = self.rows[film_id]
        is_compared = film_id not in self.setup.given or row.given_from == str(self.setup.masks)
        return row.ready and (is_compared or row.error is not None)

    def _predict(self, film_id: str) -> None:
        film = self.films[film_id]
        if not self.rows[film_id].ready:
            try:
                found = first.predict_first(self.setup.models, film, self._key)
            except InputError as error:
                with self.lock:
                    row = dataclasses.replace(self.rows[film_id], ready=True, error=str(error))
                    self.store.write_row(film, row)
                    self._set_row(film_id, row)
                return
            self._keep(film_id, found)
        if not self._is_done(film_id):
            self._compare(film_id)

    def _keep(self, film_id: str, found: first.First) -> None:
        film = self.films[film_id]
        thumbnail = pictures.draw_thumbnail(
            found.shown, inverted=found.fields.get("inverted", False)
        )
        mask = pictures.encode_mask(found.labels > 0, first.grid_of(found.volume))
        self.store.write_first(film, mask, thumbnail)
        with self.lock:
            row, fields = self.rows[film_id], found.fields
            if row.edited:  # the current mask is another one
                fields = {**fields, "usable": row.usable}
            row = dataclasses.replace(row, **fields)
            self.store.write_row(film, row)
            self.reader.keep_first(film, found)
            self._set_row(film_id, row)

    def _compare(self, film_id: str) -> None:
        """Measures the model's mask against the one given."""
        with self.lock:
            film, row = self.films[film_id], self.rows[film_id]
            changes: dict[str, Any] = {"given_from": str(self.setup.masks), "given_dice": None}
            try:
                given = self.reader.given(film, row) > 0
                dice = measure_dice(self.reader.labels(film, row, edited=False) > 0, given)
                changes["given_dice"] = round(dice, 4)
            except InputError as error:
                changes["warnings"] = (*row.warnings, str(error))
            row = dataclasses.replace(row, **changes)
            self.store.write_row(film, row)
            self._set_row(film_id, row)
