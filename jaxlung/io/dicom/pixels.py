"""Decodes the stored values of a DICOM image.

The same library decodes a transfer syntax everywhere, so that no other package that is installed
changes a pixel.
"""

import os
import re
from typing import Any

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
    shape = int(dataset.Rows), int(dataset.Columns)
    check_size(*shape, path)
    syntax, decoder, plugin = _find_decoder(dataset, path)
    bits = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high_bit = int(dataset.get("HighBit", bits[1] - 1))
    if not 0 < bits[1] <= high_bit + 1 <= bits[0]:
        raise InputError(f"{path}: has a damaged header (bits allocated, bits stored, high bit)")
    try:
        pixels = _decode(dataset, shape, bits, syntax, decoder, plugin)
        # pydicom takes the lowest BitsStored bits wherever HighBit is: moved here instead.
        if _is_bitwise(syntax) and bits[0] > 1 and bits[0] > bits[1]:
            pixels = (pixels << (bits[0] - 1 - high_bit)) >> (bits[0] - bits[1])
    except Exception:  # the decoders' texts are many, and some span lines
        raise InputError(
            f"{path}: has damaged or truncated pixel data ({syntax.name}); copy or export it again"
        ) from None
    if pixels.ndim != (2 if int(dataset.SamplesPerPixel) == 1 else 3):
        raise InputError(f"{path}: has several frames; expected one image")
    return pixels


def _find_decoder(dataset: Any, path: str | os.PathLike[str]) -> tuple[Any, Any, str]:
    """Returns the transfer syntax, pydicom's decoder of it, and the plugin that it is to use."""
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
    return syntax, decoder, plugin


def _is_bitwise(syntax: Any) -> bool:
    """Says whether stored values may hold bits that are not part of them."""
    return not syntax.is_encapsulated or syntax == _RLE


def _decode(
    dataset: Any,
    shape: tuple[int, int],
    bits: tuple[int, int],
    syntax: Any,
    decoder: Any,
    plugin: str,
) -> np.ndarray:
    """Decodes all bits; raises anything on damage."""
    from pydicom.encaps import generate_frames

    if plugin != "gdcm":
        options: Any = {"correct_unused_bits": False} if _is_bitwise(syntax) else {}
        return decoder.as_array(dataset, decoding_plugin=plugin, **options)[0]
    frame = b"".join(generate_frames(dataset.PixelData, number_of_frames=1))
    *size, stream_bits = read_stream_header(frame)
    if size != [*shape, int(dataset.SamplesPerPixel)] or stream_bits > bits[0]:
        raise ValueError("the stream is of another image than the header")
    with silence_stderr():  # GDCM's libraries print lines of their own about damage
        if syntax == _EXTENDED and bits[1] > 8:
            return _decode_12_bits(frame, shape)
        return decoder.as_array(dataset, decoding_plugin=plugin)[0]


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
