"""Hashes: what changes them and what does not; groups of copies."""

import jax
import numpy as np
import pytest

from jaxlung.data import duplicates
from jaxlung.data.duplicates import (
    BITS,
    find_duplicates,
    invert_hash,
    mirror_hash,
    perceptual_hash,
    standardise,
)
from jaxlung.phantom import radiographs


def hash_of(image):
    return perceptual_hash(standardise(np.ascontiguousarray(image)))


def apart(first, second):
    return int(np.bitwise_count(first ^ second).sum())


@pytest.fixture(scope="module")
def films():
    return radiographs(jax.random.key(3), 16, size=128)[0]


def test_bits_of_mirrored_and_negative_films(films):
    for film in films[:6]:
        own = hash_of(film)
        assert own.shape == (32,) and own.dtype == np.uint8 and own[-1] & 1 == 0
        assert apart(mirror_hash(own), hash_of(film[:, ::-1])) <= 2  # signs of what is nearly 0
        assert apart(invert_hash(own), hash_of(255 - film)) <= 2
        assert apart(own, hash_of(255 - film)) >= BITS - 2


def test_brightness_and_contrast_hardly_count(films):
    for film in films[:6]:
        assert apart(hash_of(film), hash_of(film // 2 + 60)) <= 20


def test_different_films_are_no_copies(films):
    hashes = np.stack([hash_of(film) for film in films])
    assert find_duplicates(hashes, [str(i) for i in range(len(films))]) == []


def hashes_apart(*bits):
    """Hashes of which each differs from the first in so many bits, none of them shared."""
    rng = np.random.default_rng(0)
    first = np.append(rng.integers(0, 2, BITS), 0).astype(bool)
    hashes, start = [first], 0
    for n in bits:
        other = first.copy()
        other[start : start + n] ^= True
        start += n
        hashes.append(other)
    return np.packbits(np.stack(hashes), axis=1)


def test_limit_is_the_number_of_bits():
    hashes = hashes_apart(38, 39)
    groups = find_duplicates(hashes, ["a", "b", "c"])
    assert [(g.members, g.bits, g.is_exact, g.change) for g in groups] == [((0, 1), 38, False, "")]
    assert [g.members for g in find_duplicates(hashes, ["a", "b", "c"], limit=39)] == [(0, 1, 2)]


def test_equal_content_is_exact_whatever_the_hash():
    hashes = hashes_apart(100, 60)
    groups = find_duplicates(hashes, ["a", "b", "a"])
    assert [(g.members, g.is_exact) for g in groups] == [((0, 2), True)]
    assert find_duplicates(hashes, ["a", "b", "c"]) == []
    mixed = find_duplicates(hashes_apart(0, 5), ["a", "a", "c"])  # a chain through both kinds
    assert [(g.members, g.bits, g.is_exact) for g in mixed] == [((0, 1, 2), 5, False)]


def test_exact_groups_come_first_then_the_closest():
    hashes = np.concatenate([hashes_apart(30), ~hashes_apart(4)[:, ::-1] & 254])
    hashes = np.concatenate([hashes, np.roll(hashes_apart(0), 7, axis=1)])
    groups = find_duplicates(hashes, ["a", "b", "c", "d", "e", "e"])
    assert [g.members for g in groups] == [(4, 5), (2, 3), (0, 1)]


def test_pairs_do_not_depend_on_the_part_they_are_in(monkeypatch):
    hashes = np.random.default_rng(2).integers(0, 256, (40, 32), np.uint8) & 254
    hashes[33] = hashes[4] ^ np.packbits(np.arange(256) < 9)
    hashes[20] = mirror_hash(hashes[11])
    digests = [str(i) for i in range(40)]
    whole = find_duplicates(hashes, digests)
    assert {(g.members, g.change) for g in whole} == {((4, 33), ""), ((11, 20), "mirrored")}
    monkeypatch.setattr(duplicates, "_ROWS", 3)
    assert find_duplicates(hashes, digests) == whole


def test_a_flat_film_has_a_hash():
    assert hash_of(np.full((128, 128), 9, np.uint8)).shape == (32,)
