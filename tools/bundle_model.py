"""Makes a bundled model of a run: python -m tools.bundle_model WORKDIR NAME --license ID

With --calibrate its confidence is fitted on the films of the run's validation split: as they are,
and spoilt in ways that make masks bad, since good masks alone say little. `jaxlung predict` warns
of films of which it expects a Dice below 0.9.
"""

import argparse
import functools
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlung import metrics
from jaxlung.augmentation.appearance import random_appearance
from jaxlung.config import AugmentConfig
from jaxlung.data.canvases import check_canvases, make_canvases
from jaxlung.data.datasets import load_splits
from jaxlung.errors import InputError, one_line_errors
from jaxlung.metrics import count_pixels
from jaxlung.metrics.calibration import (
    FAILURE,
    Confidence,
    expected_dice,
    failure_auc,
    fit_confidence,
)
from jaxlung.predict.load import load
from jaxlung.predict.predictor import Predictor
from jaxlung.preprocess import is_lung
from jaxlung.system.digests import digest_weights, is_example_digest
from jaxlung.system.files import write_json
from jaxlung.weights import bundled

SPOILT = AugmentConfig(  # stronger than any training
    opacity=1.0, shade=0.4, contrast=0.8, brightness=0.4, blur=1.5, noise=0.15, occlusion=0.5
)
SPOILT_DRAWS = 3  # of each film


def write(
    workdir: Path,
    name: str,
    folder: Path | None = None,
    confidences: Mapping[str, Confidence] = {},  # noqa: B006 (never changed)
    license: str = "",
) -> Path:
    """Makes a bundled model of a run's best checkpoint and returns the path of its NAME.json.

    The record holds no name of an image, and of the paths of data the last folder's name alone.

    Args:
        folder: where to write; by default into the package.
        confidences: of the outputs, as `calibrate` returns them.
        license: SPDX identifier of the weights' terms.

    Raises:
        InputError: the folder is no run, the name is no plain word, or a parameter does not fit
            into float16.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise InputError(f"name {name!r}: must be a plain word of letters, digits, _ and -")
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
        "license": license,
        "step": model.step,
        "confidences": {output: one._asdict() for output, one in confidences.items()},
        "config": config,
        "data_digests": {
            # An image that training repeats stands here once.
            split: {str(i): d for i, d in enumerate(dict.fromkeys(digests.values()))}
            for split, digests in digest_contents(model).items()
        },
    }
    write_json(folder / f"{name}.json", about)
    return folder / f"{name}.json"


def digest_contents(model: Predictor) -> dict[str, dict[str, str]]:
    """Returns split to id to digest of the images that made a model.

    A run knows a large split by the sizes of its files, which say nothing of an image elsewhere:
    such a split is read again.
    """
    found = {name: dict(digests) for name, digests in model.data.digests.items()}
    data, outputs = model.config.data, model.config.model.outputs
    for name, digests in found.items():
        if not all(map(is_example_digest, digests.values())):
            split = load_splits(data)[name]
            canvases = make_canvases(split, size=data.size, fit=data.fit, outputs=outputs)
            found[name] = check_canvases(canvases, limit=len(split.ids))
    return found


def calibrate(model: Predictor) -> dict[str, Confidence]:
    """Fits the confidence of each output to the Dice of its run's validation films."""
    if model.config.modality == "ct":
        raise InputError(
            "--calibrate is for models of X-rays: a scan is no single image; bundle the model "
            "without it, then: python -m tools.calibrate_ct NAME --scans DIR"
        )
    data, outputs = model.config.data, model.config.model.outputs
    canvases = make_canvases(
        load_splits(data)["validation"], size=data.size, fit=data.fit, outputs=outputs
    )
    spoil = jax.jit(functools.partial(random_appearance, config=SPOILT))
    expected: dict[str, list[list[float]]] = {output: [] for output in outputs}
    dice: dict[str, list[list[float]]] = {output: [] for output in outputs}
    for i in range(len(canvases.split.ids)):
        image_SxS, mask_SxSxC, labelled_C = canvases.read(i)
        image, lungs = image_SxS[..., None] / np.float32(255), mask_SxSxC.max(-1, keepdims=True)
        keys = [jax.random.fold_in(jax.random.key(i), draw) for draw in range(SPOILT_DRAWS)]
        spoilt = [np.asarray(spoil(key, image, lungs > 127)) for key in keys]
        shown = [image_SxS, *(np.rint(255 * one[..., 0]).astype(np.uint8) for one in spoilt)]
        for output in np.array(outputs)[labelled_C]:
            own = model.for_output(str(output))
            truth_SxS = is_lung(mask_SxSxC[..., outputs.index(output)])
            probabilities = list(own.probabilities(shown))
            masks = [own.to_mask(one) for one in probabilities]
            pairs = zip(probabilities, masks, strict=True)
            expected[output].append([expected_dice(*pair) for pair in pairs])
            counts = count_pixels(np.stack(masks), np.stack([truth_SxS] * len(masks)))
            dice[output].append(metrics.dice(counts).tolist())
    found = {}
    for output in outputs:
        if not expected[output]:
            print(f"{output}: no validation film labels it; its confidence stays as it is")
            continue
        expected_NxD, dice_NxD = np.array(expected[output]), np.array(dice[output])
        drawn = expected_NxD > 0
        fitted = fit_confidence(expected_NxD[drawn], dice_NxD[drawn])
        found[output] = fitted._replace(least=FAILURE)
        calibrated = np.array([fitted.calibrate(one) for one in expected_NxD.ravel()])
        print(f"{output}: {found[output]}, AUC {failure_auc(calibrated, dice_NxD.ravel())}")
    return found


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
    parser.add_argument("--license", required=True, help="SPDX identifier of the weights' terms")
    parser.add_argument(
        "--calibrate", action="store_true", help="fit its confidence on the run's validation films"
    )
    arguments = parser.parse_args(argv)
    confidences = calibrate(load(arguments.workdir)) if arguments.calibrate else {}
    written = write(
        arguments.workdir, arguments.name, confidences=confidences, license=arguments.license
    )
    print(written)


if __name__ == "__main__":
    main()
