"""Draws the pictures that the gate is fitted to, of every class, from films, CT and phantoms.

A picture depends on the seed and on its own place alone.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits
from jaxlung.gate.classifier import CLASSES
from jaxlung.gate.features import SIDE, small_square
from jaxlung.io.grey import to_grey8
from jaxlung.phantom import radiographs
from jaxlung.phantom.lateral import lateral_radiographs
from jaxlung.system.threads import count_workers
from tools.gate_ct import Body
from tools.gate_films import mild, part, photographed, scrambled
from tools.gate_pictures import SIZE, other

SEED = 0
# Pictures of each class made of a film; `_of_film` says how.
DRAWS = {
    "upright": 8,
    "inverted": 4,
    "turned 90": 2,
    "turned 180": 2,
    "turned 270": 2,
    "part": 4,
    "photographed": 2,
    "other": 4,
}
FILMS = 400  # of a set: those of a smaller one are drawn several times
PHANTOMS = 200  # simulated films from the front
LATERALS = 900  # simulated films from the side, each drawn twice
PROJECTIONS = 160  # of each CT volume from the side, and half as many from the front
SLICES = 300  # of each CT volume, two thirds of them axial


Drawn = list[tuple[np.ndarray, int]]  # squares uint8 [SIDE, SIDE], and their places in CLASSES


def films(directories: Sequence[Path], split: str = "train") -> list[list[np.ndarray]]:
    """Reads the grey images of a split of each folder, uint8 [SIZE, SIZE], stretched to squares."""
    found = []
    for directory in directories:
        chosen = load_splits(DataConfig(name="folder", dir=str(directory)))[split]
        greys = (to_grey8(chosen.read(i).image) for i in range(len(chosen.ids)))
        found.append([cv2.resize(g, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for g in greys])
    return found


def of_films(
    sets: Sequence[Sequence[np.ndarray]], names: Sequence[str] = tuple(DRAWS), least: int = FILMS
) -> Drawn:
    """Draws pictures of the named classes of each set's films, and of at least so many of them."""
    places = [(s, i) for s, own in enumerate(sets) for i in range(max(least, len(own)))]
    return _drawn(lambda place: _of_film(place[0], place[1], sets[place[0]], names), places)


def of_phantoms() -> Drawn:
    """Draws simulated films, from the front and from the side."""
    key = jax.random.key(SEED)
    frontals, _ = radiographs(key, PHANTOMS, size=SIZE)
    laterals = lateral_radiographs(key, LATERALS, size=SIZE)
    places = [(i, film, "upright") for i, film in enumerate(frontals)]
    places += [(i, film, "lateral") for i, film in enumerate(laterals)]
    return _drawn(lambda place: _of_phantom(*place), places)


def of_volumes(paths: Sequence[Path]) -> Drawn:
    """Draws films and slices of CT volumes."""
    return _drawn(lambda pair: _of_volume(*pair), list(enumerate(paths)))


def _drawn(draw: Callable[[Any], Drawn], places: Sequence[Any]) -> Drawn:
    with ThreadPoolExecutor(count_workers()) as pool:
        return [pair for drawn in pool.map(draw, places) for pair in drawn]


def _of_film(source: int, index: int, own: Sequence[np.ndarray], names: Sequence[str]) -> Drawn:
    drawn = []
    for name in names:
        label = CLASSES.index(name)
        for k in range(DRAWS[name]):
            rng = np.random.default_rng([SEED, source, index, label, k])
            film, second = own[index % len(own)], own[int(rng.integers(len(own)))]
            drawn.append((_square(_draw(name, film, second, rng)), label))
    return drawn


def _draw(name: str, film: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Makes a picture of a class, uint8 [H, W], from a film; `second` is any other film."""
    grey = mild(film, rng)
    if name == "inverted":  # negatives of turned films too: `image.examine` looks at them again
        return 255 - np.rot90(grey, int(rng.choice([0, 0, 0, 1, 2, 3])))
    if name.startswith("turned"):
        return np.rot90(grey, -int(name.split()[1]) // 90)
    if name == "part":
        return part(grey, rng)
    if name == "photographed":
        return photographed(grey, rng)
    if name == "other":
        return other(rng) if rng.random() < 0.86 else scrambled(film, second, rng)
    return grey


def _of_phantom(index: int, film: np.ndarray, name: str) -> Drawn:
    rng = np.random.default_rng([SEED, CLASSES.index(name), index])
    changed = mild(film, rng)
    drawn = [(_square(picture), CLASSES.index(name)) for picture in (film, changed)]
    if name == "upright":
        drawn.append((_square(255 - changed), CLASSES.index("inverted")))
    return drawn


def _of_volume(index: int, path: Path) -> Drawn:
    body, rng = Body(path), np.random.default_rng([SEED, index])
    upright, lateral, other_, ct = map(CLASSES.index, ("upright", "lateral", "other", "ct"))
    drawn = []
    for k in range(PROJECTIONS):
        drawn.append((_square(mild(body.project(rng, side=True), rng)), lateral))
        if k % 2:
            drawn.append((_square(mild(body.project(rng, side=False), rng)), upright))
    for _ in range(SLICES):
        axis = int(rng.choice([0, 0, 0, 0, 1, 2]))
        drawn.append((_square(body.slice(rng, axis)), other_ if axis else ct))
    return drawn


def _square(picture: np.ndarray) -> np.ndarray:
    square_SxS = np.rint(small_square(np.ascontiguousarray(picture))[0]).astype(np.uint8)
    assert square_SxS.shape == (SIDE, SIDE)
    return square_SxS
