"""Reads and writes image files, strictly: a damaged file is an error, never half an image.

This is the one table of picture formats: another format needs a change here alone.
"""

import contextlib
import io
import os
from pathlib import Path, PurePath

import cv2
import numpy as np
from PIL import Image

from jaxlung.errors import InputError
from jaxlung.io.dicom import signature
from jaxlung.io.dicom.file import read_dicom, read_dicom_size
from jaxlung.io.dicom.stream import read_stream_header
from jaxlung.io.effort import check_chunks, check_effort
from jaxlung.io.film import Film, check_file, check_size
from jaxlung.io.png import encode_png
from jaxlung.system.files import write_whole
from jaxlung.system.silence import silence, silence_stderr
from jaxlung.system.threads import take_turn

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000")
_NPY, _JPEG = b"\x93NUMPY", b"\xff\xd8"  # how such files begin
_ORIENTATION = 0x0112  # the Exif tag
_PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp")
SUFFIXES = (*_PICTURES, ".jp2", ".j2k", ".npy", *signature.SUFFIXES)


def read_film(path: str | os.PathLike[str]) -> Film:
    """Reads PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, NPY or DICOM, with what it says of itself.

    The content decides on the format, not the suffix.

    Returns:
        image: as `read_image` says.
        spacing, modality, mirrored: as `dicom.file.read_dicom` says; other formats have None, ""
            and False.
        lossy, in_alpha: as `film.Film` says.

    Raises: as `read_image`.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "film.png"
        >>> write_png(path, np.eye(4, dtype=np.uint8))
        >>> film = read_film(path)
        >>> film.image.shape, film.spacing, film.modality
        ((4, 4), None, '')
    """
    if signature.is_dicom(path):
        return read_dicom(path)
    data = _read_bytes(path)
    is_npy = data.startswith(_NPY)
    film = Film(_read_npy(path, data)) if is_npy else _read_picture(path, data)
    if film.image.dtype.kind == "f" and not np.isfinite(film.image).all():
        raise InputError(f"{path}: holds NaN or infinite values; replace them first")
    return film


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, NPY or DICOM.

    Returns:
        of a picture: uint8 [H, W] or [H, W, 3 or 4], or uint16 / int32 / float32 [H, W], or uint16
        [H, W, 3], as stored. Palettes are expanded to RGB. Exif's Orientation is applied: rows and
        columns are those that a viewer shows.
        of NPY: the array itself, [H, W] or [H, W, 3 or 4] of integers or floats; bool becomes
        uint8 of 0 and 255.
        of DICOM: uint8 or float32 [H, W], as a screen shows it: see `dicom.file.read_dicom`.

    Raises:
        InputError: the file is missing, unreadable, not an image, damaged or has several frames;
            or it is DICOM and the extra "dicom" is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "film.png"
        >>> write_png(path, np.eye(2, dtype=np.uint8))
        >>> read_image(path).tolist()
        [[1, 0], [0, 1]]
    """
    return read_film(path).image


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    check_file(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read_npy(path: str | os.PathLike[str], data: bytes) -> np.ndarray:
    try:
        with silence():
            pixels = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a header may be damaged in many ways
        raise InputError(
            f"{path}: is damaged, truncated or an array of objects, which would need pickle; save "
            f"an array of numbers with numpy.save"
        ) from error
    if pixels.dtype.kind not in "buif":
        raise InputError(f"{path}: has dtype {pixels.dtype}; expected integers or floats")
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4))
    if not is_image or 0 in pixels.shape:
        raise InputError(f"{path}: has shape {pixels.shape}; expected HxW, HxWx3 or HxWx4")
    check_size(pixels.shape[0], pixels.shape[1], path)
    return np.where(pixels, 255, 0).astype(np.uint8) if pixels.dtype == bool else pixels


def _read_picture(path: str | os.PathLike[str], data: bytes) -> Film:
    check_chunks(path, data)
    try:
        with silence():  # Pillow warns of very large images and odd metadata; what matters raises
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                check_size(image.height, image.width, path)
                if image.format == "PNG":
                    image.verify()  # checksums, which decoding a small file would not reach
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if getattr(image, "is_animated", False):  # counting them may take long
                    raise InputError(f"{path}: has several frames; expected one image")
                check_effort(path, image, data)
                # Libraries print lines of their own about damage to TIFF.
                quiet = silence_stderr() if image.format == "TIFF" else contextlib.nullcontext()
                with take_turn(image.height * image.width), quiet:
                    pixels = _pixels(image)
                    if _is_deep_colour(image, data):
                        pixels = _decode_deep_colour(data)
                    if image.format != "TIFF":  # libraries turn TIFF on their own
                        pixels = _turn(pixels, _read_orientation(image))
                    in_alpha = _is_in_alpha(image, pixels)
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{path}: is not an image that can be read (expected {' '.join(SUFFIXES)})"
        ) from error
    except Exception as error:  # Pillow's decoders raise many types on damaged data
        raise InputError(f"{path}: is damaged or truncated ({error}); replace the file") from error
    return Film(pixels, lossy=_is_lossy(data), in_alpha=in_alpha)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads height and width as `read_image` would return them, mostly without decoding.

    Raises:
        InputError: the file is missing, unreadable or not an image.
    """
    if signature.is_dicom(path):
        return read_dicom_size(path)
    try:
        check_file(path)
        with open(path, "rb") as file:
            is_npy = file.read(len(_NPY)) == _NPY
        if is_npy:
            height, width = read_image(path).shape[:2]
            return height, width
        with silence(), Image.open(path, formats=_FORMATS) as image:
            # Pillow decodes a PNG whole to look for an Exif chunk behind its pixels.
            has_exif = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
            is_turned = has_exif and _read_orientation(image) > 4
            return (image.width, image.height) if is_turned else (image.height, image.width)
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: is not an image that can be read ({error})") from error


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode in ("1", "LA"):
        image = image.convert("L")  # alpha is not part of the film
    elif image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return np.asarray(image)


def _read_orientation(image: Image.Image) -> int:
    """Returns Exif's Orientation, 1 to 8; 1 (as stored) without one, or where Exif is damaged."""
    try:
        code = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # it may be damaged in many ways, and the picture is none the worse
        return 1
    return code if code in range(1, 9) else 1


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels as Exif's Orientation says (Exif 2.32, 4.6.4 A)."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _is_lossy(data: bytes) -> bool:
    if data[:4] == b"RIFF":  # WebP's chunk VP8L is the lossless one
        return b"VP8L" not in data[:64]
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # JPEG 2000's SOC and SIZ
    if start >= 0:
        style = data.find(b"\xff\x52", start)  # COD; its wavelet 0 is the irreversible one
        return data[style + 13 : style + 14] != b"\1"
    return data.startswith(_JPEG)


def _is_in_alpha(image: Image.Image, pixels: np.ndarray) -> bool:
    """Says whether a picture has one colour, and an alpha (or transparent entries) that varies."""
    if not image.has_transparency_data:
        return False
    colour = pixels if pixels.ndim == 2 else pixels[..., :3]
    if (colour != colour[:1, :1]).any():
        return False
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    return bool(alpha.min() < alpha.max())


def _is_deep_colour(image: Image.Image, data: bytes) -> bool:
    """Says whether several channels have 16 bits each, of which Pillow would keep the upper 8."""
    if image.format == "PNG":  # IHDR: bit depth, then colour type; 2, 4 and 6 have channels
        return data[24] == 16 and data[25] in (2, 4, 6)
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, (8,))  # BitsPerSample
        return len(bits) > 1 and max(bits) > 8
    if image.format == "JPEG2000":
        header = read_stream_header(data)
        return header.channels > 2 and header.bits > 8
    return False


def _decode_deep_colour(data: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint16:
        raise ValueError("16-bit colour of an unknown layout")
    return np.ascontiguousarray(pixels[..., 2::-1])  # OpenCV has BGR, BGRA


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes a PNG; the file appears whole or not at all.

    Args:
        image: uint8 or uint16 [H, W], or RGB uint8 [H, W, 3].

    Raises:
        OSError: the file cannot be written.
    """
    with write_whole(Path(path)) as partial:
        partial.write_bytes(encode_png(image))


def is_image(path: Path) -> bool:
    """Says whether a file is an image: by its suffix; DICOM, which often has none, by content."""
    start = signature.read_start(path) if may_be_dicom(path.name) else b""
    return is_image_start(start, path.name)


def is_image_start(start: bytes, name: str) -> bool:
    """As `is_image`, for a file's name and first bytes; what is named as DICOM counts if damaged.

    Args:
        start: `signature.START` bytes; none are needed where the suffix decides.
    """
    if signature.starts_dicom(start, name):
        return signature.starts_image(start, name)
    return PurePath(name).suffix.lower() in SUFFIXES


def may_be_dicom(name: str) -> bool:
    """Says whether the suffix leaves open that a file is DICOM, so that its content decides."""
    suffix = PurePath(name).suffix.lower()
    return suffix not in SUFFIXES or suffix in signature.SUFFIXES


def stem_of(path: Path) -> str:
    """Returns the file's name without the suffix of an image.

    Example:
        >>> stem_of(Path("films/a.png")), stem_of(Path("1.2.840"))
        ('a', '1.2.840')
    """
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
