"""The TFDS builder of the phantoms, by TFDS's own builder test case."""

import jax
import numpy as np
import pytest

from jaxlung.data.builders import phantom as phantom_builder
from jaxlung.phantom import radiographs
from tests.helpers.builder_cases import check_builder

# TFDS and TensorFlow warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(phantom_builder, "SIZE", 32)
    monkeypatch.setattr(phantom_builder, "COUNTS", {"train": 3, "validation": 2, "test": 1})
    monkeypatch.setattr(phantom_builder, "_CHUNK", 2)


def test_phantom_by_tfds(tmp_path):
    splits = {"train": 3, "validation": 2, "test": 1}  # nothing is downloaded
    check_builder(phantom_builder.JaxlungPhantom, splits, tmp_path, SKIP_CHECKSUMS=True)


def test_builder_serves_the_phantoms_in_order(tmp_path):
    builder = phantom_builder.JaxlungPhantom(data_dir=tmp_path)
    builder.download_and_prepare()
    images, masks = radiographs(jax.random.key(0), 6, size=32)
    served = {
        example["id"].decode(): example
        for split in ("train", "validation", "test")
        for example in builder.as_dataset(split=split).as_numpy_iterator()
    }
    assert sorted(served) == [f"phantom_0_{i:05d}" for i in range(6)]
    for i in range(6):
        np.testing.assert_array_equal(served[f"phantom_0_{i:05d}"]["image"][..., 0], images[i])
        np.testing.assert_array_equal(served[f"phantom_0_{i:05d}"]["mask"][..., 0], masks[i])
