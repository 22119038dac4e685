"""Makes a bundled model of a run: python -m tools.bundle_model WORKDIR NAME

The package's own: python -m tools.bundle_model runs/cxr cxr --least-confidence 0.94
Its confidence is above 0.94 on all 85 films of both validation splits.
"""

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlung.errors import InputError, one_line_errors
from jaxlung.predict.load import load
from jaxlung.system.digests import digest_weights
from jaxlung.system.files import write_json
from jaxlung.weights import bundled


def write(
    workdir: Path, name: str, folder: Path | None = None, least_confidence: float | None = None
) -> Path:
    """Makes a bundled model of a run's best checkpoint and returns the path of its NAME.json.

    The record holds no name of an image, and of the paths of data the last folder's name alone.

    Args:
        folder: where to write; by default into the package.
        least_confidence: what the model's confidence (`Prediction.confidence`) reaches on good
            images. Lower confidences are warned of; None: never.

    Raises:
        InputError: the folder is no run, the name is no plain word, or a parameter does not fit
            into float16.
    """
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
        "schema": bundled.SCHEMA,
        "sha256": digest,
        "trained_weights_sha256": digest_weights(model.variables),
        "step": model.step,
        "least_confidence": least_confidence,
        "config": config,
        "data_digests": {
            split: {str(i): digest for i, digest in enumerate(digests.values())}
            for split, digests in model.data.digests.items()
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
        description="Makes a bundled model of a run of `jaxlung train`.",
    )
    parser.add_argument("workdir", type=Path)
    parser.add_argument("name")
    parser.add_argument(
        "--least-confidence", type=float, help="confidence below which masks are warned of"
    )
    arguments = parser.parse_args(argv)
    print(write(arguments.workdir, arguments.name, least_confidence=arguments.least_confidence))


if __name__ == "__main__":
    main()
