"""Makes a bundled model of a run: python -m tools.bundle_model WORKDIR NAME"""

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.errors import InputError, one_line_errors
from jaxlung.system.files import write_json
from jaxlung.weights import bundled
from jaxlung.weights.bundled import SCHEMA


def write(workdir: Path, name: str, folder: Path | None = None) -> Path:
    """Makes a bundled model of a run's best checkpoint; returns its NAME.json.

    Where data lay, but for the folder's own name, and the images' names are left out.

    Raises:
        InputError: the folder is no run, the name no plain word, or a parameter is beyond float16.
    """
    from jaxlung.predict.load import load  # which reads models with this module
    from jaxlung.system.digests import digest_weights  # which reads models with this module

    if not name.isidentifier():
        raise InputError(f"name {name!r}: must be a plain word of letters, digits and _")
    folder = folder or bundled.WEIGHTS
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
        "trained_weights_sha256": digest_weights(model.variables),
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


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bundle_model",
        description="Makes a bundled model of a run of train.py.",
    )
    parser.add_argument("workdir", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args(argv)
    print(write(arguments.workdir, arguments.name))


if __name__ == "__main__":
    main()
