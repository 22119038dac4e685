"""Reads what the page shows of a film: pixels, masks, probabilities. The last ones are kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError, format_shape
from jaxlung.io.ct.labels import check_same_grid, read_label_volume
from jaxlung.io.images import SUFFIXES as PICTURES
from jaxlung.io.masks import read_mask
from jaxlung.io.volumes import SUFFIXES as VOLUMES
from jaxlung.io.volumes import Grid, Volume
from jaxlung.predict.batch.models import Models
from jaxlung.predict.predictor import Predictor
from jaxlung.view import first
from jaxlung.view.films import Film, Row, describe
from jaxlung.view.patients import read_header
from jaxlung.view.pictures import Cache, Shown, encode_film, encode_volume, show_slice
from jaxlung.view.store import Store


class Setup(NamedTuple):
    """What a review is of, and how it is shown."""

    models: Models
    films: Sequence[Film]
    settings: dict[str, Any]  # of review.json
    given: dict[str, Path]  # the files of --masks, by the film's id
    masks: Path | None  # --masks
    reviewer: str | None = None
    show_header: bool = False

    @property
    def is_of_volumes(self) -> bool:
        return self.films[0].source.is_volume

    @property
    def model(self) -> Predictor:
        """The model whose masks these are."""
        model = self.models.ct if self.is_of_volumes else self.models.xray or self.models.ct
        assert model is not None
        return model


class Reader:
    """Reads films and their masks; its methods may be called in any thread."""

    def __init__(self, setup: Setup, store: Store):
        self.setup, self.store, self.cache = setup, store, Cache()
        self._stamps: dict[str, str] = {}  # of the files whose pixels were read last, by film

    def describe(self, film: Film, row: Row) -> dict[str, Any]:
        """Describes a film as the page needs it to show it. Raises as `show`."""
        about = describe(film, row)
        if row.error:
            return about
        z = row.first_slice
        if film.source.is_volume and not row.ready:
            about["slices"] = len(self.volume(film).voxels_ZxHxW)
            z = about["slices"] // 2
        shown = self.show(film, row, z)
        height, width = shown.pixels_HxW.shape
        about.update(
            height=height,
            width=width,
            bits=shown.bits,
            low=shown.low,
            high=shown.high,
            inverted=row.inverted,
            first_slice=z,
            sides_known=row.sides_known,
        )
        if self.setup.show_header:
            with first.open_film(film) as path:
                about["header"] = read_header(path)
        return about

    def show(self, film: Film, row: Row, z: int = 0) -> Shown:
        """Returns a film's pixels, or a slice's.

        Raises:
            InputError: it cannot be read, or has another size than when it was predicted.
            IndexError: there is no such slice.
        """
        if row.ready and not self.fits(film, row):
            raise InputError(
                f"{film.name}: has another size than when it was predicted; reopen it, and it is "
                f"predicted anew"
            )
        if film.source.is_volume:
            voxels_ZxHxW = self.volume(film).voxels_ZxHxW
            check_slice(z, len(voxels_ZxHxW))
            return show_slice(voxels_ZxHxW[z])
        check_slice(z, 1)
        return self._pixels(film)

    def fits(self, film: Film, row: Row) -> bool:
        """Says whether a film has the size that it was predicted in."""
        if film.source.is_volume:
            shape = self.volume(film).voxels_ZxHxW.shape
            return shape == (row.slices, row.height, row.width)
        return self._pixels(film).pixels_HxW.shape == (row.height, row.width)

    def stamp(self, film: Film) -> str:
        """Returns the stamp of the file whose pixels the page shows."""
        if film.id not in self._stamps:
            _ = self.volume(film) if film.source.is_volume else self._pixels(film)
        return self._stamps[film.id]

    def is_outdated(self, film: Film, row: Row) -> bool:
        """Says whether a film's file is another one now, and no mask that was drawn fits it.

        What was read and made of it is forgotten then.
        """
        try:
            if not row.stamp or film.source.stamp == row.stamp:
                return False
            self.cache.drop(lambda key: film.id in key)
            self._stamps.pop(film.id, None)
            return not row.edited or not self.fits(film, row)
        except InputError:  # the prediction says why
            return True

    def _pixels(self, film: Film) -> Shown:
        shown: Shown = self._keep("pixels", film, first.read_shown)
        return shown

    def volume(self, film: Film) -> Volume:
        volume: Volume = self._keep("volume", film, first.read_volume)
        return volume

    def _keep(self, kind: str, film: Film, read: Callable[[Film], Any]) -> Any:
        """Returns what a film's file holds, from the cache or with the stamp of the file."""

        def read_anew() -> Any:
            with first.errors_named(film):
                self._stamps[film.id] = film.source.stamp
            return read(film)

        return self.cache.get((kind, film.id), read_anew)

    def encode_image(self, film: Film, row: Row) -> bytes:
        """Encodes what training gets of a film or a scan. Raises as `show`."""
        if film.source.is_volume:
            self.show(film, row)  # checks its size
            volume = self.volume(film)
            return encode_volume(volume.voxels_ZxHxW, volume.grid)
        return encode_film(self.show(film, row), inverted=row.inverted)

    def grid(self, film: Film) -> Grid | None:
        """Returns a scan's grid; None of a film."""
        return self.volume(film).grid if film.source.is_volume else None

    def labels(self, film: Film, row: Row, *, edited: bool) -> np.ndarray:
        """Returns the labels of the corrected mask or of the first one: uint8 [H, W] or [Z, H, W].

        The mask's file has no sides, since `jaxlung train` and `jaxlung score` want none.
        """

        def read() -> np.ndarray:
            path = self.store.current(film, row) if edited else self.store.first(film)
            if film.source.is_volume:
                mask = read_label_volume(path).voxels_ZxHxW > 0
            else:
                mask = read_mask(path)
            return first.label_mask(mask, row, self.setup.model.output)

        labels: np.ndarray = self.cache.get(("labels", film.id, edited), read)
        return labels

    def keep_labels(self, film: Film, labels: np.ndarray, *, edited: bool) -> None:
        """Keeps the labels of a mask that has just been written."""
        self.cache.put(("labels", film.id, edited), labels)

    def keep_first(self, film: Film, found: first.First) -> None:
        """Keeps what a prediction has read and made."""
        self._stamps[film.id] = found.fields["stamp"]
        self.keep_labels(film, found.labels, edited=False)
        if found.volume:
            self.cache.put(("volume", film.id), found.volume)
        else:
            self.cache.put(("pixels", film.id), found.shown)
            self.cache.put(("probability", film.id, 0), found.probability_HxW)

    def given(self, film: Film, row: Row) -> np.ndarray:
        """Returns the labels of the mask of --masks.

        Raises:
            LookupError: there is none.
            InputError: it cannot be read, or lies on another grid.
        """
        if film.id not in self.setup.given:
            raise LookupError("no mask is given for this film")
        path = self.setup.given[film.id]
        shape = (row.slices, row.height, row.width)[0 if film.source.is_volume else 1 :]

        def read() -> np.ndarray:
            try:
                mask = read_given(path, shape, self.grid(film))
            except InputError as error:
                words = str(error).replace(str(path), f"the mask given, {path.name}")
                raise InputError(film.about(words)) from error
            return first.label_mask(mask, row, self.setup.model.output)

        labels: np.ndarray = self.cache.get(("given", film.id), read)
        return labels

    def probability(self, film: Film, z: int) -> np.ndarray:
        """Returns the model's probabilities, uint8 [H, W], 255 is 1; they are on no disk."""

        def make() -> np.ndarray:
            if film.source.is_volume:
                return first.slice_probability(self.setup.model, self.volume(film).voxels_ZxHxW[z])
            return first.film_probability(self.setup.models, film)

        probability_HxW: np.ndarray = self.cache.get(("probability", film.id, z), make)
        return probability_HxW


def check_slice(z: int, slices: int) -> None:
    """Raises IndexError where a film has no such slice."""
    if not 0 <= z < slices:
        raise IndexError(f"there is no slice {z}; there are {slices}")


def find_given(folder: Path | None, films: Sequence[Film]) -> dict[str, Path]:
    """Finds the mask given of each film, by its id: a file of its name, or with _mask behind it.

    Raises:
        InputError: no mask of any film is in the folder.
    """
    if folder is None:
        return {}
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    found = {}
    for film in films:
        name = film.source.name
        ends = VOLUMES if film.source.is_volume else PICTURES
        for stem in dict.fromkeys((str(name), name.name, film.stem)):
            names = [f"{stem}{tail}{end}" for tail in ("", "_mask") for end in ends]
            if path := next((files[one] for one in names if one in files), None):
                found[film.id] = path
                break
    if not found:
        raise InputError(
            f"--masks {folder}: holds no mask of these {len(films)} films; name each as its film, "
            f"or with _mask behind the name"
        )
    return found


def read_given(path: Path, shape: tuple[int, ...], grid: Grid | None) -> np.ndarray:
    """Reads a mask, bool of the shape of the model's.

    Raises:
        InputError: it cannot be read, or lies on another grid.
    """
    if grid is None:
        mask = read_mask(path)
    else:
        volume = read_label_volume(path)
        check_same_grid(volume.grid, path, grid, Path("its scan"))
        mask = volume.voxels_ZxHxW > 0
    if mask.shape != shape:
        found, expected = format_shape(mask.shape), format_shape(shape)
        raise InputError(f"{path}: is {found}, but its film {expected}; give both one size")
    return mask


def measure_dice(mask: np.ndarray, other: np.ndarray) -> float:
    """Returns the Dice of two masks, bool of one shape; 1 of two empty ones.

    Example:
        >>> bool(measure_dice(np.array([True, True]), np.array([True, False])) == 2 / 3)
        True
    """
    total = np.count_nonzero(mask) + np.count_nonzero(other)
    return 2 * np.count_nonzero(mask & other) / total if total else 1.0
