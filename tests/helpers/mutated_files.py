"""Damaged, odd and hostile image files, drawn from a seed. Import it after importorskip of pydicom
and gdcm."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.helpers.dicom_files import compressed, dicom, saved

SECRETS = dict(PatientName="Quuxson^Zebediah", PatientID="QX4711", StudyDescription="Wibble")
GDCM = ("JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "JPEG2000", "RLELossless")
SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".gif", ".npy", ".dcm")
NAMES = (
    "a\nb",
    "a\n\n\r\tb",
    "\x1b[31mred\x07",
    "sp ace  s",
    "[x]*?",
    "%s{0}",
    "ü漢🫁",
    "\u2028x",
    "'\"",
    "\udcff\udcfe",
    "-",
    "--out",
    "$HOME;`ls`",
    "a" * 230,
    "a" * 245,
    "..a",
    "x_overlay",
    "\\",
    "~",
    "e\u0301",
)
Content = tuple[str, bytes]  # suffix, bytes


def encoded(pixels, format, **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, format, **options)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def seeds(images, folder: Path) -> list[Content]:
    """Whole files of every format, of uint8 [N, H, W]."""
    one, two = images[0], images[1]
    deep = one.astype(np.uint16) * 16
    found = [
        (".png", encoded(one, "PNG")),
        (".png", encoded(deep, "PNG")),
        (".png", encoded(np.dstack([two] * 3), "PNG")),
        (".png", encoded(Image.fromarray(two).convert("P"), "PNG")),
        (".jpg", encoded(one, "JPEG")),
        (".jpg", encoded(np.dstack([two] * 3), "JPEG", progressive=True)),
        (".tif", encoded(one, "TIFF")),
        (".tif", encoded(deep, "TIFF", compression="tiff_lzw")),
        (".tif", encoded(two.astype(np.float32), "TIFF", compression="tiff_adobe_deflate")),
        (".tif", encoded(np.dstack([two] * 3), "TIFF", compression="jpeg")),
        (".bmp", encoded(one, "BMP")),
        (".gif", encoded(two, "GIF")),
        (".npy", npy(one)),
        (".npy", npy(two / np.float32(255))),
    ]
    plain = saved(folder / "plain.dcm", dicom(deep, bits=12, **SECRETS))
    found.append((".dcm", plain.read_bytes()))
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        path = saved(folder / "seed.dcm", dicom(deep, bits=12, **SECRETS), syntax)
        found.append((".dcm", path.read_bytes()))
    windowed = dicom(two, WindowCenter=120, WindowWidth=200, RescaleSlope=2, RescaleIntercept=-9)
    found.append((".dcm", saved(folder / "seed.dcm", windowed).read_bytes()))
    for name in GDCM:
        found.append((".dcm", compressed(folder / "seed.dcm", plain, name).read_bytes()))
    grey = saved(folder / "grey.dcm", dicom(one, **SECRETS))
    found.append(
        (".dcm", compressed(folder / "seed.dcm", grey, "JPEGBaselineProcess1").read_bytes())
    )
    return found


def truncated(rng, data):
    return data[: int(rng.integers(len(data)))]


def flipped(rng, data, last=None):
    broken = bytearray(data)
    for _ in range(int(2 ** rng.uniform(0, 6))):
        broken[int(rng.integers(min(len(data), last or len(data))))] ^= 1 << int(rng.integers(8))
    return bytes(broken)


def flipped_start(rng, data):
    return flipped(rng, data, 400)


def zeroed(rng, data):
    start, length = int(rng.integers(len(data))), int(2 ** rng.uniform(0, 10))
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def filled(rng, data):
    start, length = int(rng.integers(len(data))), int(2 ** rng.uniform(0, 10))
    return data[:start] + b"\xff" * len(data[start : start + length]) + data[start + length :]


def swapped(rng, data):
    return np.frombuffer(data[: len(data) // 2 * 2], "<u2").byteswap().tobytes()


def inserted(rng, data):
    start = int(rng.integers(len(data)))
    return data[:start] + rng.bytes(int(2 ** rng.uniform(0, 10))) + data[start:]


def doubled(rng, data):
    start, stop = sorted(int(n) for n in rng.integers(len(data), size=2))
    return data[:stop] + data[start:stop] + data[stop:]


def removed(rng, data):
    start, length = int(rng.integers(len(data))), int(2 ** rng.uniform(0, 8))
    return data[:start] + data[start + length :]


def garbage(rng, data):
    return data[: int(2 ** rng.uniform(0, 9))] + rng.bytes(2000)


def extreme(rng, data):
    """A word of the header that is the least or most of its type."""
    at = int(rng.integers(min(len(data), 1000)))
    word = (
        b"\0" * 4,
        b"\xff" * 4,
        b"\xff\x7f",
        b"\0\x80",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\x7f",
    )
    put = word[int(rng.integers(len(word)))]
    return data[:at] + put + data[at + len(put) :]


def whole(rng, data):
    return data


DAMAGE = (
    truncated,
    flipped,
    flipped,
    flipped_start,
    flipped_start,
    zeroed,
    filled,
    swapped,
    inserted,
    doubled,
    removed,
    garbage,
    extreme,
    extreme,
)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(size, level=9, wbits=zlib.MAX_WBITS, before=b""):
    """Zero bytes, size of them, squeezed by zlib: blocks of 16 MiB, which are squeezed once."""
    packer, block = zlib.compressobj(level, wbits=wbits), 2**24
    start = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    full = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    many = full * (size // block)
    end = packer.compress(bytes(size % block)) + packer.flush()
    # The checksum at the end is another's, and is checked after everything is unpacked.
    return start + many + end


def png(width, height, data=None, *, depth=8, colour=0, extra=b""):
    """Of zeros where data are not given, squeezed as far as they go."""
    if data is None:
        row = 1 + (width * depth * (1, 0, 3, 1, 2, 0, 4)[colour] + 7) // 8
        data = zeros(row * height) if row * height > 2**24 else zlib.compress(bytes(row * height))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def bmp(width, height, bits=8, data=b"\0" * 64, compression=0):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + head + data


def gif(width, height, frames=1, comment=0, pixel=b"\x02\x02\x44\x01\0"):
    place = struct.pack("<HHHHB", 0, 0, min(width, 1), min(height, 1), 0)
    block = b"\x21\xfe" + b"\x01x" * comment + b"\0" if comment else b""
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + bytes(6)
        + block
        + (b"\x2c" + place + pixel) * frames
        + b";"
    )


def tiff(width, height, *, count=1, bits=8, compression=1, data=b"\0" * 64, after=0, chain=1):
    """chain: image file directories; after: where the last one says that the next one is."""
    size = 2 + 9 * 12 + 4
    first = 8 + len(data) + len(data) % 2
    file = bytearray(b"II*\0" + struct.pack("<I", first) + data + b"\0" * (len(data) % 2))
    for i in range(chain):
        tags = {
            256: width,
            257: height,
            258: bits,
            259: compression,
            262: 1,
            273: 8,
            277: count,
            278: height,
            279: len(data),
        }
        file += struct.pack("<H", len(tags))
        for tag, value in tags.items():
            file += struct.pack("<HHII", tag, 4, 1, value)
        file += struct.pack("<I", first + size * (i + 1) if i + 1 < chain else after)
    return bytes(file)


def jpeg_of(data, width, height):
    at = next(i for i in range(2, len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def jpeg_of_many_scans(image, scans):
    """Progressive; a last scan, which refines nothing, over and over."""
    data = encoded(np.zeros_like(image), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def npy_of(shape, descr="|u1", data=b"\0" * 64):
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + data


ATTRIBUTES = [
    dict(Rows=0),
    dict(Columns=0),
    dict(Rows=1),
    dict(Rows=40000, Columns=40000),
    dict(Rows=65535, Columns=65535),
    dict(Columns=11000, Rows=11000),
    dict(BitsAllocated=0),
    dict(BitsAllocated=1, BitsStored=1, HighBit=0),
    dict(BitsAllocated=64),
    dict(BitsAllocated=65535),
    dict(BitsAllocated=32, BitsStored=32, HighBit=31),
    dict(BitsStored=0),
    dict(BitsStored=99),
    dict(HighBit=3),
    dict(HighBit=65535),
    dict(SamplesPerPixel=0),
    dict(SamplesPerPixel=5),
    dict(SamplesPerPixel=65535),
    dict(NumberOfFrames=10),
    dict(NumberOfFrames=-1),
    dict(NumberOfFrames=10**9),
    dict(PhotometricInterpretation="QX4711"),
    dict(PhotometricInterpretation="PALETTE COLOR"),
    dict(PhotometricInterpretation="RGB"),
    dict(PixelRepresentation=7),
    dict(RescaleSlope=0),
    dict(RescaleSlope="1e30"),
    dict(RescaleSlope=1e-300),
    dict(RescaleIntercept=1e300, RescaleSlope=1e300),
    dict(WindowCenter=0, WindowWidth=0),
    dict(WindowCenter=1e15, WindowWidth=1),
    dict(WindowCenter=-1e15, WindowWidth=1e-15),
    dict(VOILUTFunction="QX4711", WindowWidth=5, WindowCenter=9),
    dict(VOILUTFunction="SIGMOID", WindowWidth=1e-9, WindowCenter=9),
    dict(PixelSpacing=[0, 0]),
    dict(PixelSpacing=[1e-30, 1e30]),
    dict(Modality="CT"),
    dict(Modality="QX4711"),
    dict(PatientOrientation=["R", "F"]),
    dict(PixelPaddingValue=0, PixelPaddingRangeLimit=65535),
    dict(PixelData=b""),
    dict(PixelData=b"\0" * 10),
    dict(PixelData=b"\0" * 100000),
    dict(PresentationLUTShape="INVERSE"),
    dict(VOILUTSequence=[Dataset()]),
    dict(ModalityLUTSequence=[Dataset()]),
]


def odd_dicom(rng, images, folder):
    data = dicom(images[0].astype(np.uint16) * 16, bits=12, **SECRETS)
    for keyword, value in ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))].items():
        setattr(data, keyword, value)
    return saved(folder / "odd.dcm", data, ImplicitVRLittleEndian).read_bytes()


def without(rng, images, folder):
    """DICOM that lacks an attribute: of the pixels mostly."""
    data = dicom(images[0], **SECRETS)
    keywords = (
        "PixelData",
        "PixelData",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PixelRepresentation",
        "Modality",
        "SOPClassUID",
    )
    del data[keywords[int(rng.integers(len(keywords)))]]
    return saved(folder / "odd.dcm", data).read_bytes()


def large_dicom(side, folder, syntax=DeflatedExplicitVRLittleEndian, **attributes):
    data = dicom(np.zeros((side, side), np.uint16), bits=12, **SECRETS, **attributes)
    return saved(folder / "odd.dcm", data, syntax).read_bytes()


def deflated_bomb(size, folder):
    """Less than a thousandth of the bytes that it unpacks to."""
    data = saved(folder / "odd.dcm", dicom(np.zeros((4, 4), np.uint8), **SECRETS)).read_bytes()
    data = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    start = data.index(b"\x08\0\x16\0UI")  # where the data set begins
    length = struct.unpack_from("<I", data, 140)[0] + 2  # the name of the syntax grew by two
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, size)
    packed = zeros(size, 6, -zlib.MAX_WBITS, data[start : data.index(pixels[:6])] + pixels)
    head = bytearray(data[:140] + struct.pack("<I", length) + data[144:start])
    at = head.index(b"1.2.840.10008.1.2.1.99")
    head[at - 2 : at] = struct.pack("<H", 22)
    return bytes(head) + packed


def nested(depth, folder):
    data = saved(folder / "odd.dcm", dicom(np.zeros((8, 8), np.uint8))).read_bytes()
    item = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return data[:-100] + item * depth


def elements(count, folder):
    """Many elements of nothing before the pixels."""
    data = saved(folder / "odd.dcm", dicom(np.zeros((8, 8), np.uint8))).read_bytes()
    at = data.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OB"))
    return data[:at] + struct.pack("<HH2sH", 0x0029, 0x1010, b"LO", 0) * count + data[at:]


def tiny(rng, images, folder):
    """One pixel, a row, a column, in any format."""
    height, width = ((1, 1), (1, 9), (9, 1), (2, 2), (1, 3000), (3000, 1), (2, 700), (15, 17))[
        int(rng.integers(8))
    ]
    pixels = np.resize(images[0], (height, width))
    kind = int(rng.integers(7))
    if kind < 5:
        format = ("PNG", "JPEG", "TIFF", "BMP", "GIF")[kind]
        return SUFFIXES[kind], encoded(pixels, format)
    if kind == 5:
        return ".npy", npy(pixels)
    return ".dcm", saved(folder / "odd.dcm", dicom(pixels)).read_bytes()


def hostile(images, folder) -> list[tuple[str, Callable[[], bytes]]]:
    """Files made one by one, each by a function: some are slow to make."""
    one = images[0]
    jpeg = encoded(one, "JPEG")
    deep = encoded(one.astype(np.uint16) * 16, "PNG")[-1000:]
    return [
        (".png", lambda: b""),
        (".dcm", lambda: b""),
        (".npy", lambda: b""),
        (".tif", lambda: b"\n"),
        (".jpg", lambda: b"this is no image\n" * 50),
        (".dcm", lambda: b"\x08\0 text\n" * 50),
        (".gif", lambda: b"<html><body>404</body></html>"),
        (".dcm", lambda: bytes(128) + b"DICM"),
        (".bmp", lambda: b"BM"),
        (".npy", lambda: b"\x93NUMPY"),
        (".png", lambda: b"PK\x03\x04" + bytes(99)),
        # Sizes that headers state.
        (".png", lambda: png(40000, 40000, b"")),
        (".png", lambda: png(0, 0, b"")),
        (".png", lambda: png(0, 9, b"")),
        (".png", lambda: png(2**31 - 1, 2**31 - 1, b"")),
        (".png", lambda: png(9000, 9000, b"")),
        (".png", lambda: png(2**31 - 1, 1, b"")),
        (".bmp", lambda: bmp(40000, 40000)),
        (".bmp", lambda: bmp(0, 0)),
        (".bmp", lambda: bmp(-5, 5)),
        (".bmp", lambda: bmp(5, -(2**31))),
        (".bmp", lambda: bmp(7000, 7000, 24)),
        (".bmp", lambda: bmp(8000, 8000, data=b"\0\x02\xff\xff" * 999, compression=1)),
        (".bmp", lambda: bmp(8000, 8000, data=b"\xff\x07" * 99999, compression=1)),
        (".gif", lambda: gif(40000, 40000)),
        (".gif", lambda: gif(0, 0)),
        (".gif", lambda: gif(5700, 5700)),
        (".tif", lambda: tiff(40000, 40000)),
        (".tif", lambda: tiff(0, 0)),
        (".tif", lambda: tiff(8000, 8000)),
        (".tif", lambda: tiff(8, 8, count=5, data=bytes(320))),
        (".tif", lambda: tiff(8, 8, count=2, data=bytes(128))),
        (".tif", lambda: tiff(8, 8, count=65535)),
        (".tif", lambda: tiff(8, 8, bits=64)),
        (".tif", lambda: tiff(8, 8, compression=7)),
        (".tif", lambda: tiff(8, 8, compression=34712)),
        (".tif", lambda: tiff(8, 8, after=8 + 64)),
        (".tif", lambda: tiff(8, 8, chain=2, after=8 + 64)),
        (".tif", lambda: tiff(8, 8, chain=30000)),
        (".tif", lambda: tiff(8, 8, after=2**32 - 1)),
        (
            ".tif",
            lambda: tiff(5700, 5700, compression=8, data=zlib.compress(bytes(5700 * 5700), 9)),
        ),
        (".jpg", lambda: jpeg_of(jpeg, 40000, 40000)),
        (".jpg", lambda: jpeg_of(jpeg, 0, 0)),
        (".jpg", lambda: jpeg_of(jpeg, 1, 1)),
        (".jpg", lambda: jpeg_of(jpeg, 5700, 5700)),
        (".jpg", lambda: jpeg_of(jpeg, 65535, 65535)),
        (".jpg", lambda: jpeg_of_many_scans(np.resize(one, (2000, 2000)), 2000)),
        (".npy", lambda: npy_of((40000, 40000))),
        (".npy", lambda: npy_of((0, 0))),
        (".npy", lambda: npy_of((10**9, 10**9))),
        (".npy", lambda: npy_of((2**62, 4, 4))),
        (".npy", lambda: npy_of((-4, 4))),
        (".npy", lambda: npy_of((8, 8), "|V9999999")),
        (".npy", lambda: npy_of((8, 8), "<f16")),
        (".npy", lambda: npy_of((8, 8, 8, 8, 8))),
        (".npy", lambda: npy_of((4, 4, 4))),
        (".npy", lambda: npy_of("-" * 9000)),
        (".npy", lambda: npy_of((16000, 16000), "<f8")),
        # Values and channels.
        (".npy", lambda: npy(np.zeros((40, 40, 5), np.uint8))),
        (".npy", lambda: npy(np.zeros((40, 40, 2), np.uint8))),
        (".npy", lambda: npy(np.full((40, 40), np.nan))),
        (".npy", lambda: npy(np.where(one > 90, np.inf, one))),
        (".npy", lambda: npy(np.where(one > 90, np.float16(np.nan), np.float16(1)))),
        (".npy", lambda: npy(one / 255 * 1e308)),
        (".npy", lambda: npy(one.astype(np.int64) * 2**54)),
        (".npy", lambda: npy(one > 99)),
        (".npy", lambda: npy(one * 1e-310)),
        (".npy", lambda: npy(one.astype(complex))),
        (".npy", lambda: npy(np.array([[None]]))),
        (".npy", lambda: npy(one.astype(np.longdouble) * np.longdouble("1e4000"))),
        (".tif", lambda: encoded(np.where(one > 90, np.nan, one).astype(np.float32), "TIFF")),
        (".tif", lambda: encoded(np.full(one.shape, -np.inf, np.float32), "TIFF")),
        (".tif", lambda: encoded(one.astype(np.int32) - 2**30, "TIFF")),
        (".png", lambda: png(40, 40, deep, depth=16, colour=2)),
        (".png", lambda: png(40, 40, depth=16, colour=6)),
        (".png", lambda: png(40, 40, colour=3)),
        (".png", lambda: png(40, 40, depth=7)),
        (".jpg", lambda: encoded(Image.fromarray(one).convert("CMYK"), "JPEG")),
        (".png", lambda: encoded(Image.fromarray(one).convert("LA"), "PNG")),
        (".png", lambda: encoded(np.zeros((64, 64), np.uint8), "PNG")),
        (".png", lambda: encoded(np.full((64, 64), 255, np.uint8), "PNG")),
        (
            ".png",
            lambda: encoded(
                np.random.default_rng(0).integers(0, 256, (200, 100, 3), np.uint8), "PNG"
            ),
        ),
        (
            ".gif",
            lambda: encoded(
                one, "GIF", save_all=True, append_images=[Image.fromarray(i) for i in images[1:]]
            ),
        ),
        (
            ".tif",
            lambda: encoded(
                one, "TIFF", save_all=True, append_images=[Image.fromarray(i) for i in images[1:]]
            ),
        ),
        (
            ".png",
            lambda: encoded(
                one, "PNG", save_all=True, append_images=[Image.fromarray(i) for i in images[1:]]
            ),
        ),
        # What is small and unpacks to much, or takes long.
        (".png", lambda: png(5700, 5700)),
        (".png", lambda: png(13000, 13000)),
        (".png", lambda: png(5700, 5700, depth=16)),
        (".png", lambda: png(5600, 5600, colour=2)),
        (".png", lambda: png(5600, 5600, depth=16, colour=6)),
        (".png", lambda: png(60_000_000, 1, depth=1)),
        (".png", lambda: png(1, 500_000)),
        (".png", lambda: png(30_000, 1000)),
        (".png", lambda: png(8, 8, zeros(10**9))),
        (".png", lambda: png(8, 8, extra=chunk(b"zTXt", b"x\0\0" + zeros(10**8)))),
        (".png", lambda: png(8, 8, extra=chunk(b"iCCP", b"x\0\0" + zeros(10**8)))),
        (".png", lambda: png(8, 8, extra=chunk(b"teXt", b"") * 400_000)),
        (".gif", lambda: gif(8, 8, frames=400_000)),
        (".gif", lambda: gif(8, 8, comment=2_000_000)),
        (".jpg", lambda: jpeg[:2] + b"\xff\xfe\0\x02" * 999_999 + jpeg[2:]),
        (".dcm", lambda: deflated_bomb(3 * 10**9, folder)),
        (".dcm", lambda: large_dicom(5700, folder)),
        (".dcm", lambda: large_dicom(5700, folder, WindowCenter=9, WindowWidth=90, RescaleSlope=2)),
        (".dcm", lambda: large_dicom(11000, folder)),
        (".dcm", lambda: nested(50_000, folder)),
        (".dcm", lambda: elements(1_000_000, folder)),
    ]


def mutated_files(
    folder: Path, images: np.ndarray, count: int, seed: int, scratch: Path
) -> list[Path]:
    """Writes count files: with many the hostile ones first, then damage drawn from the seed."""
    rng = np.random.default_rng(seed)
    sound = seeds(images, scratch)
    worst = hostile(images, scratch)
    light = worst if count >= 2 * len(worst) else []  # they take long
    paths = []
    for i in range(count):
        kind = rng.choice(
            ["damage", "suffix", "odd dicom", "without", "tiny", "name"],
            p=[0.62, 0.08, 0.12, 0.05, 0.08, 0.05],
        )
        suffix, data = sound[int(rng.integers(len(sound)))]
        name = f"{i:04d}"
        if i < len(light):
            kind, (suffix, make) = "hostile", light[i]
            data = make()
        elif kind == "damage":
            damage = DAMAGE[int(rng.integers(len(DAMAGE)))]
            kind, data = damage.__name__, damage(rng, data)
        elif kind == "suffix":
            suffix = str(rng.choice(SUFFIXES))
        elif kind == "odd dicom":
            suffix, data = ".dcm", odd_dicom(rng, images, scratch)
        elif kind == "without":
            suffix, data = ".dcm", without(rng, images, scratch)
        elif kind == "tiny":
            suffix, data = tiny(rng, images, scratch)
        else:
            name += NAMES[i % len(NAMES)]
            damage = (whole, truncated)[int(rng.integers(2))]
            data = damage(rng, data)
        path = (
            folder / f"{name}{'' if kind == 'name' else '-' + str(kind).replace(' ', '-')}{suffix}"
        )
        path.write_bytes(data)
        paths.append(path)
    return paths
