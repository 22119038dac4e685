"""DICOM in: shown as the standard says, spacing, modality and sides told, no patient."""

import contextlib
import functools
import io
import logging
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom", reason='needs pip install "jaxlung[dicom]"')
gdcm = pytest.importorskip("gdcm", reason='needs pip install "jaxlung[dicom]"')

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.encaps import encapsulate, generate_frames  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from jaxlung.data.folder import find_pairs, list_images, load_pairs  # noqa: E402
from jaxlung.data.metadata import read_metadata  # noqa: E402
from jaxlung.errors import InputError  # noqa: E402
from jaxlung.io.dicom import display  # noqa: E402
from jaxlung.io.dicom.display import window  # noqa: E402
from jaxlung.io.dicom.file import read_dicom  # noqa: E402
from jaxlung.io.dicom.signature import is_dicom  # noqa: E402
from jaxlung.io.film import check_xray  # noqa: E402
from jaxlung.io.images import read_film, read_image, read_size  # noqa: E402
from jaxlung.io.masks import read_mask  # noqa: E402
from jaxlung.predict.batch.outputs import Options, plan_jobs  # noqa: E402
from jaxlung.predict.batch.sources import find_sources  # noqa: E402
from jaxlung.preprocess import to_canvas  # noqa: E402
from jaxlung.system.silence import silence  # noqa: E402
from tests.helpers.dicom_files import compressed, dicom, saved  # noqa: E402
from tests.helpers.refusals import assert_refused  # noqa: E402

SHAPE = (24, 20)
FLOAT32 = dict(rtol=0, atol=1e-6)  # one rounding of values in [0, 1] to float32
SECRETS = dict(
    PatientName="Zacharias^Quux",
    PatientID="QX-4711",
    InstitutionName="Sanatorium Xyzzy",
    ReferringPhysicianName="Plugh^Doctor",
    AccessionNumber="ACC99817",
    StudyID="ST-55217",
    PatientBirthDate="19320229",
    StudyDescription="Thorax Wibble",
    SpecificCharacterSet="QX-4711",
)


def film12(dtype=np.uint16):
    """Values over all of 0 to 4095, or with a signed dtype over -2048 to 2047."""
    down, across = np.indices(SHAPE)
    wave = (np.sin(down / 5) + np.cos(across / 4) + 2) / 4 * 3600
    values = wave.astype(np.int64) + 200
    values[0, 0], values[-1, -1] = 0, 4095
    return (values - (2048 if np.dtype(dtype).kind == "i" else 0)).astype(dtype)


def film8():
    return (film12() >> 4).astype(np.uint8)


def shown(path, pixels, bits=None, **attributes):
    return read_dicom(saved(path / "a.dcm", dicom(pixels, bits, **attributes))).image


def table(entries, first, bits, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, np.uint16).tobytes())
    return [item]


def shipped(name):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom does not ship {name}")
    return path


# --- from stored values to what is shown ---------------------------------------------------


def test_without_transformation_16_bits_are_stretched_from_lowest_to_highest(tmp_path):
    image = shown(tmp_path, film12(), 12)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, film12() / 4095, **FLOAT32)


@pytest.mark.parametrize(
    ("dtype", "fill", "attributes"),
    [
        (np.int16, -2000, {"PixelPaddingValue": -2000}),
        (np.int16, -2000, {"PixelPaddingValue": -3000, "PixelPaddingRangeLimit": -2000}),
        (np.uint16, 4095, {"PixelPaddingValue": 4095}),
        (np.uint16, 4095, {"PixelPaddingValue": 4095, "RescaleSlope": -1, "RescaleIntercept": 9}),
    ],
)
def test_padding_has_no_part_in_the_stretch(tmp_path, dtype, fill, attributes):
    """A black frame about values of 100 to 300, which alone go from black to white."""
    pixels = np.full(SHAPE, fill, dtype)
    pixels[4:-4, 4:-4] = np.linspace(100, 300, 16 * 12).reshape(16, 12).astype(dtype)
    image = shown(tmp_path, pixels, 12, **attributes)
    inner = (pixels[4:-4, 4:-4] - 100) / 200
    inverted = attributes.get("RescaleSlope") == -1
    np.testing.assert_allclose(image[4:-4, 4:-4], 1 - inner if inverted else inner, **FLOAT32)
    assert image[0, 0] == 0


@pytest.mark.parametrize(
    "window", [{}, {"WindowCenter": 2000, "WindowWidth": 3000}, {"VOILUTSequence": "identity"}]
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("fill", [0, 4095])
def test_named_padding_is_black(tmp_path, window, photometric, fill):
    if "VOILUTSequence" in window:
        window = {"VOILUTSequence": table(np.arange(4096), 0, 12)}
    pixels = film12().clip(1, 4094)
    attributes = {"PhotometricInterpretation": photometric, **window}
    inner = shown(tmp_path, pixels, 12, **attributes)[4:-4, 4:-4]
    pixels[:4] = pixels[-4:] = pixels[:, :4] = pixels[:, -4:] = fill
    far = 9 if fill == 0 else 4090
    for padding in ({}, {"PixelPaddingRangeLimit": far}):
        if padding:
            pixels[5, 5] = far
        image = shown(tmp_path, pixels, 12, **attributes, **padding, PixelPaddingValue=fill)
        assert not image[pixels == fill].any() and image.max() > 0.5
        assert (image[5, 5] == 0) == bool(padding)
        if window:  # else the image's own values are stretched
            np.testing.assert_allclose(image[6:-6, 6:-6], inner[2:-2, 2:-2], **FLOAT32)


def test_named_padding_of_8_bits_is_black(tmp_path):
    pixels = film8()
    pixels[:4] = 0
    attributes = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0}
    expected = np.where(pixels == 0, 0, 255 - pixels)
    np.testing.assert_array_equal(shown(tmp_path, pixels, **attributes), expected)


@pytest.mark.parametrize("count", [1, 8])
def test_a_marker_at_full_range_does_not_darken_the_film(tmp_path, count):
    pixels = film12()
    pixels = np.tile(pixels, (2, 2))
    plain = shown(tmp_path, pixels, 16)
    pixels[0, :count] = 65535
    marked = shown(tmp_path, pixels, 16)
    assert (marked[0, :count] == 1).all()
    np.testing.assert_array_equal(marked[1:], plain[1:])


def test_values_without_padding_are_not_copied(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(display, "find_range", lambda values: seen.append(values.shape) or (0, 1))
    shown(tmp_path, film12(), 12)
    assert seen == [film12().shape]  # a selection has one axis


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("vr", ["SS", "US"])
def test_negative_padding_however_it_is_written(tmp_path, syntax, vr):
    pixels = film12(np.int16)
    pixels[:3] = -2048
    dataset = dicom(pixels, 12)
    dataset.add_new("PixelPaddingValue", vr, -2048 if vr == "SS" else 2**16 - 2048)
    image = read_dicom(saved(tmp_path / "a.dcm", dataset, syntax)).image
    low, high = int(pixels[3:].min()), int(pixels.max())
    np.testing.assert_allclose(image[3:], (pixels[3:] - low) / (high - low), **FLOAT32)


def test_an_image_of_padding_alone_is_still_an_image(tmp_path):
    image = shown(tmp_path, np.full(SHAPE, 7, np.uint16), 12, PixelPaddingValue=7)
    assert not image.any()


def test_8_bits_are_the_pixels_of_the_same_png(tmp_path):
    image = shown(tmp_path, film8())
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, film8())


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),  # both say the same: once
        ("MONOCHROME1", "IDENTITY", True),  # against C.7.6.1, as the next
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_polarity(tmp_path, photometric, shape, inverted):
    attributes = {"PresentationLUTShape": shape} if shape else {}
    attributes["PhotometricInterpretation"] = photometric
    deep = shown(tmp_path, film12(), 12, **attributes)
    expected = film12() / 4095
    np.testing.assert_allclose(deep, 1 - expected if inverted else expected, **FLOAT32)
    flat = shown(tmp_path, film8(), **attributes)
    np.testing.assert_array_equal(flat, 255 - film8() if inverted else film8())
    windowed = shown(tmp_path, film12(), 12, WindowCenter=900, WindowWidth=801, **attributes)
    expected = np.clip((film12() - 499.5) / 800, 0, 1)
    np.testing.assert_allclose(windowed, 1 - expected if inverted else expected, **FLOAT32)


def test_inversion_and_negative_slope_cancel(tmp_path):
    image = shown(
        tmp_path,
        film12(),
        12,
        PhotometricInterpretation="MONOCHROME1",
        RescaleSlope=-1,
        RescaleIntercept=4095,
    )
    np.testing.assert_allclose(image, film12() / 4095, **FLOAT32)


@pytest.mark.parametrize(("slope", "intercept"), [(-10, 50), (-1, 0), (0.25, -1024), (2, 3)])
def test_rescale_comes_before_the_window(tmp_path, slope, intercept):
    values = film12().astype(np.float64) * slope + intercept
    center, width = float(np.median(values)), float(np.ptp(values)) / 2
    image = shown(
        tmp_path,
        film12(),
        12,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=center,
        WindowWidth=width,
        VOILUTFunction="LINEAR_EXACT",
    )
    np.testing.assert_allclose(image, np.clip((values - center) / width + 0.5, 0, 1), **FLOAT32)
    assert 0 < (image == 0).sum() < image.size  # the window cuts


def test_negative_slope_alone_inverts(tmp_path):
    image = shown(tmp_path, film12(), 12, RescaleSlope=-2, RescaleIntercept=0)
    np.testing.assert_allclose(image, 1 - film12() / 4095, **FLOAT32)


def test_windows_by_hand():
    """c = 40, w = 400: the examples of PS3.3 C.11.2.1.2.1's formula and its two sisters."""
    values = np.array([[-1000.0, -160, -159, 39.5, 40, 239, 240, 1000]])
    linear = [0, 0, 1 / 399, 0.5, 0.5 + 0.5 / 399, 0.5 + 199.5 / 399, 1, 1]
    exact = [0, 0, 1 / 400, 0.5 - 0.5 / 400, 0.5, 0.5 + 199 / 400, 1, 1]
    sigmoid = 1 / (1 + np.exp(-4 * (values[0] - 40) / 400))
    np.testing.assert_allclose(window(values, 40, 400, "LINEAR")[0], linear, atol=1e-12)
    np.testing.assert_allclose(window(values, 40, 400, "LINEAR_EXACT")[0], exact, atol=1e-12)
    np.testing.assert_allclose(window(values, 40, 400, "SIGMOID")[0], sigmoid, atol=1e-12)
    np.testing.assert_array_equal(window(values, 40, 1)[0], [0, 0, 0, 0, 1, 1, 1, 1])
    assert window(np.array([[-1e9, 1e9]]), 0, 1, "SIGMOID").tolist() == [[0, 1]]


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_of_a_file(tmp_path, function):
    attributes = {"VOILUTFunction": function} if function else {}
    image = shown(tmp_path, film12(), 12, WindowCenter=2000, WindowWidth=100, **attributes)
    expected = window(film12(), 2000, 100, function or "LINEAR")
    np.testing.assert_allclose(image, expected, **FLOAT32)


def test_first_of_several_windows_counts(tmp_path):
    image = shown(tmp_path, film12(), 12, WindowCenter=[1000, 9], WindowWidth=[600, 9])
    np.testing.assert_allclose(image, window(film12(), 1000, 600), **FLOAT32)


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_window_without_width_counts_as_none(tmp_path, width):
    image = shown(tmp_path, film12(), 12, WindowCenter=1000, WindowWidth=width)
    np.testing.assert_allclose(image, film12() / 4095, **FLOAT32)


def test_voi_lut_by_hand_and_before_the_window(tmp_path):
    entries = np.array([100, 4000, 1000, 2500], np.uint16)  # not even monotonous
    values = np.array([[0, 9, 10, 11], [12, 13, 14, 4095]], np.uint16)
    image = shown(
        tmp_path, values, 12, VOILUTSequence=table(entries, 10, 12), WindowCenter=5, WindowWidth=4
    )
    expected = np.array([[100, 100, 100, 4000], [1000, 2500, 2500, 2500]]) / 4095
    np.testing.assert_allclose(image, expected, **FLOAT32)


def test_modality_lut_then_window(tmp_path):
    entries = np.array([65535, 30000, 7, 0], np.uint16)
    values = np.array([[0, 1, 2, 3, 4]], np.uint16)
    image = shown(
        tmp_path,
        values,
        12,
        ModalityLUTSequence=table(entries, 1, 16),
        WindowCenter=30000,
        WindowWidth=20000,
        RescaleSlope=9,
        RescaleIntercept=9,
    )
    expected = window(np.array([[65535, 65535, 30000, 7, 0]]), 30000, 20000)
    np.testing.assert_allclose(image, expected, **FLOAT32)


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_voi_lut_of_negative_values(tmp_path, vr):
    """After a rescale the first value mapped is signed, whatever the stored values are."""
    entries = np.arange(256, dtype=np.uint16) * 256
    values = np.arange(0, 400, dtype=np.uint16).reshape(20, 20)
    first = -100 if vr == "SS" else 65436
    image = shown(
        tmp_path,
        values,
        12,
        RescaleSlope=1,
        RescaleIntercept=-150,
        VOILUTSequence=table(entries, first, 16, vr),
    )
    expected = np.clip(values.astype(int) - 150 + 100, 0, 255) * 256 / 65535
    np.testing.assert_allclose(image, expected, **FLOAT32)


def test_voi_lut_that_starts_above_32767(tmp_path):
    values = np.array([[0, 40000, 40001, 65535]], np.uint16)
    image = shown(tmp_path, values, 16, VOILUTSequence=table([0, 5, 65535], 40000, 16))
    np.testing.assert_allclose(image, np.array([[0, 0, 5, 65535]]) / 65535, **FLOAT32)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_lut_of_65536_entries_in_either_byte_order(tmp_path, syntax, vr):
    entries = np.arange(65536)[::-1].astype(np.uint16)
    item = table(entries, 0, 16)[0]
    if vr == "US":  # an explicit US cannot be longer than 65534 bytes
        entries = entries[:1000]
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [1000, 0, 16])
        item.add_new("LUTData", "US", entries.tolist())
    elif syntax == ExplicitVRBigEndian:
        item["LUTData"].value = entries.astype(">u2").tobytes()
    path = saved(tmp_path / "a.dcm", dicom(film12(), 12, VOILUTSequence=[item]), syntax)
    expected = entries[np.clip(film12(), 0, len(entries) - 1)] / 65535
    np.testing.assert_allclose(read_dicom(path).image, expected, **FLOAT32)


def test_lut_of_8_bits_packed_two_in_a_word(tmp_path):
    item = table([0], 0, 8)[0]
    item.LUTDescriptor = [5, 0, 8]
    item.LUTData = bytes([0, 10, 200, 30, 255, 0])
    values = np.array([[0, 1, 2, 3, 4, 5]], np.uint16)
    image = shown(tmp_path, values, 12, VOILUTSequence=[item])
    np.testing.assert_allclose(image[0], np.array([0, 10, 200, 30, 255, 255]) / 255, **FLOAT32)


# --- stored values ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_12_of_16_bits_wherever_they_are(tmp_path, dtype, high_bit):
    """Other bits are noise (overlays, once): they must not reach the picture."""
    shift = high_bit - 11
    noise = np.random.default_rng(0).integers(0, 2**16, SHAPE)
    keep = 0xFFF << shift
    words = ((film12(dtype).astype(np.int64) << shift) & keep) | (noise & ~keep & 0xFFFF)
    pixels = words.astype(np.uint16).view(dtype)
    image = shown(tmp_path, pixels, 12, HighBit=high_bit)
    np.testing.assert_allclose(image, film12() / 4095, **FLOAT32)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_uncompressed_syntaxes_agree(tmp_path, syntax, dtype):
    pixels = film8() if dtype == np.uint8 else film12(dtype)
    path = saved(tmp_path / "a.dcm", dicom(pixels, 8 if dtype == np.uint8 else 12), syntax)
    expected = film8() if dtype == np.uint8 else film12() / 4095
    np.testing.assert_allclose(read_dicom(path).image, expected, **FLOAT32)


LOSSLESS = [
    "RLELossless",
    "JPEGLosslessProcess14",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEG2000Lossless",
]


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("kind", ["8 bits", "12 bits", "16 bits", "signed 16 bits", "colour"])
def test_lossless_syntaxes_are_the_uncompressed_image(tmp_path, name, kind):
    pixels = {
        "8 bits": film8(),
        "12 bits": film12(),
        "16 bits": film12() * 16,
        "signed 16 bits": film12(np.int16) * 16,
        "colour": np.dstack([film8(), film8()[::-1], film8()[:, ::-1]]),
    }[kind]
    bits = {"12 bits": 12}.get(kind)
    plain = saved(tmp_path / "a.dcm", dicom(pixels, bits))
    path = compressed(tmp_path / "b.dcm", plain, name)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    one, other = read_dicom(plain), read_dicom(path)
    np.testing.assert_array_equal(one.image, other.image)
    assert one.image.std() > 0 and one.image.dtype == other.image.dtype


def test_jpeg_ls_and_jpeg_2000_with_loss_are_close(tmp_path):
    plain = saved(tmp_path / "a.dcm", dicom(film8()))
    for name in ("JPEGLSNearLossless", "JPEG2000"):
        image = read_dicom(compressed(tmp_path / "b.dcm", plain, name)).image
        assert np.abs(image.astype(int) - film8()).max() <= 3


def with_jpeg(path):
    pixels = np.repeat(np.repeat(film8(), 4, 0), 4, 1)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=98)
    dataset = dicom(pixels)
    dataset.PixelData = encapsulate([data.getvalue()])
    dataset["PixelData"].VR = "OB"
    return saved(path, dataset, JPEGBaseline8Bit), pixels


def test_jpeg_baseline_is_close(tmp_path):
    path, pixels = with_jpeg(tmp_path / "a.dcm")
    assert np.abs(read_dicom(path).image.astype(int) - pixels).max() <= 8


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_jpeg_extended_of_12_bits_is_the_scan_that_pydicom_ships_as_jpeg_2000(name):
    """All three are lossy and the scan is mostly noise: counts of up to 264."""
    image, other = read_dicom(shipped(name)).image, read_dicom(shipped("JPEG2000.dcm")).image
    assert image.shape == (1024, 256)
    # Its brightest pixel is 264; pydicom's own tests name these two values.
    assert (image[420, 140] * 264, image[230, 120] * 264) == pytest.approx((244, 95), abs=1)
    assert np.corrcoef(image.ravel(), other.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_padded.dcm", "MR_small.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
    ],
)
def test_pairs_that_pydicom_ships_agree(name, plain):
    image, other = read_dicom(shipped(name)).image, read_dicom(shipped(plain)).image
    np.testing.assert_array_equal(image, other)
    assert image.std() > 0


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
    ],
)
def test_colour_in_every_space_is_nearly_the_same_grey(name):
    image, other = read_dicom(shipped(name)).image, read_dicom(shipped("SC_rgb_rle.dcm")).image
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - other).mean() < 3


def test_colour_is_its_luma(tmp_path):
    rgb = np.dstack([film8(), film8()[::-1], film8()[:, ::-1]])
    expected = np.rint(rgb @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_array_equal(shown(tmp_path, rgb), expected)


def test_palette_is_read_in_its_colours(tmp_path):
    attributes = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        data = np.arange(256, dtype=np.uint8)[::-1].tobytes()
        attributes[f"{colour}PaletteColorLookupTableData"] = data
    np.testing.assert_array_equal(shown(tmp_path, film8(), **attributes), 255 - film8())


# --- spacing and modality ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [9, 9]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.3, 0.15]}, (0.3, 0.15)),
        (
            {"ImagerPixelSpacing": [0.3, 0.15], "EstimatedRadiographicMagnificationFactor": 1.5},
            (0.2, 0.1),
        ),
        ({"PixelSpacing": [0.2, 0.1], "EstimatedRadiographicMagnificationFactor": 2}, (0.2, 0.1)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.3, 0.3]}, (0.3, 0.3)),
        ({"ImagerPixelSpacing": [0.3, 0.3], "EstimatedRadiographicMagnificationFactor": 0}, None),
        ({"PixelSpacing": [-1, 0.1]}, None),
        ({"PixelAspectRatio": [2, 1]}, None),
        ({}, None),
    ],
)
def test_spacing(tmp_path, attributes, expected):
    film = read_dicom(saved(tmp_path / "a.dcm", dicom(film8(), **attributes)))
    assert film.spacing == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "RF", "XA", "CT", "MR", "MG", "OT", "SC"])
def test_modality(tmp_path, modality):
    path = saved(tmp_path / "a.dcm", dicom(film8(), Modality=modality))
    film = read_dicom(path)
    assert film.modality == modality
    if modality in ("OT", "SC", "CR", "DX", "RG", "RF", "XA"):
        check_xray(film.modality, path)
    else:
        with pytest.raises(InputError, match=rf"a\.dcm: has modality {modality}; expected"):
            check_xray(film.modality, path)


def test_absent_modality_is_accepted(tmp_path):
    dataset = dicom(film8())
    del dataset.Modality
    film = read_dicom(saved(tmp_path / "a.dcm", dataset))
    assert film.modality == ""
    check_xray(film.modality, "a.dcm")


@pytest.mark.parametrize(
    ("orientation", "mirrored"),
    [
        (["L", "F"], False),
        (["R", "F"], True),
        (["LF", "FR"], False),
        (["RH", "FL"], True),
        (["L", "H"], False),  # upside down
        (["R", "H"], True),  # turned by half a circle
        (["A", "F"], False),  # from the side
        (["F", "R"], False),  # its columns run to the right
        (["", "R"], False),
        ("R", True),
        ("QX-4711", False),
        ("", False),
        (None, False),
    ],
)
def test_orientation(tmp_path, orientation, mirrored):
    """Read, and the pixels left as they are."""
    attributes = {} if orientation is None else {"PatientOrientation": orientation}
    with silence():  # of values that break the standard
        path = saved(tmp_path / "a.dcm", dicom(film8(), **attributes))
    film = read_film(path)
    assert film.mirrored is mirrored
    np.testing.assert_array_equal(film.image, film8())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_orientation_in_other_syntaxes(tmp_path, syntax):
    dataset = dicom(film12(), 12, PatientOrientation=["R", "F"])
    assert read_dicom(saved(tmp_path / "a.dcm", dataset, syntax)).mirrored


@pytest.mark.parametrize(
    ("vr", "value"), [("US", 7), ("US", [7, 8]), ("OB", b"R\\F "), ("FD", 1.5)]
)
def test_orientation_of_another_type_is_none(tmp_path, vr, value):
    dataset = dicom(film8())
    dataset.add_new("PatientOrientation", vr, value)
    assert not read_dicom(saved(tmp_path / "a.dcm", dataset)).mirrored


# --- what cannot be read -------------------------------------------------------------------


def edited(path, **attributes):
    """The file again with other attributes; None deletes one."""
    with silence():  # what a test plants may break the standard
        dataset = pydicom.dcmread(path)
        for keyword, value in attributes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=False)
    return path


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"NumberOfFrames": 3}, "3 frames"),
        ({"PixelData": None}, "holds no image"),
        ({"Rows": None}, "incomplete"),
        ({"PhotometricInterpretation": None}, "incomplete"),
        ({"PhotometricInterpretation": "ARGB"}, "PhotometricInterpretation"),
        ({"Rows": 25}, "truncated"),
        ({"Rows": 65535, "Columns": 65535}, "more pixels than"),
        ({"BitsStored": 17}, "damaged"),
        ({"HighBit": 3}, "high bit"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope"),
        ({"VOILUTFunction": "CUBIC", "WindowCenter": 9, "WindowWidth": 9}, "VOILUTFunction"),
        ({"WindowCenter": 90000, "WindowWidth": 9}, "single grey"),
        ({"VOILUTSequence": table([1, 2, 3], 0, 17)}, "look-up table"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, attributes, words):
    path = saved(tmp_path / "a.dcm", dicom(film12(), 12))
    assert_refused(read_film, edited(path, **attributes), words)


def test_look_up_table_that_is_too_short(tmp_path):
    voi = table([1, 2, 3], 0, 16)
    voi[0].LUTDescriptor = [40, 0, 16]
    path = saved(tmp_path / "a.dcm", dicom(film12(), 12, VOILUTSequence=voi))
    assert_refused(read_film, path, "look-up table")


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.100"),  # MPEG-2
        ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.201"),  # high-throughput JPEG 2000
        ("1.2.840.113619.5.2", "cannot be decoded"),  # a vendor's own
        ("1.2.840.10008.1.2.4.90", "JPEG 2000"),  # a lie: the pixels are not compressed
    ],
)
def test_other_transfer_syntaxes(tmp_path, syntax, words):
    path = saved(tmp_path / "a.dcm", dicom(film12(), 12))
    data = path.read_bytes()
    old = str(ExplicitVRLittleEndian).encode() + b"\0"
    at = data.index(old)
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = int.from_bytes(data[140:144], "little") + len(new) - len(old)
    data = (
        data[:140]
        + meta.to_bytes(4, "little")
        + data[144 : at - 2]
        + len(new).to_bytes(2, "little")
        + new
        + data[at + len(old) :]
    )
    path.write_bytes(data)
    assert_refused(read_film, path, words)


@pytest.mark.parametrize("missing", ["pydicom", "gdcm"])
def test_missing_package_is_named_with_the_extra(tmp_path, missing):
    plain = saved(tmp_path / "a.dcm", dicom(film12(), 12))
    path = compressed(tmp_path / "b.dcm", plain, "JPEG2000Lossless")
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from jaxlung.errors import InputError\n"
        "from jaxlung.io.images import read_image\n"
        "try: read_image(sys.argv[1])\n"
        "except InputError as error: print(error)"
    )
    run = [sys.executable, "-c", code, str(path)]
    output = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    assert str(path) in output.stdout and output.stdout.count("\n") == 1
    assert 'pip install "jaxlung[dicom]"' in output.stdout


ROOT = Path(__file__).parents[3]


def test_import_leaves_pydicom_out():
    code = "import sys, jaxlung.io.images, jaxlung.data.folder; print('pydicom' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "False\n"


@functools.cache
def sample(name, folder):
    path = saved(
        Path(folder) / f"{name}-plain.dcm", dicom(film12(), 12, WindowCenter=2000, WindowWidth=3000)
    )
    if name == "JPEGBaseline":
        path, _ = with_jpeg(path)
    elif name == "Deflated":
        saved(path, pydicom.dcmread(path), DeflatedExplicitVRLittleEndian)
    elif name != "Explicit":
        path = compressed(path.with_name(f"{name}.dcm"), path, name)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["Explicit", "Deflated", "JPEGBaseline", *LOSSLESS])
def test_truncated_file_is_refused(tmp_path, name):
    """Cut anywhere, it is an error, or, where only padding is lost, the whole image."""
    data, path = sample(name, str(tmp_path)), tmp_path / "a.dcm"
    path.write_bytes(data)
    whole = read_image(path)
    cuts = {*range(0, len(data), 1 + len(data) // 40), *range(len(data) - 12, len(data))}
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        try:
            image = read_image(path)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            np.testing.assert_array_equal(image, whole, err_msg=f"cut at {cut} of {len(data)}")


@pytest.mark.parametrize("name", ["Explicit", "Deflated", "JPEGBaseline", *LOSSLESS])
def test_damaged_bytes_are_an_error_or_an_image_never_a_crash(tmp_path, name):
    data, path = bytearray(sample(name, str(tmp_path))), tmp_path / "a.dcm"
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(132, len(data), 3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            assert read_image(path).ndim == 2


@pytest.mark.parametrize("name", LOSSLESS)
def test_compressed_stream_of_garbage_is_refused_in_one_line(tmp_path, name, capfd, caplog):
    path = tmp_path / "a.dcm"
    path.write_bytes(sample(name, str(tmp_path)))
    dataset = pydicom.dcmread(path)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    noise = np.random.default_rng(0).integers(0, 256, len(frame) // 2 * 2, np.uint8).tobytes()
    for garbage in (noise, b"\xff\xd8 " * 30):
        dataset.PixelData = encapsulate([garbage])
        dataset.save_as(path)
        capfd.readouterr()
        caplog.clear()
        assert_refused(read_film, path, "damaged or truncated pixel data")
        # Neither the libraries' own lines nor a log's traceback.
        assert "".join(capfd.readouterr()) == "" and not caplog.records


@pytest.mark.parametrize(
    ("name", "position", "value"),
    [
        ("JPEG2000Lossless", 41, 2),  # channels
        ("JPEG2000Lossless", 42, 58),  # bits of a sample
        ("JPEGLSLossless", 6, 81),  # the same
        ("JPEGLosslessProcess14_1", 6, 145),
        ("JPEGLosslessProcess14_1", 15, 64),  # a marker
        ("JPEGLosslessProcess14_1", 16, 213),  # tables
    ],
)
def test_stream_header_that_would_end_the_process_is_refused(tmp_path, name, position, value):
    path = tmp_path / "a.dcm"
    path.write_bytes(sample(name, str(tmp_path)))
    dataset = pydicom.dcmread(path)
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    frame[position] = value
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset.save_as(path)
    assert_refused(read_film, path, "damaged or truncated pixel data")


def test_12_bit_jpeg_that_ends_too_early_is_refused(tmp_path):
    dataset = pydicom.dcmread(shipped("JPGExtended.dcm"))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
    with silence():
        dataset.save_as(tmp_path / "a.dcm")
    assert_refused(read_film, tmp_path / "a.dcm", "damaged or truncated pixel data")


@pytest.mark.parametrize("name", LOSSLESS[1:])
def test_stream_of_another_size_than_its_header_is_refused(tmp_path, name):
    """As many pixels in other rows would be a scrambled picture."""
    path = tmp_path / "a.dcm"
    path.write_bytes(sample(name, str(tmp_path)))
    edited(path, Rows=SHAPE[1], Columns=SHAPE[0])
    assert_refused(read_film, path, "damaged or truncated pixel data")


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan.dcm", "badVR.dcm", "reportsi.dcm"])
def test_files_without_a_whole_image_that_pydicom_ships(name):
    assert_refused(read_film, shipped(name))


def test_missing_file_and_folder(tmp_path):
    assert_refused(read_film, tmp_path / "none.dcm", "No such file")
    (tmp_path / "folder.dcm").mkdir()
    assert_refused(read_film, tmp_path / "folder.dcm", "directory")


# --- the patient ---------------------------------------------------------------------------


BREAKS = {
    "whole": {},
    "frames": {"NumberOfFrames": 7},
    "no pixels": {"PixelData": None},
    "short": {"Rows": 99},
    "photometric": {"PhotometricInterpretation": "QX-4711"},
    "function": {"VOILUTFunction": "QX-4711", "WindowCenter": 9, "WindowWidth": 9},
    "window": {"WindowCenter": 90000, "WindowWidth": 9},
    "modality": {"Modality": "QX-4711"},
    "incomplete": {"Columns": None},
}


@pytest.mark.parametrize("reason", BREAKS)
def test_nothing_of_the_patient_in_output_errors_warnings_or_logs(tmp_path, reason, capfd, caplog):
    path = saved(tmp_path / "a.dcm", dicom(film12(), 12))
    edited(path, **BREAKS[reason], **SECRETS)
    data = path.read_bytes()
    assert b"Zacharias" in data
    said = []
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for cut in (len(data), len(data) - 9, 700, 300):
            path.write_bytes(data[:cut])
            try:
                said.append(repr(read_film(path)))
            except InputError as error:
                said += [str(error), repr(error.__cause__)]
    assert not caught and not caplog.records
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    for secret in ("Zacharias", "Quux", *SECRETS.values()):
        assert not any(secret in text for text in said), said


def test_patient_is_not_even_read(tmp_path, monkeypatch):
    path = edited(saved(tmp_path / "a.dcm", dicom(film8())), **SECRETS)
    read, kept = pydicom.dcmread, []

    def dcmread(*args, **kwargs):
        kept.append(read(*args, **kwargs))
        return kept[-1]

    monkeypatch.setattr(pydicom, "dcmread", dcmread)
    read_film(path)
    [dataset] = kept
    assert "PixelData" in dataset
    found = {keyword for keyword in SECRETS if keyword in dataset}
    assert found <= {"SpecificCharacterSet"}  # which pydicom always reads


def test_value_that_is_no_number_is_not_quoted(tmp_path):
    path = saved(tmp_path / "a.dcm", dicom(film12(), 12, RescaleSlope="1.5", RescaleIntercept=0))
    path.write_bytes(path.read_bytes().replace(b"1.5 ", b"QX-4"))
    with pytest.raises(InputError) as caught:
        read_film(path)
    assert "QX-4" not in str(caught.value) and caught.value.__suppress_context__


def test_pydicom_is_left_as_it_was(tmp_path):
    log = logging.getLogger("pydicom")
    level = log.level
    filters, mode = list(warnings.filters), pydicom.config.settings.reading_validation_mode
    read_film(saved(tmp_path / "a.dcm", dicom(film8())))
    with contextlib.suppress(InputError):
        read_film(tmp_path / "none.dcm")
    assert log.level == level and not log.disabled and warnings.filters == filters
    assert pydicom.config.settings.reading_validation_mode == mode


def test_silence_lasts_until_the_last_thread_leaves():
    filters = list(warnings.filters)
    entered, leave = threading.Event(), threading.Event()

    def first():
        with silence():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with silence():
        leave.set()
        thread.join(10)
        warnings.warn("not shown", stacklevel=1)  # an error here, were it shown
        assert not logging.getLogger("pydicom.pixels").isEnabledFor(logging.CRITICAL)
    assert warnings.filters == filters
    assert logging.getLogger("pydicom.pixels").isEnabledFor(logging.ERROR)


# --- as every other image ------------------------------------------------------------------


def test_told_by_content_not_by_suffix(tmp_path):
    path = saved(tmp_path / "a.png", dicom(film8()))
    np.testing.assert_array_equal(read_image(path), film8())
    Image.fromarray(film8()).save(tmp_path / "b.dcm", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm"), film8())
    assert is_dicom(path) and not is_dicom(tmp_path / "b.dcm")


COMMAS = {
    "PixelSpacing": ["0.143", "0.287"],
    "WindowCenter": "2000.25",
    "WindowWidth": "3000.75",
    "RescaleSlope": "2.0000",
    "RescaleIntercept": "-7.25",
    "EstimatedRadiographicMagnificationFactor": "1.125",
}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("names", [(name,) for name in COMMAS] + [tuple(COMMAS)])
def test_decimal_commas_are_points(tmp_path, syntax, names):
    whole = saved(tmp_path / "a.dcm", dicom(film12(), 12, **COMMAS), syntax)
    data = whole.read_bytes()
    for name in names:
        for value in np.atleast_1d(COMMAS[name]):
            assert value.encode() in data
            data = data.replace(value.encode(), value.replace(".", ",").encode())
    (tmp_path / "b.dcm").write_bytes(data)
    expected, film = read_film(whole), read_film(tmp_path / "b.dcm")
    assert film.spacing == expected.spacing == (0.143, 0.287)
    np.testing.assert_array_equal(film.image, expected.image)


@pytest.mark.parametrize("value", [b"0,1,43\\0,143", b"0,143\\a,143", b"0.1,43\\0.143"])
def test_other_commas_are_refused(tmp_path, value):
    path = saved(tmp_path / "a.dcm", dicom(film12(), 12, PixelSpacing=["0.143", "0.143"]))
    data = path.read_bytes().replace(b"0.143\\0.143", value.ljust(11)[:11])
    path.write_bytes(data)
    assert_refused(read_film, path, "damaged or incomplete")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_bare_data_set_by_its_suffix(tmp_path, syntax):
    dataset = dicom(film12(), 12)
    whole = saved(tmp_path / "whole.dcm", dataset, syntax)
    del dataset.file_meta
    path = tmp_path / "bare.dcm"
    dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_image(path), read_image(whole))


def test_size_and_mask_and_canvas(tmp_path):
    mask = film8() > 128
    path = saved(tmp_path / "a.dcm", dicom(mask.astype(np.uint8) * 255))
    assert read_size(path) == SHAPE
    np.testing.assert_array_equal(read_mask(path), mask)
    canvas, _, _ = to_canvas(read_image(saved(path, dicom(film12(), 12))), size=24)
    assert (canvas.min(), canvas.max()) == (0, 255)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    return tmp_path


def add(folder, name, mask_name, **attributes):
    saved(folder / "images" / name, dicom(film12(), 12, **attributes))
    Image.fromarray(film8() * 0).save(folder / "masks" / mask_name)


def test_folder_takes_dicom_with_and_without_suffix(folder):
    add(folder, "a.dcm", "a.png")
    add(folder, "b.DICOM", "b.png")
    add(folder, "IM0001", "IM0001.png")
    add(folder, "1.2.840.7", "1.2.840.7.png")
    add(folder, "1.2.840.8", "1.2.840.8_mask.png")
    saved(folder / "images" / "DICOMDIR", dicom(film8()))
    (folder / "images" / "README").write_text("no image")
    stems = [stem for stem, _, _ in find_pairs(folder)]
    assert stems == sorted(["a", "b", "IM0001", "1.2.840.7", "1.2.840.8"])
    assert "DICOMDIR" not in list_images(folder / "images")


def test_masks_of_dicom_without_suffix_are_named_by_the_whole_name(tmp_path):
    names = ["1.2.840.7", "1.2.840.8", "IM0001", "a.dcm"]
    sources = find_sources([tmp_path / name for name in names], volumes=False)
    jobs = plan_jobs(sources, Options(out=tmp_path / "o"))
    stems = ["1.2.840.7.png", "1.2.840.8.png", "IM0001.png", "a.png"]
    assert [job.mask.name for job in jobs] == stems


def test_folder_hands_on_the_spacing_and_metadata_wins(folder):
    for stem in "abc":
        add(
            folder,
            f"{stem}.dcm",
            f"{stem}.png",
            **({"PixelSpacing": [0.2, 0.1]} if stem < "c" else {}),
        )
    (folder / "metadata.csv").write_text("id,spacing_mm\na,\nb,0.5\nc,\n")
    metadata = read_metadata(folder / "metadata.csv", ["a", "b", "c"])
    split = load_pairs("test", find_pairs(folder), metadata)
    assert [split.read(i).spacing for i in range(3)] == [(0.2, 0.1), (0.5, 0.5), None]
    without = load_pairs("test", find_pairs(folder))
    assert [without.read(i).spacing for i in range(3)] == [(0.2, 0.1), (0.2, 0.1), None]


def test_folder_refuses_a_ct(folder):
    add(folder, "a.dcm", "a.png", Modality="CT")
    split = load_pairs("test", find_pairs(folder))
    with pytest.raises(InputError, match=r"a\.dcm: has modality CT; expected an X-ray"):
        split.read(0)
