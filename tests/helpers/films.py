"""Films of many kinds, made of phantoms: what two ways of reading a film are compared on.

Import it after importorskip of pydicom and gdcm.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from tests.helpers.dicom_files import compressed, dicom, saved

_ORIENTATION = 0x0112


class Kind(NamedTuple):
    """A kind of film."""

    name: str  # of the file
    write: Callable[[Path, np.ndarray], None]  # a phantom, uint8 [512, 512], to a file
    exact: bool = True  # both ways have the same pixels, so that their masks differ by rounding


def write_films(folder: Path, phantoms: np.ndarray, names: set[str] | None = None) -> list[Path]:
    """Writes a film of each kind, of one phantom after the other: uint8 [N, 512, 512]."""
    paths = []
    for i, kind in enumerate(KINDS):
        if names is None or kind.name in names:
            path = folder / kind.name
            kind.write(path, phantoms[i % len(phantoms)])
            paths.append(path)
    return paths


def sized(film: np.ndarray, height: int, width: int) -> np.ndarray:
    """The film at another size, with a little noise, so that no two sizes are alike."""
    shrinks = height < film.shape[0] and width < film.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    noise = np.random.default_rng(height * width).normal(0, 2, (height, width))
    return np.clip(cv2.resize(film, (width, height), interpolation=method) + noise, 0, 255).astype(
        np.uint8
    )


def deep(film: np.ndarray, bits: int = 12, height: int = 900, width: int = 800) -> np.ndarray:
    """The film with so many bits, uint16."""
    wide = cv2.resize(film, (width, height), interpolation=cv2.INTER_CUBIC).astype(float)
    noise = np.random.default_rng(bits).normal(0, 0.01, wide.shape)
    return np.clip((wide / 255 + noise) * (2**bits - 1), 0, 2**bits - 1).astype(np.uint16)


def tinted(film: np.ndarray) -> np.ndarray:
    return np.stack([film, film * 0.96, film * 0.9], -1).astype(np.uint8)


def save_interlaced(path: Path, film: np.ndarray) -> None:
    """Writes a PNG of seven passes (Adam7), which Pillow does not."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    lines = b""
    for x, y, dx, dy in (*passes, (0, 1, 1, 2)):
        lines += b"".join(b"\0" + row.tobytes() for row in film[y::dy, x::dx])
    height, width = film.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        data += (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )
    path.write_bytes(data)


def _picture(change: Callable[[np.ndarray], np.ndarray], **options) -> Callable:
    def write(path: Path, film: np.ndarray) -> None:
        Image.fromarray(change(film)).save(path, **options)

    return write


def _size(height: int, width: int, **options) -> Callable:
    return _picture(lambda film: sized(film, height, width), **options)


def _turned(orientation: int) -> Callable:
    """A JPEG whose Exif turns it upright."""
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]

    def write(path: Path, film: np.ndarray) -> None:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        turned = _turn(sized(film, 640, 560), undo)
        Image.fromarray(turned).save(path, exif=exif, quality=95)

    return write


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _dicom(bits: int = 12, syntax=None, **attributes) -> Callable:
    def write(path: Path, film: np.ndarray) -> None:
        pixels = deep(film, bits) if bits > 8 else sized(film, 700, 640)
        dataset = dicom(pixels, bits, **attributes)
        saved(path, dataset, *([syntax] if syntax else []))

    return write


def _packed(name: str, bits: int = 12, **attributes) -> Callable:
    def write(path: Path, film: np.ndarray) -> None:
        plain = path.with_suffix(".plain")
        _dicom(bits, **attributes)(plain, film)
        compressed(path, plain, name)
        plain.unlink()

    return write


def _table(**attributes) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _voi_lut(path: Path, film: np.ndarray) -> None:
    curve = (65535 / (1 + np.exp(-np.linspace(-5, 5, 4096)))).astype(int).tolist()
    lut = _table(LUTDescriptor=[4096, 0, 16], LUTData=curve)
    lut["LUTDescriptor"].VR = lut["LUTData"].VR = "US"
    saved(path, dicom(deep(film), 12, VOILUTSequence=[lut]))


def _modality_lut(path: Path, film: np.ndarray) -> None:
    curve = (4095 * np.linspace(0, 1, 4096) ** 1.4).astype(int).tolist()
    lut = _table(LUTDescriptor=[4096, 0, 12], LUTData=curve, ModalityLUTType="US")
    lut["LUTDescriptor"].VR = lut["LUTData"].VR = "US"
    saved(path, dicom(deep(film), 12, ModalityLUTSequence=[lut]))


def _padded(path: Path, film: np.ndarray) -> None:
    pixels = deep(film)
    pixels[:, :60] = pixels[:, -40:] = 4095
    saved(path, dicom(pixels, 12, PixelPaddingValue=4095))


def _commas(path: Path, film: np.ndarray) -> None:
    """Numbers with decimal commas, of one length with the points that pydicom would write."""
    attributes = {"WindowCenter": "2048.5", "WindowWidth": "3900.5"}
    saved(path, dicom(deep(film), 12, PixelSpacing=["0.1500", "0.1600"], **attributes))
    data = path.read_bytes()
    for text in (b"2048.5", b"3900.5", b"0.1500", b"0.1600"):
        assert data.count(text) == 1
        data = data.replace(text, text.replace(b".", b","))
    path.write_bytes(data)


def _signed(path: Path, film: np.ndarray) -> None:
    pixels = deep(film).astype(np.int16) - 2048
    saved(path, dicom(pixels, 12, RescaleSlope=2, RescaleIntercept=100))


def _palette_colour(path: Path, film: np.ndarray) -> None:
    dataset = dicom(sized(film, 600, 600), PhotometricInterpretation="PALETTE COLOR")
    ramp = np.linspace(0, 65535, 256).astype("<u2")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        dataset[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(dataset, f"{colour}PaletteColorLookupTableData", ramp.tobytes())
    saved(path, dataset)


def _high_bit(path: Path, film: np.ndarray) -> None:
    dataset = dicom(deep(film) << 4, 12)
    dataset.HighBit = 15
    saved(path, dataset)


def _bare(path: Path, film: np.ndarray) -> None:
    """A data set without the header of a file, as old devices write it."""
    dataset = dicom(deep(film), 12)
    whole = path.with_suffix(".plain")
    saved(whole, dataset, ImplicitVRLittleEndian)
    data = whole.read_bytes()
    length = struct.unpack_from("<I", data, 140)[0]
    path.write_bytes(data[144 + length :])
    whole.unlink()


def _rgb(path: Path, film: np.ndarray) -> None:
    saved(path, dicom(tinted(sized(film, 600, 580))))


def _half(film: np.ndarray) -> np.ndarray:
    return sized(film, 800, 800)[:, :380]


def _bars(film: np.ndarray) -> np.ndarray:
    return np.pad(sized(film, 600, 600), ((0, 0), (200, 200)))


def _marker(film: np.ndarray) -> np.ndarray:
    pixels = deep(film)
    pixels[20:60, 20:60] = 65535
    return pixels


def _rgba(film: np.ndarray) -> np.ndarray:
    alpha = np.full(film.shape, 128, np.uint8)
    return np.dstack([film, film, film, alpha])


def _noise(film: np.ndarray) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (300, 400, 3), dtype=np.uint8)


def _kinds() -> Iterator[Kind]:
    sides = ((200, 230), (233, 200), (256, 256), (300, 251), (512, 512), (700, 900), (1024, 1024))
    for height, width in (*sides, (1900, 2300), (2048, 2500), (3000, 2500), (4000, 3400)):
        yield Kind(f"grey_{height}x{width}.png", _size(height, width))
    yield Kind("twelve_bits.png", _picture(deep))
    yield Kind("sixteen_bits.png", _picture(lambda film: deep(film, 16)))
    yield Kind("sixteen_bits_small.png", _picture(lambda film: deep(film, 16, 210, 240)))
    yield Kind("ten_bits_large.png", _picture(lambda film: deep(film, 10, 2400, 2000)))
    yield Kind("marker.png", _picture(_marker))
    yield Kind("rgb.png", _picture(lambda film: np.repeat(sized(film, 640, 600)[..., None], 3, -1)))
    yield Kind("tinted.png", _picture(lambda film: tinted(sized(film, 640, 600))))
    yield Kind("rgba.png", _picture(_rgba))
    yield Kind("few_greys.png", _picture(lambda film: film // 17 * 17))
    yield Kind("interlaced.png", lambda path, film: save_interlaced(path, sized(film, 333, 301)))
    yield Kind(
        "palette.png", lambda path, film: Image.fromarray(tinted(film)).quantize(128).save(path)
    )
    yield Kind("jpeg.jpg", _size(1000, 900, quality=92))
    yield Kind("jpeg_coarse.jpg", _size(700, 640, quality=60))
    yield Kind("jpeg_progressive.jpg", _size(800, 640, quality=90, progressive=True))
    yield Kind("jpeg_rgb.jpg", _picture(lambda film: tinted(sized(film, 900, 801)), quality=90))
    yield Kind("jpeg_444.jpg", _picture(lambda film: tinted(film), quality=90, subsampling=0))
    for orientation in range(2, 9):
        yield Kind(f"exif_{orientation}.jpg", _turned(orientation))
    yield Kind("inverted.png", _picture(lambda film: 255 - sized(film, 700, 640)))
    yield Kind("inverted.jpg", _picture(lambda film: 255 - sized(film, 900, 840), quality=90))
    for degrees in (90, 180, 270):
        yield Kind(
            f"turned_{degrees}.png",
            _picture(lambda film, k=-degrees // 90: np.rot90(sized(film, 700, 640), k).copy()),
        )
    yield Kind("low_contrast.png", _picture(lambda film: (100 + film / 40).astype(np.uint8)))
    yield Kind("blank.png", _picture(lambda film: np.full((400, 300), 9, np.uint8)))
    yield Kind("tiny.png", _size(50, 60))
    yield Kind("wide.png", _picture(lambda film: np.pad(film, ((0, 0), (400, 900)), mode="edge")))
    yield Kind("half.png", _picture(_half))
    yield Kind("bars.png", _picture(_bars))
    yield Kind("noise.png", _picture(_noise))
    yield Kind("mirror.png", _picture(lambda film: film[:, ::-1].copy()))
    yield Kind("explicit.dcm", _dicom(PixelSpacing=[0.168, 0.17]))
    yield Kind("implicit.dcm", _dicom(syntax=ImplicitVRLittleEndian))
    yield Kind("big_endian.dcm", _dicom(syntax=ExplicitVRBigEndian))
    yield Kind("deflated.dcm", _dicom(syntax=DeflatedExplicitVRLittleEndian))
    yield Kind("bare.dcm", _bare)
    yield Kind("eight_bits.dcm", _dicom(8))
    yield Kind("sixteen_bits.dcm", _dicom(16))
    yield Kind("rle.dcm", _packed("RLELossless"))
    yield Kind("jpeg_baseline.dcm", _packed("JPEGBaselineProcess1", 8))
    yield Kind("jpeg_lossless.dcm", _packed("JPEGLosslessProcess14_1"))
    yield Kind("jpeg_ls.dcm", _packed("JPEGLSLossless"))
    yield Kind("jpeg_2000.dcm", _packed("JPEG2000Lossless"))
    yield Kind("jpeg_2000_lossy.dcm", _packed("JPEG2000"), exact=False)
    yield Kind("jpeg_2000_small.dcm", _packed("JPEG2000Lossless", 8))
    monochrome1 = {"PhotometricInterpretation": "MONOCHROME1"}
    yield Kind("monochrome1.dcm", _dicom(**monochrome1))
    yield Kind("monochrome1_small.dcm", _dicom(8, **monochrome1))
    yield Kind("monochrome1_ls.dcm", _packed("JPEGLSLossless", **monochrome1))
    yield Kind("inverse.dcm", _dicom(PresentationLUTShape="INVERSE"))
    yield Kind("window.dcm", _dicom(WindowCenter=1900, WindowWidth=3000))
    yield Kind("windows.dcm", _dicom(WindowCenter=[2100, 900], WindowWidth=[3600, 100]))
    window = {"WindowCenter": 2048, "WindowWidth": 3000}
    yield Kind("sigmoid.dcm", _dicom(VOILUTFunction="SIGMOID", **window))
    yield Kind("linear_exact.dcm", _dicom(VOILUTFunction="LINEAR_EXACT", **window))
    yield Kind("rescaled.dcm", _dicom(RescaleSlope=-1, RescaleIntercept=4095, **window))
    yield Kind("signed.dcm", _signed)
    yield Kind("voi_lut.dcm", _voi_lut)
    yield Kind("modality_lut.dcm", _modality_lut)
    yield Kind("padding.dcm", _padded)
    yield Kind("commas.dcm", _commas)
    yield Kind("high_bit.dcm", _high_bit)
    yield Kind("palette.dcm", _palette_colour)
    yield Kind(
        "rgb.dcm", lambda path, film: saved(path, dicom(tinted(sized(film, 600, 580)))) and None
    )
    yield Kind("mirrored.dcm", _dicom(PatientOrientation=["R", "F"], ImagerPixelSpacing=[0.2, 0.2]))


KINDS = tuple(_kinds())
