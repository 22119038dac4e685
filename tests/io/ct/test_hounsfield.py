"""A volume is in Hounsfield units, is brought there where that is certain, or is refused."""

from pathlib import Path

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io.ct.hounsfield import apply_window, to_hounsfield
from jaxlung.io.volumes import Grid, Volume

PADDINGS = (None, -1000, -1024, -2000, -2048, -3024, 0)


def chest():
    """Noisy Hounsfield units [Z, H, W] with air about, fat, muscle, lung and some bone."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:80j]
    hu_HxW = np.full((64, 80), -1000.0)
    hu_HxW[x**2 / 0.8 + y**2 / 0.6 < 1] = -100
    hu_HxW[x**2 / 0.7 + y**2 / 0.5 < 1] = 50
    hu_HxW[((abs(x) - 0.4) ** 2 / 0.08 + y**2 / 0.25) < 1] = -850
    hu_HxW[58:60, 38:42] = 700
    hu_ZxHxW = hu_HxW + rng.normal(0, 15, (6, 64, 80))
    return np.clip(hu_ZxHxW, -1024, 3071).astype(np.int16)


def outside():
    y, x = np.mgrid[-1:1:64j, -1:1:80j]
    return np.hypot(x, y) > 1


def padded(voxels, padding):
    voxels = voxels.copy()
    if padding is not None:
        voxels[:, outside()] = padding
    return voxels


def check(voxels):
    grid = Grid(voxels.shape[::-1], np.eye(4), None)
    return to_hounsfield(Volume(voxels, (1.0, 1.0, 1.0), grid), Path("scan.nii"))


@pytest.mark.parametrize("padding", PADDINGS)
def test_hounsfield_units_stay_as_they_are(padding):
    voxels = padded(chest(), padding)
    found = check(voxels)
    assert found.voxels_ZxHxW is voxels and found.warnings == ()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_an_intercept_that_was_never_applied_is(padding, kind):
    stored = padded(chest() + 1024, padding).astype(kind)
    found = check(stored)
    inside = np.broadcast_to(~outside(), stored.shape)
    np.testing.assert_array_equal(found.voxels_ZxHxW[inside], chest()[inside])
    [warning] = found.warnings
    assert warning.startswith("not in Hounsfield units: 1024 was subtracted, as its air lies near")


def test_unsigned_values_go_below_zero():
    stored = np.clip(chest() + 1024, 0, 4095).astype(np.uint16)
    np.testing.assert_array_equal(check(stored).voxels_ZxHxW, chest())


def test_a_shift_by_1000_is_told_by_air_below_0():
    hu = chest() - 12  # of a scanner whose air is at -1012
    np.testing.assert_array_equal(check(hu + 1000).voxels_ZxHxW, hu)


def test_a_shift_by_1000_of_clipped_units_is_told_by_air_near_0():
    hu = chest().clip(-1000, 400)
    np.testing.assert_array_equal(check(hu + 1000).voxels_ZxHxW, hu)
    assert check(hu + 1000).warnings[0].startswith("not in Hounsfield units: 1000 was subtracted")


def test_an_intercept_that_was_applied_twice_is_taken_back():
    for padding in (None, -2000, -3024, 0):
        found = check(padded(chest() - 1024, padding))
        inside = np.broadcast_to(~outside(), chest().shape)
        np.testing.assert_array_equal(found.voxels_ZxHxW[inside], chest()[inside])
        assert "1024 was added" in found.warnings[0]


def test_the_ends_of_16_bits_do_not_overflow():
    voxels = padded(chest() + 1024, -32768)
    assert check(voxels).voxels_ZxHxW.min() == -32768  # the lowest value stays the lowest


def eight_bits(hu):
    return ((hu.clip(-1000, 400) + 1000) / 1400 * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (eight_bits, "air near -1000"),
        (lambda hu: -hu, "apply its rescale intercept"),
        (lambda hu: -np.where(abs(hu - 150) < 150, hu - 150, hu), "apply its rescale intercept"),
        (lambda hu: 1024 - hu, "Hounsfield units"),
        (lambda hu: hu * 10, "soft tissue near .* rescale it"),
        (lambda hu: padded(hu * 10, -1024), "soft tissue near .* rescale it"),
        (lambda hu: hu * 2, "Hounsfield units"),
        (lambda hu: hu // 2, "rescale it"),
        (lambda hu: padded(eight_bits(hu).astype(np.int16), -1000), "air near -1000"),
        (lambda hu: padded(eight_bits(hu).astype(np.int16), -2000), "air near -1000"),
        (lambda hu: eight_bits(hu) / np.float32(255), "air near -1000"),
        (lambda hu: (hu.astype(np.int32) + 32768).astype(np.uint16), "air near -1000"),
        (lambda hu: np.full_like(hu, -1000), "near"),
        # An MR: noise about, and all values above.
        (
            lambda hu: np.where(hu < -900, abs(hu + 1000), 200 + (hu + 1024) % 1500),
            "apply its rescale intercept",
        ),
    ],
)
def test_other_units_are_refused_in_one_line(change, words):
    with pytest.raises(InputError, match=f"^scan.nii: .*{words}") as error:
        check(change(chest()))
    assert "\n" not in str(error.value)


def test_real_scans(shared_data):
    """Every offset and padding of a real chest leads to the same values."""
    nibabel = pytest.importorskip("nibabel")
    scan = nibabel.load(shared_data / "ct" / "chest.nii.gz")
    hu = np.asarray(scan.dataobj)[::4, ::4, ::2].T.copy()
    edge = np.broadcast_to(np.hypot(*np.mgrid[-1:1:128j, -1:1:128j]) > 0.97, hu.shape)
    for offset in (0, 1024, -1024):
        for padding in PADDINGS[1:6]:
            voxels = hu + np.int16(offset)
            voxels[edge] = padding
            np.testing.assert_array_equal(check(voxels).voxels_ZxHxW[~edge], hu[~edge])
    for wrong in (-hu, hu * 10, hu * 2, hu // 2):
        with pytest.raises(InputError, match=r"^scan.nii: .*Hounsfield units"):
            check(wrong)
    clipped = hu.clip(-1000, 400)
    np.testing.assert_array_equal(check(clipped + 1000).voxels_ZxHxW, clipped)


def test_window():
    hu = np.array([-3000, -1350, -600, 150, 3000])
    np.testing.assert_array_equal(apply_window(hu, -1350, 150), [0, 0, 128, 255, 255])
