"""A film's mask as NIfTI lies where ITK lays the film."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom", reason='needs pip install "jaxlung[dicom]"')
nibabel = pytest.importorskip("nibabel", reason='needs pip install "jaxlung[ct]"')

from pydicom.uid import (  # noqa: E402
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)

from jaxlung.io.viewers.film_grid import make_film_grid, read_film_spacing  # noqa: E402
from jaxlung.io.volumes import write_mask  # noqa: E402
from tests.helpers.dicom_files import dicom, saved  # noqa: E402


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


DETECTOR, CALIBRATED = {"ImagerPixelSpacing": [0.2, 0.1]}, {"PixelSpacing": [0.18, 0.09]}


@pytest.mark.parametrize(
    ("kind", "header", "spacing"),
    [  # as SimpleITK 2.5.7 reads these files
        (DigitalXRayImageStorageForPresentation, DETECTOR | CALIBRATED, (0.2, 0.1)),
        (ComputedRadiographyImageStorage, DETECTOR, (0.2, 0.1)),
        (ComputedRadiographyImageStorage, CALIBRATED, None),
        (SecondaryCaptureImageStorage, DETECTOR | CALIBRATED, (0.18, 0.09)),
        (SecondaryCaptureImageStorage, DETECTOR, None),
    ],
)
def test_the_spacing_of_dicom_is_the_one_that_viewers_take(kind, header, spacing, tmp_path):
    film = dicom(np.zeros((6, 8), np.uint8), **header)
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = kind
    assert read_film_spacing(saved(tmp_path / "film", film)) == spacing


def test_the_spacing_of_pictures_is_the_one_that_viewers_take(tmp_path):
    film = Image.fromarray(np.zeros((6, 8), np.uint8))
    for name, dpi, spacing in (
        ("a.jpg", {"dpi": (72, 144)}, (25.4 / 144, 25.4 / 72)),
        ("b.jpg", {}, None),
        ("c.tif", {"dpi": (72, 144)}, (25.4 / 144, 25.4 / 72)),
        ("d.tif", {}, None),
        ("e.png", {"dpi": (72, 72)}, None),
    ):
        film.save(tmp_path / name, **dpi)
        assert read_film_spacing(tmp_path / name) == (spacing and pytest.approx(spacing)), name
