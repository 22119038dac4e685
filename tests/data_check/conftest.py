"""Phantoms for all tests of this folder."""

import jax
import pytest

from jaxlung.phantom import radiographs

COUNT, SIZE = 32, 128


@pytest.fixture(scope="session")
def phantoms():
    """Images and masks, uint8 [COUNT, SIZE, SIZE]."""
    return radiographs(jax.random.key(3), COUNT, size=SIZE)
