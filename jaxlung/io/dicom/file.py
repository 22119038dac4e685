"""Single DICOM images as a screen would show them: air dark, bone bright.

A pixel goes the way of DICOM PS3.3 C.11 and PS3.4 N.2: stored value (`pixels`), Modality LUT or
rescale, VOI LUT or window, polarity (`display`). Only the attributes in `_ATTRIBUTES` of the header
are read, and errors quote no value of it but modality, transfer syntax and frames.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from jaxlung.errors import InputError
from jaxlung.io.dicom.display import apply_display, read_numbers
from jaxlung.io.dicom.pixels import read_stored_values
from jaxlung.io.dicom.stream import check_unpacked
from jaxlung.io.film import Film, check_file
from jaxlung.io.grey import to_grey8
from jaxlung.system.silence import silence
from jaxlung.system.threads import take_turn

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
_IMAGE = """
SamplesPerPixel PhotometricInterpretation PlanarConfiguration Rows Columns BitsAllocated BitsStored
HighBit PixelRepresentation NumberOfFrames PixelData ExtendedOffsetTable ExtendedOffsetTableLengths
"""
_GREYS = """
RescaleSlope RescaleIntercept ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth
VOILUTFunction PresentationLUTShape PixelPaddingValue PixelPaddingRangeLimit
"""
_PALETTE = """
RedPaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
SegmentedRedPaletteColorLookupTableData
GreenPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableData
SegmentedGreenPaletteColorLookupTableData
BluePaletteColorLookupTableDescriptor BluePaletteColorLookupTableData
SegmentedBluePaletteColorLookupTableData
"""
_ABOUT = """
Modality PixelSpacing ImagerPixelSpacing EstimatedRadiographicMagnificationFactor PatientOrientation
"""
_ATTRIBUTES = f"{_IMAGE} {_GREYS} {_PALETTE} {_ABOUT}".split()


def read_dicom(path: str | os.PathLike[str]) -> Film:
    """Reads a file of one image.

    Transfer syntaxes: uncompressed (little or big endian, deflated), RLE, JPEG (baseline,
    extended, lossless), JPEG-LS and JPEG 2000.

    Returns:
        image: [H, W]. float32 in [0, 1], 0 is black: the VOI LUT or window's output, or, without
            either, stretched over the image's range (`grey.find_range`), padding aside. uint8, as
            it is, for 8-bit grey without any transformation, and for colour (RGB, YBR, palette):
            its luma.
            The first window or VOI LUT counts where there are several, and a LUT before a window.
            A window without width, which the standard does not allow, does not count.
        spacing: PixelSpacing; else ImagerPixelSpacing, which the detector has, divided by
            EstimatedRadiographicMagnificationFactor where there is one. None without either, or
            where a value is not above 0. PixelAspectRatio is not in mm, and unused.
        modality: as `film.Film` says.
        mirrored: whether PatientOrientation's first value, to which rows run, starts with R. No
            pixel is moved: a picture that is upside down by the second value stays so.

    Raises:
        InputError: the file is missing, unreadable, not DICOM, without image, damaged or truncated,
            has several frames or a compression that cannot be decoded; or the extra "dicom" is
            not installed.
    """
    with silence():
        dataset = _image_dataset(path)
        with name_damage(path), take_turn(int(dataset.Rows) * int(dataset.Columns)):
            return _film(dataset, path)


def read_dicom_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads height and width, without decoding the pixels.

    Raises: as `read_dicom`, for what the header says.
    """
    with silence():
        dataset = _image_dataset(path)
        try:
            return int(dataset.Rows), int(dataset.Columns)
        except Exception:
            raise InputError(f"{path}: holds no DICOM image") from None


@contextlib.contextmanager
def name_damage(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever pydicom raises on damaged values into an InputError that quotes none."""
    try:
        yield
    except InputError:
        raise
    except Exception:
        raise InputError(
            f"{path}: has a damaged or incomplete DICOM header; export it again"
        ) from None


def read_dataset(path: str | os.PathLike[str], also: Sequence[str] = ()) -> Any:
    """Reads `_ATTRIBUTES` and those named as a pydicom data set. Call it in `silence`.

    Raises:
        InputError: the file is missing, unreadable, not DICOM, or damaged; or the extra "dicom" is
            not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise InputError(f'{path}: is DICOM; to read it: pip install "jaxlung[dicom]"') from error
    check_file(path)
    try:
        check_unpacked(path)
        return pydicom.dcmread(path, force=True, specific_tags=[*_ATTRIBUTES, *also])
    except InputError:
        raise
    except OSError as error:
        if error.errno is None:  # pydicom raises this for a file that ends too early
            raise InputError(f"{path}: is truncated; copy it again") from None
        reason = error.strerror or "an error of the disk"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    except Exception:
        raise InputError(f"{path}: is no DICOM file, or a damaged one") from None


def _image_dataset(path: str | os.PathLike[str]) -> Any:
    dataset = read_dataset(path)
    if "PixelData" not in dataset:
        raise InputError(f"{path}: holds no image (DICOM without pixel data, or truncated)")
    return dataset


def _film(dataset: Any, path: str | os.PathLike[str]) -> Film:
    photometric = str(dataset.PhotometricInterpretation)
    stored = read_stored_values(dataset, path)
    if photometric in _COLOURS:
        image = to_grey8(stored)
    elif photometric == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        image = to_grey8(apply_color_lut(stored, dataset))
    elif photometric in ("MONOCHROME1", "MONOCHROME2"):
        image = apply_display(stored, dataset, path)
    else:
        raise InputError(
            f"{path}: has an unknown PhotometricInterpretation; expected MONOCHROME1, "
            f"MONOCHROME2, PALETTE COLOR, RGB or YBR"
        )
    return Film(image, _pixel_spacing(dataset), read_modality(dataset), _is_mirrored(dataset))


def read_modality(dataset: Any) -> str:
    """Returns DICOM's term; "" where none stands there, or something that cannot be one."""
    modality = str(dataset.get("Modality") or "").strip().upper()
    return modality if re.fullmatch("[A-Z]{2,16}", modality) else ""


def _is_mirrored(dataset: Any) -> bool:
    """Says whether rows run to the patient's right (C.7.6.1.1.1); usual is L, for the left."""
    value = dataset.get("PatientOrientation") or ""
    first = value if isinstance(value, str) or not hasattr(value, "__iter__") else (*value, "")[0]
    return str(first).strip().upper().startswith("R")


def _pixel_spacing(dataset: Any) -> tuple[float, float] | None:
    spacing = read_millimetres(dataset, "PixelSpacing")
    if spacing:
        return spacing
    detector = read_millimetres(dataset, "ImagerPixelSpacing")
    if detector is None:
        return None
    factor = (*read_numbers(dataset, "EstimatedRadiographicMagnificationFactor"), 1.0)[0]
    return (detector[0] / factor, detector[1] / factor) if factor > 0 else None


def read_millimetres(dataset: Any, keyword: str) -> tuple[float, float] | None:
    """Reads the distance of rows, then of columns (10.7.1.3): height and width of a pixel."""
    sides = read_numbers(dataset, keyword)
    return (sides[0], sides[1]) if len(sides) == 2 and min(sides) > 0 else None
