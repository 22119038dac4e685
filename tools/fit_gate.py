"""Fits the sanity gate to films; the same films give the same gate: python -m tools.fit_gate DIR

Multinomial logistic regression to the classes, and the principal components of upright films.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from scipy.optimize import minimize

from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits
from jaxlung.errors import one_line_errors
from jaxlung.gate.features import features, small_square
from jaxlung.gate.image import CLASSES, WEIGHTS, distance
from jaxlung.io.grey import to_grey8
from jaxlung.phantom import radiographs
from jaxlung.system.files import write_whole
from jaxlung.system.threads import count_workers
from tools.gate_films import mild, part, photographed, scrambled
from tools.gate_pictures import SIZE, other

SEED = 0
# Pictures of each class made of a film; `draw` says how.
DRAWS = {
    "upright": 10,
    "inverted": 6,
    "turned 90": 3,
    "turned 180": 3,
    "turned 270": 3,
    "part": 6,
    "photographed": 3,
    "other": 12,
}
PHANTOMS = 64  # simulated radiographs: what the package's own examples predict on is accepted
COMPONENTS = 100  # principal components of upright films: 200 kB
USUAL = 0.995  # share of the validation films, mildly changed, within the limit of distance
RIDGE = 3e-5  # times the sum of the squared weights, beside the mean loss


def films(directories: Sequence[Path], split: str = "train") -> list[np.ndarray]:
    """Reads the grey images of a split of each folder, uint8 [SIZE, SIZE], stretched to squares."""
    side = (SIZE, SIZE)
    found = []
    for directory in directories:
        chosen = load_splits(DataConfig(name="folder", dir=str(directory)))[split]
        for i in range(len(chosen.ids)):
            grey = to_grey8(chosen.read(i).image)
            found.append(cv2.resize(grey, side, interpolation=cv2.INTER_AREA))
    return found


def draw(name: str, film: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Makes a picture of a class, uint8 [H, W], from a film; `second` is any other film."""
    grey = mild(film, rng)
    if name == "inverted":  # negatives of turned films too: `image.examine` looks at them again
        return 255 - np.rot90(grey, int(rng.choice([0, 0, 0, 1, 2, 3])))
    if name.startswith("turned"):
        return np.rot90(grey, -int(name.split()[1]) // 90)
    if name == "part":
        return part(grey, rng)
    if name == "photographed":
        return photographed(grey, rng)
    if name == "other":
        return other(rng) if rng.random() < 0.86 else scrambled(film, second, rng)
    return grey


def samples(
    films: Sequence[np.ndarray], phantoms: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Draws pictures; returns their features, float32 [N, D], and their classes, int [N].

    Each film's pictures depend on the seed and its place alone.
    """

    def of_film(index: int) -> list[tuple[np.ndarray, int]]:
        drawn = []
        for label, name in enumerate(CLASSES):
            for k in range(DRAWS[name]):
                rng = np.random.default_rng([SEED, index, label, k])
                second = films[int(rng.integers(len(films)))]
                picture = draw(name, films[index], second, rng)
                drawn.append((features(small_square(picture)[0]), label))
        return drawn

    with ThreadPoolExecutor(count_workers()) as pool:
        found = [pair for pairs in pool.map(of_film, range(len(films))) for pair in pairs]
    for i, phantom in enumerate(phantoms):
        rng = np.random.default_rng([SEED, i])
        found += [(features(small_square(p)[0]), 0) for p in (phantom, mild(phantom, rng))]
    return np.array([x for x, _ in found], np.float32), np.array([label for _, label in found])


def fit(directories: Sequence[Path]) -> dict[str, np.ndarray]:
    """Fits the gate's arrays, as `image.read_gate` reads them, to the folders' training splits.

    Their validation splits say how far from the principal components upright films may lie.
    """
    phantoms, _ = radiographs(jax.random.key(SEED), PHANTOMS, size=SIZE)
    features_NxD, labels_N = samples(films(directories), list(phantoms))
    model = classifier(features_NxD, labels_N)
    centred_NxD = features_NxD[labels_N == 0] - model["mean"]
    model["centre"] = centred_NxD.mean(0)
    centred_NxD -= model["centre"]
    _, vectors_DxD = np.linalg.eigh(centred_NxD.T @ centred_NxD)
    model["basis"] = vectors_DxD[:, -COMPONENTS:].astype(np.float16)
    held_out, labels_N = samples(films(directories, "validation"))
    model["limit"] = np.quantile(distance(held_out[labels_N == 0], model), USUAL).astype("f4")
    return {"classes": np.array(CLASSES), **model}


def classifier(features_NxD: np.ndarray, labels_N: np.ndarray) -> dict[str, np.ndarray]:
    """Fits the most likely weights; every class weighs the same, and a ridge keeps them small.

    Returns:
        mean float32 [D], weights float16 [D, classes], bias float32 [classes].
    """
    count, classes = len(labels_N), len(CLASSES)
    mean_D = features_NxD.mean(0)
    centred_NxD = features_NxD - mean_D
    share_N = 1 / (classes * np.bincount(labels_N, minlength=classes)[labels_N])
    truth_NxC = np.eye(classes, dtype=np.float32)[labels_N]
    size = centred_NxD.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[:-classes].reshape(size, classes), flat[-classes:]
        logits = centred_NxD @ weights.astype(np.float32) + bias.astype(np.float32)
        logits -= logits.max(1, keepdims=True)
        likely = np.exp(logits)
        likely /= likely.sum(1, keepdims=True)
        picked = np.maximum(likely[np.arange(count), labels_N].astype(float), 1e-30)
        value = float(-(share_N * np.log(picked)).sum() + RIDGE * (weights**2).sum())
        slope = (likely - truth_NxC) * share_N[:, None].astype(np.float32)
        gradient = (centred_NxD.T @ slope).astype(float) + 2 * RIDGE * weights
        return value, np.append(gradient.ravel(), slope.sum(0).astype(float))

    found = minimize(
        loss,
        np.zeros((size + 1) * classes),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 300, "ftol": 1e-7},
    )
    weights = found.x[:-classes].reshape(size, classes).astype(np.float16)
    return {"mean": mean_D, "weights": weights, "bias": found.x[-classes:].astype(np.float32)}


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.fit_gate",
        description="Fits the gate to the training splits of folders of X-rays, upright and not "
        "inverted, with images/ and masks/.",
    )
    parser.add_argument("dirs", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help=f"default: {WEIGHTS.name}")
    arguments = parser.parse_args(argv)

    arrays: Any = fit(arguments.dirs)
    with write_whole(arguments.out, by_suffix=True) as partial:
        np.savez_compressed(partial, **arrays)
    print(arguments.out)


if __name__ == "__main__":
    main()
