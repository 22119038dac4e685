"""A film's mask as NIfTI lies where ITK lays the film."""

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel", reason='needs pip install "jaxlung[ct]"')

from jaxlung.io.viewers.film_grid import make_film_grid  # noqa: E402
from jaxlung.io.volumes import write_mask  # noqa: E402


def test_right_is_right_and_up_is_up_with_the_spacing_of_the_film(tmp_path):
    mask_HxW = np.zeros((6, 8), np.uint8)
    mask_HxW[1, 2] = 1  # of a right lung, at the picture's left
    path = tmp_path / "film.nii.gz"
    write_mask(path, mask_HxW[None], make_film_grid(6, 8, (0.2, 0.1)))
    image = nibabel.load(path)
    assert image.shape == (8, 6, 1) and image.header.get_xyzt_units()[0] == "mm"
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_allclose(image.header.get_zooms(), (0.1, 0.2, 1))
    np.testing.assert_array_equal(np.asarray(image.dataobj)[..., 0].T, mask_HxW)
    assert image.header["sform_code"] > 0
    right_3 = image.affine[:3] @ [2, 1, 0, 1]  # R-A-S: the lower, the further to the left
    middle_3 = image.affine[:3] @ [3.5, 2.5, 0, 1]
    assert right_3[0] > middle_3[0] and right_3[1] > middle_3[1]
