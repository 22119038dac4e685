"""From DICOM's stored values to what a screen shows: PS3.3 C.11 and PS3.4 N.2.

The order is: Modality LUT or rescale, VOI LUT or window, polarity. The picture is inverted, once,
if PhotometricInterpretation is MONOCHROME1 (its lowest value is white after the VOI stage,
C.7.6.3.1.2) or if PresentationLUTShape is INVERSE (the output of the VOI stage is to be inverted,
C.11.6.1.2). By C.7.6.1 INVERSE comes with MONOCHROME1 alone and IDENTITY with MONOCHROME2 alone, so
that images which carry both attributes say one thing. Files where the two disagree break that
rule; the one that asks for the inversion counts. Padding that the file names is black in the end.

Functions take a pydicom data set and never quote its values in an error.
"""

import os
from typing import Any

import numpy as np

from jaxlung.errors import InputError
from jaxlung.io.grey import find_range, row_blocks


def apply_display(stored: np.ndarray, dataset: Any, path: str | os.PathLike[str]) -> np.ndarray:
    """Turns grey stored values [H, W] into what is shown: `read_dicom` has values and dtype.

    Raises:
        InputError: a LUT or window cannot be used, or turns the image into a single grey.
    """
    inverted = (
        dataset.PhotometricInterpretation == "MONOCHROME1"
        or dataset.get("PresentationLUTShape") == "INVERSE"
    )
    values, signed = apply_rescale(stored, dataset, path)
    padding_HxW = _is_padding(stored, dataset)
    centers, widths = read_numbers(dataset, "WindowCenter"), read_numbers(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    low = high = 0.0
    has_window = bool(centers and widths) and widths[0] >= (
        1 if function == "LINEAR" else np.finfo(float).tiny
    )
    if not dataset.get("VOILUTSequence") and not has_window:
        if stored is values and stored.dtype == np.uint8 and int(dataset.BitsStored) == 8:
            return np.where(padding_HxW, 0, 255 - stored if inverted else stored).astype(np.uint8)
        low, high = _range(values, padding_HxW)

    def show(block: np.ndarray) -> np.ndarray:
        if dataset.get("VOILUTSequence"):
            entries, bits = _look_up(block, dataset.VOILUTSequence[0], signed, dataset, path)
            return entries / (2.0**bits - 1)
        if has_window:
            return window(block, centers[0], widths[0], function, path)
        return np.clip((block - low) / max(high - low, np.finfo(float).tiny), 0, 1)

    shown_HxW = np.empty(values.shape, np.float32)
    ends = []
    for rows in row_blocks(shown_HxW):
        shown = show(values[rows])
        ends += [shown.min(), shown.max()]
        shown_HxW[rows] = 1 - shown if inverted else shown
    if min(ends) == max(ends) and values.min() < values.max():
        raise InputError(
            f"{path}: its window or VOI LUT turns the whole image into a single grey; correct "
            f"or remove it"
        )
    shown_HxW[padding_HxW] = 0
    return shown_HxW


def _range(values: np.ndarray, padding_HxW: np.ndarray) -> tuple[float, float]:
    """Returns the `find_range` of values [H, W], without padding unless all is padding."""
    is_mixed = padding_HxW.any() and not padding_HxW.all()
    return find_range(values[~padding_HxW] if is_mixed else values)


def _is_padding(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """Marks stored values [H, W] that only fill the frame, often far below or above the image's.

    These are PixelPaddingValue, or all values from it to PixelPaddingRangeLimit (C.7.5.1.1.2).
    Returns bool [H, W].
    """
    ends = [
        int(number)
        for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        for number in read_numbers(dataset, keyword)[:1]
    ]
    if stored.dtype.kind == "i":  # some files write a negative one as unsigned
        ends = [end - 2**16 if end >= 2**15 else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends)) if ends else np.zeros(stored.shape, bool)


def apply_rescale(
    stored: np.ndarray, dataset: Any, path: str | os.PathLike[str]
) -> tuple[np.ndarray, bool]:
    """Applies the Modality LUT or rescale (C.11.1) to stored values [H, W].

    Returns:
        values [H, W], and whether some can be negative. Without either, or with a rescale that
        changes nothing, the values are the stored array itself.

    Raises:
        InputError: the slope is 0, or the table is damaged.
    """
    signed = int(dataset.PixelRepresentation) == 1
    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        return _look_up(stored, item, signed, dataset, path)[0], False
    slope = (*read_numbers(dataset, "RescaleSlope"), 1.0)[0]
    intercept = (*read_numbers(dataset, "RescaleIntercept"), 0.0)[0]
    if slope == 0:
        raise InputError(f"{path}: has a RescaleSlope of 0, which leaves no image; correct it")
    if (slope, intercept) == (1.0, 0.0):
        return stored, signed
    span = 2 ** int(dataset.BitsStored)
    lowest, highest = (-span // 2, span // 2 - 1) if signed else (0, span - 1)
    negative = min(lowest * slope, highest * slope) + intercept < 0
    values = stored * np.float64(slope)
    values += intercept  # in place: it may be large
    return values, negative


def _look_up(
    values: np.ndarray, item: Any, signed: bool, dataset: Any, path: str | os.PathLike[str]
) -> tuple[np.ndarray, int]:
    """Looks values [H, W] up in a table (C.11.1.1, C.11.2.1.1); also returns its entries' bits.

    Values below the first that the table maps take the first entry, values above the last one the
    last.
    """
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count % 2**16 or 2**16
    # The values that go in decide on US or SS; pydicom goes by the stored ones alone.
    first = first % 2**16
    first -= 2**16 if signed and first >= 2**15 else 0
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    else:
        words = (np.atleast_1d(np.asarray(data)) % 2**16).astype(np.uint16)
    if bits <= 8 and len(words) < count:  # two entries in a word
        words = np.frombuffer(words.astype("<u2").tobytes(), np.uint8)
    if len(words) < count or not 1 <= bits <= 16:
        raise InputError(f"{path}: has a damaged look-up table; export it from the archive again")
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, count - 1)
    return words[index].astype(np.float64), bits


def window(
    values: np.ndarray,
    center: float,
    width: float,
    function: str = "LINEAR",
    path: str | os.PathLike[str] = "image",
) -> np.ndarray:
    """Puts values [H, W] through a window of DICOM PS3.3 C.11.2.

    Args:
        center, width: in the unit of the values.
        function: "LINEAR" (C.11.2.1.2.1; width 1 is a threshold), "SIGMOID" (C.11.2.1.3.1) or
            "LINEAR_EXACT" (C.11.2.1.3.2).
        path: for the error.

    Returns:
        float64 [H, W], 0 is black and 1 white.

    Raises:
        InputError: another function.

    Example:
        >>> window(np.array([[-1350.0, -600.0, 150.0]]), -600, 1500, "LINEAR_EXACT").tolist()
        [[0.0, 0.5, 1.0]]
    """
    values = np.asarray(values, np.float64)
    if function == "SIGMOID":
        # A far outlier overflows to infinity, and so to 0, which is right.
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if function == "LINEAR":
        if width == 1:
            return np.where(values > center - 0.5, 1.0, 0.0)
        return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    raise InputError(
        f"{path}: has an unknown VOILUTFunction; expected LINEAR, LINEAR_EXACT or SIGMOID"
    )


def read_numbers(dataset: Any, keyword: str) -> tuple[float, ...]:
    """Reads every value of a decimal attribute; () where it is absent, empty or not finite.

    A decimal comma, which some devices write against the standard, is read as a point.

    Raises:
        ValueError: a value is no number.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    many = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
    given = [number for number in many if number is not None and number != ""]
    # pydicom leaves what is no number as text.
    values = tuple(float(str(number).replace(",", ".")) for number in given)
    return values if np.isfinite(values).all() else ()
