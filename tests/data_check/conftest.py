"""Phantoms for all tests of this folder, of which each is measured once."""

import jax
import pytest

from jaxlung.data_check import files
from jaxlung.phantom import radiographs

COUNT, SIZE = 32, 128


@pytest.fixture(scope="session")
def phantoms():
    """Images and masks, uint8 [COUNT, SIZE, SIZE]."""
    return radiographs(jax.random.key(3), COUNT, size=SIZE)


@pytest.fixture(scope="session", autouse=True)
def each_pair_is_measured_once():
    """Tests change a pair or two of the 32; what the others show is known by their pixels."""
    measure, known = files._content, {}

    def measure_once(image, mask_HxW):
        arrays = (image, mask_HxW)
        pixels = tuple((array.dtype.str, array.shape, array.tobytes()) for array in arrays)
        key = (pixels, files.to_canvas)  # which a test replaces
        if key not in known:
            known[key] = measure(image, mask_HxW)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_content", measure_once)
        yield
