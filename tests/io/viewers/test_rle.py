"""Run lengths are those that COCO's own tools read."""

import numpy as np
import pytest

from jaxlung.io.viewers.rle import encode_runs

coco = pytest.importorskip("pycocotools.mask", reason='needs pip install -e ".[test]"')


# pycocotools 2.0.11 has numpy arrays of an older kind.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_pycocotools_decodes_what_was_encoded(share):
    mask_HxW = np.random.default_rng(0).random((7, 5)) < share
    runs = encode_runs(mask_HxW)
    decoded = coco.decode(coco.frPyObjects(runs, *mask_HxW.shape))
    np.testing.assert_array_equal(decoded, mask_HxW)
    assert sum(runs["counts"]) == mask_HxW.size
