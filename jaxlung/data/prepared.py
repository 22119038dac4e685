"""Public sets on disk, as `prepare` leaves them: any example at random.

A prepared set lies in ArrayRecord files, which give any record without reading the others, so a set
may be larger than memory. What splits need of every example (id, patient, subgroups) is read
once and kept beside the records in jaxlung_index.json. The set's own features say what there is:
each text beside id and patient is a subgroup. A structure whose mask is empty was not drawn, and
counts as not labelled.
"""

import contextlib
import functools
import hashlib
import importlib
import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jaxlung.catalog import CATALOG
from jaxlung.catalog.entry import NamedSet
from jaxlung.config import DataConfig
from jaxlung.data.splits import Example, Split
from jaxlung.errors import InputError
from jaxlung.io.ct.hounsfield import apply_window
from jaxlung.structures import (
    HEART,
    LEFT_CLAVICLE,
    LEFT_LUNG,
    LUNG_AND_HEART,
    RIGHT_CLAVICLE,
    RIGHT_LUNG,
    mirror_name,
)
from jaxlung.system.files import write_text
from jaxlung.system.silence import quiet_tensorflow

DEFAULT_DATA_DIR = "~/tensorflow_datasets"  # as TFDS has it, and its variable TFDS_DATA_DIR
INDEX = "jaxlung_index.json"
# The features that hold the structures beside `mask`.
_FEATURES = {
    RIGHT_LUNG: "mask_right",
    LEFT_LUNG: "mask_left",
    HEART: "heart",
    RIGHT_CLAVICLE: "clavicle_right",
    LEFT_CLAVICLE: "clavicle_left",
}
HU_OFFSET = 1024  # what is added to Hounsfield units to store them as 16 bits without a sign
WINDOW = (DataConfig.window_low, DataConfig.window_high)
_PLANES = ("image", "mask", "heart")  # the images that a record's digest goes by
# Columns of the index beside the set's texts: the content of a record's planes, by name, and which
# features of `_FEATURES` mark nothing.
_DIGEST, _EMPTY = "digest", "empty"


def data_dir_of(data_dir: str | os.PathLike[str]) -> Path:
    """Returns the folder of prepared sets: as given, else TFDS_DATA_DIR, else TFDS's default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DATA_DIR
    return Path(chosen).expanduser()


def is_prepared(name: str, data_dir: str | os.PathLike[str] = "") -> bool:
    """Says whether `open_set` will find the set; does not import TFDS."""
    folder = data_dir_of(data_dir) / f"jaxlung_{CATALOG[name].builder}"
    return any(folder.glob("[0-9]*/dataset_info.json"))  # not incomplete.*


def make_builder(entry: NamedSet, data_dir: str | os.PathLike[str]) -> Any:
    """Returns the set's TFDS builder, which writes and reads ArrayRecord.

    Raises:
        InputError: a package is not installed, or the set's folder is damaged or not ours.
    """
    quiet_tensorflow()  # writing a set imports TensorFlow, reading one does not
    try:
        import array_record.python.array_record_data_source  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"public sets need a package that is not installed ({error}): "
            f"pip install tensorflow-datasets array_record"
        ) from error

    importlib.import_module(entry.module)  # registers it
    name, folder = f"jaxlung_{entry.builder}", data_dir_of(data_dir)
    try:
        return tfds.builder(name, data_dir=folder, file_format="array_record")
    except PermissionError as error:
        raise InputError(f"{folder / name}: may not be read; give yourself the right to") from error
    except Exception as error:  # damaged files, or those of `tfds.load`, which has other formats
        raise InputError(
            f"{folder / name}: was not written by `jaxlung data prepare`, or is damaged; delete it "
            f"and run that ({' '.join(str(error).split())[-80:]})"
        ) from error


def open_set(
    name: str,
    data_dir: str | os.PathLike[str] = "",
    window: tuple[float, float] = WINDOW,
) -> Split:
    """Opens a prepared set as one split, "all", in the order of its ids.

    An image without a mask of the set's convention, such as lung and heart where no heart was
    drawn, is left out.

    Args:
        name: of `catalog`.
        data_dir: the folder of prepared sets; "" as in `data_dir_of`.
        window: of CT: the Hounsfield units that become 0 and 255.

    Raises:
        InputError: the set is not prepared, or its files cannot be read.
    """
    entry = CATALOG[name]
    folder = data_dir_of(data_dir)
    if not is_prepared(name, data_dir):
        where = f" --data-dir {shlex.quote(str(folder))}" if data_dir else ""
        raise InputError(
            f"{name}: is not prepared in {folder}; run: jaxlung data prepare {name}{where}"
        )
    builder = make_builder(entry, data_dir)
    index, fetch = open_records(builder)
    labels_of_each = [_find_labels(entry, empty.split()) for empty in index.pop(_EMPTY)]
    order = [i for i, labels in enumerate(labels_of_each) if labels]
    order.sort(key=index["id"].__getitem__)
    columns = {column: tuple(values[i] for i in order) for column, values in index.items()}
    ids, patients, digests = (columns.pop(name) for name in ("id", "patient", _DIGEST))
    labels = tuple(labels_of_each[i] for i in order)

    def read(position: int) -> Example:
        try:
            return to_example(fetch(order[position]), entry, labels[position], window)
        except Exception as error:  # array_record and the decoders raise many types
            raise InputError(
                f"{sources[position]}: cannot be read ({error}); delete the folder and prepare the "
                f"set again"
            ) from error

    sources = tuple(f"{builder.data_path}: {image_id}" for image_id in ids)
    stat = digests.__getitem__
    return Split("all", ids, sources, read, patients, columns, stat=stat, labels=labels)


def _find_labels(entry: NamedSet, empty: Sequence[str]) -> tuple[str, ...]:
    """Returns the structures that a record labels, the set's convention first.

    One side alone counts as none: mirrored, it would teach that the other side is empty.

    Args:
        entry: the set.
        empty: the features that mark nothing.

    Returns:
        The names; () where the record has no mask of the set's convention.
    """

    def is_drawn(name: str) -> bool:
        if entry.modality == "ct":  # a slice may lie beside what was drawn on its scan
            return True
        return not {_FEATURES.get(own) for own in (name, mirror_name(name))} & set(empty)

    if _adds_heart(entry) and not is_drawn(HEART):
        return ()
    return (entry.convention, *filter(is_drawn, entry.others))


def _adds_heart(entry: NamedSet) -> bool:
    """Says whether the set keeps lung and heart apart, and its convention counts both."""
    return entry.convention == LUNG_AND_HEART and HEART in entry.others


def open_records(builder: Any) -> tuple[dict[str, list[str]], Callable[[int], dict[str, Any]]]:
    """Opens the records of all splits.

    Returns:
        the index, as `read_index` returns it, and a function from a record's position to its
        features, which several threads may call. Images that few ask for stay encoded, bytes.

    Raises:
        InputError: files were deleted or cut short.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    skip = _skip_images(features, but=_PLANES)
    try:
        records = builder.as_data_source(
            split="all", deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        index = read_index(builder, records)
    except Exception as error:  # array_record raises many types
        raise InputError(
            f"{builder.data_path}: cannot be read ({' '.join(str(error).split())[:200]}); delete "
            f"it and prepare the set again"
        ) from error
    return index, lambda i: features.deserialize_example_np(records[i], decoders=skip)


def _skip_images(features: Any, but: Sequence[str] = ()) -> dict[str, Any]:
    """Returns TFDS's decoders that leave the set's images encoded, but for some."""
    import tensorflow_datasets as tfds

    images = [name for name in features if isinstance(features[name], tfds.features.Image)]
    return {name: tfds.decode.SkipDecoding() for name in images if name not in but}


def _decode_plane(encoded: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert decoded is not None  # TFDS has written it
    return decoded


def to_example(
    features: dict[str, Any],
    entry: NamedSet,
    labels: Sequence[str],
    window: tuple[float, float] = WINDOW,
) -> Example:
    """Turns a builder's decoded features into the example that the pipeline takes.

    Args:
        features: by name.
        entry: the set.
        labels: the structures that the record labels, the set's convention first.
        window: Hounsfield units that a slice of CT is seen between.
    """

    def plane(name: str) -> np.ndarray:
        image = features[name]
        plane_HxW = _decode_plane(image) if isinstance(image, bytes) else image[..., 0]
        mask_HxW: np.ndarray = plane_HxW > 0
        return mask_HxW

    image_HxW = features["image"][..., 0]
    if features["bits"] == 8:
        image_HxW = image_HxW.astype(np.uint8)
    if entry.modality == "ct":
        image_HxW = apply_window(image_HxW.astype(np.int32) - HU_OFFSET, *window)
    mask_HxW = plane("mask")
    others = {name: functools.partial(plane, _FEATURES.get(name, "mask")) for name in labels[1:]}
    if _adds_heart(entry):
        mask_HxW |= plane("heart")
    # Spacings are float32 on disk: rounding makes 0.175 of them 0.175 again.
    height, width = (round(float(side), 6) for side in features["spacing_mm"])
    known = math.isfinite(height) and math.isfinite(width)
    spacing = (height, width) if known else None
    return Example(image_HxW, mask_HxW, spacing, marks=entry.convention, others=others)


def read_index(builder: Any, records: Sequence[bytes]) -> dict[str, list[str]]:
    """Reads column to the value of each record; makes jaxlung_index.json where it is missing."""
    import tensorflow_datasets as tfds

    features, count = builder.info.features, len(records)
    columns = [name for name in features if isinstance(features[name], tfds.features.Text)]
    path = Path(os.fspath(builder.data_path)) / INDEX
    try:
        index = json.loads(path.read_text())
        known = set(index) == {*columns, _DIGEST, _EMPTY}
        if known and all(len(values) == count for values in index.values()):
            return index
    except (OSError, ValueError, AttributeError, TypeError):
        pass  # not there yet, or damaged: the records themselves tell
    index = _make_index(features, columns, records)
    image_id, times = Counter(index["id"]).most_common(1)[0]
    if times > 1:  # a split would read one of them twice and the others never
        raise InputError(f"{times} records have the id {image_id!r}")
    with contextlib.suppress(OSError):  # a read-only folder: read the records again next time
        write_text(path, json.dumps(index))
    return index


def _make_index(
    features: Any, columns: Sequence[str], records: Sequence[bytes]
) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {column: [] for column in (*columns, _DIGEST, _EMPTY)}
    skip = _skip_images(features)
    planes = [name for name in _FEATURES.values() if name in skip]
    for i in range(len(records)):
        parsed = features.deserialize_example_np(records[i], decoders=skip)
        for column in columns:
            index[column].append(parsed[column].decode())
        encoded = hashlib.sha256()
        for name in _PLANES:
            encoded.update(parsed.get(name, b"") + b"\0")
        index[_DIGEST].append(encoded.hexdigest()[:32])
        empty = [name for name in planes if not _decode_plane(parsed[name]).any()]
        index[_EMPTY].append(" ".join(empty))
    return index
