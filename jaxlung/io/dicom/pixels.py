"""Decodes the stored values of a DICOM image.

The same library decodes a transfer syntax everywhere, so that no other package that is installed
changes a pixel.
"""

import os
import re
from typing import Any, NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.dicom.stream import read_stream_header
from jaxlung.io.film import check_size
from jaxlung.system.silence import silence_stderr

_EXTENDED = "1.2.840.10008.1.2.4.51"  # JPEG of 8 or 12 bits
_RLE = "1.2.840.10008.1.2.5"
_HIGH_THROUGHPUT = "1.2.840.10008.1.2.4.20"  # how the syntaxes of JPEG 2000's three begin


def read_stored_values(dataset: Any, path: str | os.PathLike[str]) -> np.ndarray:
    """Decodes pixels, [H, W] or RGB [H, W, 3], without the bits that are not part of the values.

    Raises:
        InputError: the image has several frames or is larger than any film, or its pixels cannot
            be decoded; the error names the path. A damaged header may raise anything.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InputError(f"{path}: has {frames} frames; expected one image")
    check_size(int(dataset.Rows), int(dataset.Columns), path)
    coding = _find_coding(dataset, path)
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high_bit = int(dataset.get("HighBit", stored - 1))
    if not 0 < stored <= high_bit + 1 <= allocated:
        raise InputError(f"{path}: has a damaged header (bits allocated, bits stored, high bit)")
    try:
        by_gdcm = coding.plugin == "gdcm"
        pixels = (_decode_gdcm if by_gdcm else _decode)(dataset, coding)
        # pydicom takes the lowest BitsStored bits wherever HighBit is: moved here instead.
        if not by_gdcm and allocated > 1 and allocated > stored:
            pixels = (pixels << (allocated - 1 - high_bit)) >> (allocated - stored)
    except Exception:  # the decoders' texts are many, and some span lines
        raise InputError(
            f"{path}: has damaged or truncated pixel data ({coding.syntax.name}); copy or export "
            f"it again"
        ) from None
    if pixels.ndim != (2 if int(dataset.SamplesPerPixel) == 1 else 3):
        raise InputError(f"{path}: has several frames; expected one image")
    return pixels


class Coding(NamedTuple):
    """How the pixels of a data set are stored, and who decodes them."""

    syntax: Any  # pydicom's UID of the transfer syntax
    decoder: Any  # pydicom's
    plugin: str  # "pydicom" for RLE, "gdcm" for other compression, "" without any


def _find_coding(dataset: Any, path: str | os.PathLike[str]) -> Coding:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:  # a data set without the header that would name it
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = ImplicitVRLittleEndian if implicit else explicit
        dataset.file_meta.TransferSyntaxUID = syntax
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
    return Coding(syntax, decoder, plugin)


def _decode(dataset: Any, coding: Coding) -> np.ndarray:
    """Decodes all bits, also those that are not part of the values; raises anything on damage."""
    pixels, _ = coding.decoder.as_array(
        dataset, decoding_plugin=coding.plugin, correct_unused_bits=False
    )
    return pixels


def _decode_gdcm(dataset: Any, coding: Coding) -> np.ndarray:
    """Decodes a stream whose own header agrees with DICOM's; raises anything on damage."""
    from pydicom.encaps import generate_frames

    frame = b"".join(generate_frames(dataset.PixelData, number_of_frames=1))
    shape = int(dataset.Rows), int(dataset.Columns)
    *size, stream_bits = read_stream_header(frame)
    if size != [*shape, int(dataset.SamplesPerPixel)] or stream_bits > int(dataset.BitsAllocated):
        raise ValueError("the stream is of another image than the header")
    with silence_stderr():  # GDCM's libraries print lines of their own about damage
        if coding.syntax == _EXTENDED and int(dataset.BitsStored) > 8:
            return _decode_12_bits(frame, shape)
        pixels, _ = coding.decoder.as_array(dataset, decoding_plugin=coding.plugin)
        return pixels


def _decode_12_bits(frame: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Decodes JPEG extended of 12 bits to uint16 [H, W], which pydicom does not ask GDCM to do."""
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
