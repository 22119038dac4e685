"""Public sets on disk, as `preparation` leaves them: reading single examples at random.

A prepared set lies in ArrayRecord files, which give any record without reading the others, so no
set has to fit into memory. What the splits need of every example (id, patient, subgroups) is read
once and kept beside them in jaxlung_index.json.
"""

import hashlib
import importlib
import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.catalog import CATALOG, LUNG_AND_HEART, NamedSet
from jaxlung.data.splits import Example, Split
from jaxlung.errors import InputError
from jaxlung.system.silence import quiet_tensorflow

DEFAULT_DATA_DIR = "~/tensorflow_datasets"  # as TFDS has it, and its variable TFDS_DATA_DIR
INDEX = "jaxlung_index.json"
_COLUMNS = ("id", "patient", "finding", "view", "sex", "fold")
_DIGEST = "digest"  # the index's further column: names the record's content


def data_dir_of(data_dir: str | os.PathLike[str]) -> Path:
    """The folder of prepared sets: as given, else TFDS_DATA_DIR, else TFDS's own default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DATA_DIR
    return Path(chosen).expanduser()


def is_prepared(name: str, data_dir: str | os.PathLike[str] = "") -> bool:
    """Without importing TFDS: whether `open_set` will find the set."""
    folder = data_dir_of(data_dir) / f"jaxlung_{CATALOG[name].builder}"
    return any(folder.glob("[0-9]*/dataset_info.json"))  # not incomplete.*


def make_builder(entry: NamedSet, data_dir: str | os.PathLike[str]) -> Any:
    """The set's TFDS builder, which writes and reads ArrayRecord."""
    quiet_tensorflow()  # writing a set imports it, reading one does not
    try:
        import array_record.python.array_record_data_source  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"public sets need a package that is not installed ({error}): "
            f"pip install tensorflow-datasets array_record"
        ) from error

    importlib.import_module(f"jaxlung.data.builders.{entry.builder}")  # registers it
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


def open_set(name: str, data_dir: str | os.PathLike[str] = "") -> Split:
    """A prepared set as one split, "all", in the order of its ids.

    Raises:
        InputError: it is not prepared, or its files cannot be read.
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
    order = sorted(range(len(index["id"])), key=index["id"].__getitem__)
    columns = {column: tuple(values[i] for i in order) for column, values in index.items()}
    ids, patients, digests = (columns.pop(name) for name in ("id", "patient", _DIGEST))

    def read(position: int) -> Example:
        try:
            return to_example(fetch(order[position]), entry.convention)
        except Exception as error:  # array_record and the decoders raise many types
            raise InputError(
                f"{sources[position]}: cannot be read ({error}); delete the folder and prepare the "
                f"set again"
            ) from error

    sources = tuple(f"{builder.data_path}: {image_id}" for image_id in ids)
    return Split("all", ids, sources, read, patients, columns, stat=digests.__getitem__)


def open_records(builder: Any) -> tuple[dict[str, list[str]], Callable[[int], dict[str, Any]]]:
    """The index, and what `_fetcher` gives.

    Raises:
        InputError: files were deleted or cut short.
    """
    try:
        return read_index(builder), _fetcher(builder)
    except Exception as error:  # array_record raises many types
        raise InputError(
            f"{builder.data_path}: cannot be read ({' '.join(str(error).split())[:200]}); delete "
            f"it and prepare the set again"
        ) from error


def to_example(features: dict[str, Any], convention: str) -> Example:
    """An example of our builders, decoded, as the pipeline takes it."""
    image_HxW = features["image"][..., 0]
    if features["bits"] == 8:
        image_HxW = image_HxW.astype(np.uint8)
    mask_HxW = features["mask"][..., 0] > 0
    if convention == LUNG_AND_HEART:
        mask_HxW |= features["heart"][..., 0] > 0
    # float32 on disk: 0.175 is to be 0.175 again.
    height, width = (round(float(side), 6) for side in features["spacing_mm"])
    known = math.isfinite(height) and math.isfinite(width)
    return Example(image_HxW, mask_HxW, (height, width) if known else None)


def read_index(builder: Any) -> dict[str, list[str]]:
    """Column to the value of each record; from jaxlung_index.json, else made and kept there."""
    path = Path(os.fspath(builder.data_path)) / INDEX
    count = sum(split.num_examples for split in builder.info.splits.values())
    try:
        index = json.loads(path.read_text())
        known = set(index) <= {*_COLUMNS, _DIGEST} and {"id", "patient", _DIGEST} <= set(index)
        if known and all(len(values) == count for values in index.values()):
            return index
    except (OSError, ValueError, AttributeError, TypeError):
        pass  # not there yet, or damaged: the records themselves tell
    index = _make_index(builder)
    image_id, times = Counter(index["id"]).most_common(1)[0]
    if times > 1:  # a split would read one of them twice and the others never
        raise InputError(f"{times} records have the id {image_id!r}")
    partial = path.with_name(f".{INDEX}.partial")
    try:
        partial.write_text(json.dumps(index))
        os.replace(partial, path)
    except OSError:
        pass  # a read-only folder: read the records again next time
    return index


def _make_index(builder: Any) -> dict[str, list[str]]:
    columns = [column for column in _COLUMNS if column in builder.info.features]
    index: dict[str, list[str]] = {column: [] for column in (*columns, _DIGEST)}
    for record in _records(builder):
        # Parsed, but no image decoded: of text features the parsed value is the text.
        parsed = builder.info.features._example_parser_np.parse_example(record)
        for column in columns:
            value = parsed[column]
            index[column].append(value.decode() if isinstance(value, bytes) else str(value))
        encoded = hashlib.sha256()
        for name in ("image", "mask", "heart"):
            encoded.update(parsed.get(name, b"") + b"\0")
        index[_DIGEST].append(encoded.hexdigest()[:32])
    return index


def _sources(builder: Any) -> list[Any]:
    import tensorflow_datasets as tfds

    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    names = sorted(builder.info.splits)
    return [builder.as_data_source(split=name, deserialize_method=raw) for name in names]


def _records(builder: Any) -> Iterator[bytes]:
    for source in _sources(builder):
        for i in range(len(source)):
            yield source[i]


def _fetcher(builder: Any) -> Callable[[int], dict[str, Any]]:
    """Position among all splits' records to the decoded example; safe in threads."""
    import tensorflow_datasets as tfds

    sources = _sources(builder)
    ends = np.cumsum([len(source) for source in sources])
    features = builder.info.features
    # What training does not look at is left encoded.
    skip = {
        name: tfds.decode.SkipDecoding()
        for name in features
        if name.startswith(("mask_", "clavicle_"))
    }

    def fetch(position: int) -> dict[str, Any]:
        i = int(np.searchsorted(ends, position, side="right"))
        record = sources[i][position - (int(ends[i - 1]) if i else 0)]
        return features.deserialize_example_np(record, decoders=skip)

    return fetch
