"""A run's folder: its settings and record, and the refusal to mix two runs in one.

config.json   every setting, as resolved
data.json     what it was trained on, to recognise it later: split to id to content digest, and
              "hashes", id to perceptual hash
run.json      package versions, devices, the data's fingerprint and warnings, a line for each start
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax.traverse_util import flatten_dict

from jaxlung.config import Config, parse_config
from jaxlung.errors import InputError
from jaxlung.system.digests import digest_splits
from jaxlung.system.environment import describe_environment
from jaxlung.system.files import lock_folder, write_json

Digests = Mapping[str, Mapping[str, str]]  # split to id to `digests.digest_example`
_HASHES = "hashes"  # beside the splits in data.json


class Contents(NamedTuple):
    """What a run knows of its images."""

    digests: Digests
    hashes: Mapping[str, str] = {}  # id to `duplicates.hash_image`; of large splits, none


def read_config(workdir: Path) -> Config:
    """Returns the config that a workdir was made with.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise InputError(f"{workdir}: holds no config.json; is it a workdir of `jaxlung train`?")
    try:
        return parse_config(json.loads(path.read_text()))
    except ValueError as error:  # InputError included: say which file the field is in
        raise InputError(f"{path}: {error}") from error


def check_config(workdir: Path, config: Config) -> None:
    """Refuses a workdir made with another config; writes nothing.

    Raises:
        InputError: naming the fields that differ, or what stands in the workdir's place.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir {workdir}: is a file; name a folder")
    if not (workdir / "config.json").exists():
        for name in ("checkpoints", "metrics.jsonl", "run.json"):
            if (workdir / name).exists():
                raise InputError(f"{workdir}: holds {name} but no config.json; use a new --workdir")
        return
    changes = list_differences(read_config(workdir), config)
    if changes:
        raise InputError(
            f"{workdir}: was made with another config ({'; '.join(changes)}); "
            f"use a new --workdir, or the old settings to resume"
        )


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Raises InputError where another training runs in the workdir."""
    if jax.process_index() > 0:  # a run's first process holds the lock
        yield
        return
    with lock_folder(workdir, "another training is running there; wait, or use a new --workdir"):
        yield


def write_record(
    workdir: Path, config: Config, contents: Contents, warnings: Sequence[str] = ()
) -> None:
    """Writes config.json and data.json once and adds a start, with its warnings, to run.json.

    Raises:
        InputError: the data are not those that the run was started with, or run.json is damaged.
    """
    path = workdir / "run.json"
    data_fingerprint = digest_splits(contents.digests)
    starts = _read_starts(path) if path.exists() else []
    if starts and starts[-1]["data_fingerprint"] != data_fingerprint:
        raise InputError(
            f"{workdir}: its data have changed since it was started (fingerprint "
            f"{starts[-1]['data_fingerprint'][:12]} -> {data_fingerprint[:12]}), or another "
            f"version of jaxlung did; use a new --workdir"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / "config.json").exists():
        write_json(workdir / "config.json", config.to_dict())
    if not (workdir / "data.json").exists():
        hashes = {_HASHES: contents.hashes} if contents.hashes else {}
        write_json(workdir / "data.json", {**contents.digests, **hashes})
    start = {"data_fingerprint": data_fingerprint, "warnings": list(warnings)}
    starts.append({**start, **describe_environment()})
    write_json(path, {"starts": starts})


def read_contents(workdir: Path) -> Contents:
    """Returns what `write_record` was given; no digests where a run has no data.json.

    Raises:
        InputError: the file is damaged.
    """
    path = workdir / "data.json"
    try:
        digests = json.loads(path.read_text())
        if all(isinstance(d, str) for ids in digests.values() for d in ids.values()):
            hashes = digests.pop(_HASHES, {})
            return Contents(digests, hashes)
    except FileNotFoundError:
        return Contents({})
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is damaged ({error}); restore it, or remove it") from error
    raise InputError(f"{path}: is damaged; restore it, or remove it")


def _read_starts(path: Path) -> list[dict[str, Any]]:
    try:
        starts = json.loads(path.read_text())["starts"]
        if all(isinstance(start["data_fingerprint"], str) for start in starts):
            return starts
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path}: is damaged; use a new --workdir")


# Settings that cannot change the result, or by rounding alone: where the data lie (their
# fingerprint says whether they are the same), how they are fed, what is recomputed.
_HARMLESS: tuple[str, ...] = (
    "data.dir",
    "data.loader",
    "data.cache_gib",
    "train.steps_per_call",
    "train.checkpoint_steps",
    "train.skip_nonfinite",
    "model.remat",
)


def list_differences(old: Config, new: Config) -> list[str]:
    """Lists the fields, as 'section.field: old -> new', in which two configs differ.

    Fields that cannot change the result, or by rounding alone, are left out. These are
    `_HARMLESS`, the devices, and, where an image's result depends on no other image of its batch,
    the parts of a batch.
    """
    harmless = _HARMLESS
    if new.model.dropout == 0 and new.model.norm != "batch":
        harmless += ("train.accumulate",)
    old_values, new_values = (flatten_dict(one.to_dict(), sep=".") for one in (old, new))
    return [
        f"{name}: {old_values[name]!r} -> {value!r}"
        for name, value in new_values.items()
        if old_values[name] != value and name not in harmless and not name.startswith("mesh.")
    ]
