"""Models that come with the package: `jaxlung.load("cxr")`, with nothing to download.

A model is two files in jaxlung/weights/: NAME.npz, its arrays as float16 under the paths of their
tree, and NAME.json, its config, what it was trained on and the SHA-256 of NAME.npz. Neither is
ever unpickled. A run of train.py becomes one by: python -m jaxlung.bundled WORKDIR NAME
"""

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlung.config import Config, parse_config
from jaxlung.errors import InputError, one_line_errors
from jaxlung.workdir import Digests, write_json

WEIGHTS = Path(__file__).parent / "weights"
SCHEMA = "jaxlung-model-1"  # changes when a field changes its meaning or goes


class Bundled(NamedTuple):
    """What `read` finds."""

    config: Config
    step: int  # updates behind the parameters
    data_digests: Digests  # what it was trained on: see `workdir.read_digests`
    variables: Any  # what `UNet.apply` takes, float32 arrays of numpy


def names(folder: Path = WEIGHTS) -> list[str]:
    """The models there are."""
    return sorted(path.stem for path in folder.glob("*.json"))


def read(name: str, folder: Path = WEIGHTS) -> Bundled:
    """A model by its name.

    Raises:
        InputError: there is none of that name, or its files are damaged.
    """
    about_path, arrays_path = folder / f"{name}.json", folder / f"{name}.npz"
    if name not in names(folder):
        raise InputError(f"{name!r} is no bundled model; there are: {', '.join(names(folder))}")
    try:
        about = json.loads(about_path.read_text(encoding="utf-8"))
        data = arrays_path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{about_path}: cannot be read ({error}); install jaxlung anew") from error
    if about.get("schema") != SCHEMA:
        raise InputError(f"{about_path}: is of another version of jaxlung; install jaxlung anew")
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise InputError(f"{arrays_path}: is damaged (SHA-256 differs); install jaxlung anew")
    with np.load(arrays_path, allow_pickle=False) as arrays:
        variables = _tree({path: arrays[path].astype(np.float32) for path in arrays.files})
    return Bundled(
        parse_config(about["config"]),
        about["step"],
        about["data_digests"],
        {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})},
    )


def write(workdir: Path, name: str, folder: Path = WEIGHTS) -> Path:
    """Makes a bundled model of a run's best checkpoint; returns its NAME.json.

    Where data lay is left out of its config: it says nothing to others.

    Raises:
        InputError: the folder is no run.
    """
    from jaxlung.predict import load, weights_sha256  # which reads models with this module

    model = load(workdir)
    flat = _flatten(model.variables)
    folder.mkdir(parents=True, exist_ok=True)
    arrays_path, partial = folder / f"{name}.npz", folder / f".{name}.partial.npz"
    arrays: Any = {path: flat[path].astype(np.float16) for path in sorted(flat)}
    np.savez_compressed(partial, **arrays)
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    os.replace(partial, arrays_path)
    config = model.config.to_dict()
    for section, field in (("data", "dir"), ("data", "split_file"), ("train", "init_from")):
        config[section][field] = Path(config[section][field]).name
    about = {
        "schema": SCHEMA,
        "sha256": digest,
        "trained_weights_sha256": weights_sha256(model.variables),
        "step": model.step,
        "config": config,
        "data_digests": model.data_digests,
    }
    write_json(folder / f"{name}.json", about)
    return folder / f"{name}.json"


def _flatten(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if hasattr(value, "items"):
            flat |= _flatten(value, f"{path}/")
        else:
            flat[path] = np.asarray(value)
    return flat


def _tree(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, array in flat.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = array
    return tree


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jaxlung.bundled", description="Makes a bundled model of a run of train.py."
    )
    parser.add_argument("workdir", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args(argv)
    print(write(arguments.workdir, arguments.name))


if __name__ == "__main__":
    main()
