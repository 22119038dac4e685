"""The simulated lateral films: functions of the key, and unlike frontal ones."""

import jax
import numpy as np

from jaxlung.gate import examine
from jaxlung.gate.image import WORDS
from jaxlung.phantom.lateral import lateral_radiographs


def test_films_depend_on_key_and_place_alone():
    films = lateral_radiographs(jax.random.key(3), 5, size=64)
    assert films.shape == (5, 64, 64) and films.dtype == np.uint8
    assert (lateral_radiographs(jax.random.key(3), 2, size=64, start=3) == films[3:]).all()
    assert (lateral_radiographs(jax.random.key(4), 5, size=64) != films).any((1, 2)).all()
    assert all(film.std() > 20 for film in films)


def test_the_gate_tells_them_whichever_way_they_face():
    """Others than those that it was fitted to."""
    films = lateral_radiographs(jax.random.key(77), 32, size=128)
    told = [examine(film).warnings == (WORDS["lateral"],) for film in films]
    mirrored = [examine(film[:, ::-1]).warnings == (WORDS["lateral"],) for film in films]
    assert sum(told) >= 30 and mirrored == told
