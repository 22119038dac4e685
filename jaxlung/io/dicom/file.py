"""Single DICOM images as a screen would show them: air dark, bone bright.

The way of a pixel is that of DICOM PS3.3 C.11 and PS3.4 N.2: stored value, Modality LUT or
rescale, VOI LUT or window, polarity. Of the header only the attributes in `_ATTRIBUTES` are
read, and no error quotes a value of it other than modality, transfer syntax and frames.

Decoding is always by the same library, so that what else is installed changes no pixel.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.dicom.display import apply_display, read_numbers
from jaxlung.io.dicom.stream import check_unpacked, read_stream_header
from jaxlung.io.film import Film, check_file, check_size
from jaxlung.io.grey import to_grey8
from jaxlung.system.silence import silence, silence_stderr
from jaxlung.system.threads import take_turn

SUFFIXES = (".dcm", ".dicom")

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
_IMAGE = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "NumberOfFrames",
    "PixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
_GREYS = (
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
_PALETTE = tuple(
    f"{kind}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for kind, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_ABOUT = (
    "Modality",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
    "PatientOrientation",
)
_ATTRIBUTES = [*_IMAGE, *_GREYS, *_PALETTE, *_ABOUT]

_EXTENDED = "1.2.840.10008.1.2.4.51"  # JPEG of 8 or 12 bits
_RLE = "1.2.840.10008.1.2.5"
_HIGH_THROUGHPUT = "1.2.840.10008.1.2.4.20"  # JPEG 2000's three
_BARE_STARTS = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")  # group 2 or 8, either byte order


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a file is DICOM by its content; False for one that cannot be read.

    That is DICM at byte 128, or, with the suffix .dcm or .dicom, a data set without that header.
    """
    try:
        if not os.path.isfile(path):  # of a pipe the start may never come
            return False
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return False
    named = Path(path).suffix.lower() in SUFFIXES
    return start[128:] == b"DICM" or (named and start[:2] in _BARE_STARTS)


def read_dicom(path: str | os.PathLike[str]) -> Film:
    """Reads a file of one image.

    Transfer syntaxes: uncompressed (little or big endian, deflated), RLE, JPEG (baseline,
    extended, lossless), JPEG-LS and JPEG 2000.

    Returns:
        image: [H, W]. float32 in [0, 1], 0 is black: the VOI LUT or window's output, or, without
            either, stretched from the image's minimum to its maximum, padding aside. uint8, as it
            is, for 8-bit grey without any transformation, and for colour (RGB, YBR, palette): its
            luma.
            Of several windows or VOI LUTs the first counts, and a LUT before a window. A window
            without width, which the standard does not allow, counts as none.
        spacing: PixelSpacing; else ImagerPixelSpacing, which is of the detector, divided by
            EstimatedRadiographicMagnificationFactor where there is one; else None, as where the
            file gives values that are not above 0. PixelAspectRatio is no millimetres, and unused.
        modality: as `film.Film` says.
        mirrored: the first value of PatientOrientation, where rows run to, starts with R. No pixel
            is moved: a picture that is upside down by the second value stays so.

    Raises:
        InputError: the file is missing, unreadable, no DICOM, without image, of several frames,
            compressed in a way that cannot be decoded, damaged or truncated; or the extra
            "dicom" is not installed.
    """
    with silence():
        dataset = _image_dataset(path)
        with name_damage(path), take_turn(int(dataset.Rows) * int(dataset.Columns)):
            return _film(dataset, path)


def read_dicom_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width, without decoding the pixels.

    Raises: as `read_dicom`, for what the header tells.
    """
    with silence():
        dataset = _image_dataset(path)
        try:
            return int(dataset.Rows), int(dataset.Columns)
        except Exception:
            raise InputError(f"{path}: holds no DICOM image") from None


@contextlib.contextmanager
def name_damage(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever pydicom raises on damaged values, as an InputError that quotes none of them."""
    try:
        yield
    except InputError:
        raise
    except Exception:
        raise InputError(
            f"{path}: has a damaged or incomplete DICOM header; export it again"
        ) from None


def read_dataset(path: str | os.PathLike[str], also: Sequence[str] = ()) -> Any:
    """The attributes that matter, and those named, as a pydicom data set. Call it in `silence`.

    Raises:
        InputError: the file is missing, unreadable, no DICOM, or damaged; or the extra "dicom" is
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
        if error.errno is None:  # pydicom's own, of a file that ends too early
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
    """DICOM's term; "" where there is none, or what stands there cannot be one."""
    modality = str(dataset.get("Modality") or "").strip().upper()
    return modality if re.fullmatch("[A-Z]{2,16}", modality) else ""


def _is_mirrored(dataset: Any) -> bool:
    """Whether rows run to the patient's right (C.7.6.1.1.1): L, for the left, is the usual way."""
    value = dataset.get("PatientOrientation") or ""
    first = value if isinstance(value, str) or not hasattr(value, "__iter__") else (*value, "")[0]
    return str(first).strip().upper().startswith("R")


def read_stored_values(dataset: Any, path: str | os.PathLike[str]) -> np.ndarray:
    """Decoded pixels, [H, W] or RGB [H, W, 3], less the bits that are no part of the values.

    Raises:
        InputError: several frames, an image too large to be one, or pixels that cannot be
            decoded; path is named. A damaged header may raise anything.
    """
    from pydicom.encaps import generate_frames
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InputError(f"{path}: has {frames} frames; expected one image")
    shape = int(dataset.Rows), int(dataset.Columns)
    check_size(*shape, path)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:  # a data set without the header that would name it
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else explicit
        )
    syntax = UID(syntax)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or syntax.startswith(_HIGH_THROUGHPUT):
        name = syntax if re.fullmatch("[0-9.]+", syntax) else "an unknown one"
        raise InputError(
            f"{path}: has transfer syntax {name}, which cannot be decoded; export it uncompressed"
        )
    plugin = "pydicom" if syntax == _RLE else "gdcm" if syntax.is_encapsulated else ""
    if plugin and plugin not in decoder.available_plugins:
        raise InputError(
            f"{path}: is compressed as {syntax.name}, and python-gdcm, which would decode it, "
            f'cannot be loaded; pip install "jaxlung[dicom]", or export it uncompressed'
        )
    bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high_bit = int(dataset.get("HighBit", bits[1] - 1))
    if not 0 < bits[1] <= high_bit + 1 <= bits[0]:
        raise InputError(f"{path}: has a damaged header (bits allocated, bits stored, high bit)")
    try:
        frame = b""
        if plugin == "gdcm":
            frame = b"".join(generate_frames(dataset.PixelData, number_of_frames=1))
            *size, stream_bits = read_stream_header(frame)
            if size != [*shape, int(dataset.SamplesPerPixel)] or stream_bits > bits[0]:
                raise ValueError("the stream is of another image than the header")
        # pydicom takes the lowest BitsStored bits wherever HighBit is: moved here instead.
        bitwise = not syntax.is_encapsulated or syntax == _RLE
        options: Any = {"correct_unused_bits": False} if bitwise else {}
        # GDCM's libraries tell of damage in lines of their own, beside the one below.
        with silence_stderr() if plugin == "gdcm" else contextlib.nullcontext():
            if syntax == _EXTENDED and bits[1] > 8:
                pixels = _decode_12_bits(frame, shape)
            else:
                pixels, _ = decoder.as_array(dataset, decoding_plugin=plugin, **options)
        if bitwise and bits[0] > 1 and bits[0] > bits[1]:
            pixels = (pixels << (bits[0] - 1 - high_bit)) >> (bits[0] - bits[1])
    except Exception:  # the decoders' texts are many, and some span lines
        raise InputError(
            f"{path}: has damaged or truncated pixel data ({syntax.name}); copy or export it again"
        ) from None
    if pixels.ndim != (2 if int(dataset.SamplesPerPixel) == 1 else 3):
        raise InputError(f"{path}: has several frames; expected one image")
    return pixels


def _decode_12_bits(frame: bytes, shape: tuple[int, int]) -> np.ndarray:
    """JPEG extended of 12 bits to uint16 [H, W]: GDCM has it, but pydicom does not ask it to."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    height, width = shape
    picture = gdcm.Image()
    picture.SetNumberOfDimensions(2)
    picture.SetDimensions((width, height, 1))
    picture.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    picture.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    picture.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    picture.SetDataElement(element)
    # GDCM hands its bytes out as text.
    pixels = np.frombuffer(picture.GetBuffer().encode("utf-8", "surrogateescape"), "<u2")
    return pixels.reshape(height, width)


def _pixel_spacing(dataset: Any) -> tuple[float, float] | None:
    spacing = _millimetres(dataset, "PixelSpacing")
    if spacing:
        return spacing
    detector = _millimetres(dataset, "ImagerPixelSpacing")
    if detector is None:
        return None
    factor = (*read_numbers(dataset, "EstimatedRadiographicMagnificationFactor"), 1.0)[0]
    return (detector[0] / factor, detector[1] / factor) if factor > 0 else None


def _millimetres(dataset: Any, keyword: str) -> tuple[float, float] | None:
    """Distance of rows, then of columns (10.7.1.3): height and width of a pixel."""
    sides = read_numbers(dataset, keyword)
    return (sides[0], sides[1]) if len(sides) == 2 and min(sides) > 0 else None
