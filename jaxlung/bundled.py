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


def names() -> list[str]:
    """The models there are."""
    return sorted(path.stem for path in WEIGHTS.glob("*.json"))


def is_name(model: str | os.PathLike[str]) -> bool:
    """Whether a model is meant by its name; a `Path`, and "./cxr", are workdirs."""
    return isinstance(model, str) and model in names()


def read(name: str) -> Bundled:
    """A model by its name.

    Raises:
        InputError: there is none of that name, or its files are damaged.
    """
    about_path, arrays_path = WEIGHTS / f"{name}.json", WEIGHTS / f"{name}.npz"
    if name not in names():
        raise InputError(f"{name!r} is no bundled model; there are: {', '.join(names())}")
    try:
        about = json.loads(about_path.read_text(encoding="utf-8"))
        if about["schema"] != SCHEMA:
            raise ValueError(f"its schema is {about['schema']!r}, not {SCHEMA!r}")
        data = arrays_path.read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise ValueError(f"the SHA-256 of {arrays_path.name} differs")
        with np.load(arrays_path, allow_pickle=False) as arrays:
            variables = _tree({path: arrays[path].astype(np.float32) for path in arrays.files})
        return Bundled(
            parse_config(about["config"]),
            about["step"],
            about["data_digests"],
            {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})},
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{about_path}: is damaged ({error}); install jaxlung anew") from error


def write(workdir: Path, name: str, folder: Path | None = None) -> Path:
    """Makes a bundled model of a run's best checkpoint; returns its NAME.json.

    Where data lay, but for the folder's own name, and the images' names are left out.

    Raises:
        InputError: the folder is no run, the name no plain word, or a parameter is beyond float16.
    """
    from jaxlung.predict import load, weights_sha256  # which reads models with this module

    if not name.isidentifier():
        raise InputError(f"name {name!r}: must be a plain word of letters, digits and _")
    folder = folder or WEIGHTS
    model = load(workdir)
    flat = _flatten(model.variables)
    if not all((np.abs(array) <= np.finfo(np.float16).max).all() for array in flat.values()):
        raise InputError(f"{workdir}: some parameters are too large for float16, or not finite")
    folder.mkdir(parents=True, exist_ok=True)
    arrays_path, partial = folder / f"{name}.npz", folder / f".{name}.partial.npz"
    arrays: Any = {path: flat[path].astype(np.float16) for path in sorted(flat)}
    np.savez_compressed(partial, **arrays)
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    os.replace(partial, arrays_path)
    config = model.config.to_dict()
    for section, field in (("data", "dir"), ("data", "split_file"), ("train", "init_from")):
        if config[section][field]:
            config[section][field] = Path(config[section][field]).resolve().name
    about = {
        "schema": SCHEMA,
        "sha256": digest,
        "trained_weights_sha256": weights_sha256(model.variables),
        "step": model.step,
        "config": config,
        "data_digests": {
            split: {str(i): digest for i, digest in enumerate(digests.values())}
            for split, digests in model.data_digests.items()
        },
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
