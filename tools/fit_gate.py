"""Fits the sanity gate; the same files give the same gate: python -m tools.fit_gate DIR...

Two dense layers tell the classes apart, and the principal components of upright films tell what is
unlike all of them. It takes 6 minutes of one core.
"""

import argparse
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlung.errors import one_line_errors
from jaxlung.gate.classifier import CLASSES, WEIGHTS, distance
from jaxlung.gate.features import features
from jaxlung.system.files import write_whole
from jaxlung.system.threads import count_workers
from tools.gate_samples import Drawn, films, of_films, of_phantoms, of_volumes

HIDDEN = 48  # units: 100 kB
COMPONENTS = 80  # principal components of upright films: 160 kB
USUAL = 0.995  # share of the validation films, mildly changed, within the limit of distance
EPOCHS, BATCH, RATE, DECAY = 12, 256, 2e-3, 3e-3  # of AdamW, with one cycle of its rate
DROPOUT = 0.3  # of hidden units; half of it of features
SMOOTHING = 0.05  # of the classes


def fit(directories: Sequence[Path], ct: Sequence[Path] = ()) -> dict[str, np.ndarray]:
    """Fits the gate's arrays, as `classifier.read_gate` reads them.

    Args:
        directories: folders of films; their training splits are fitted to, and their validation
            splits say how far from the principal components upright films may lie.
        ct: CT volumes, which are projected from the front and from the side, and sliced.
    """
    held_out = of_films(films(directories, "validation"), ["upright"], least=0)
    return fit_to(of_films(films(directories)) + of_phantoms() + of_volumes(ct), held_out)


def fit_to(drawn: Drawn, held_out: Drawn) -> dict[str, np.ndarray]:
    """Fits the gate's arrays to pictures, and the limit of distance to upright ones of others."""
    features_NxD, label_N = _features(drawn)
    model = classifier(features_NxD, label_N)
    centred_NxD = features_NxD[label_N == 0] - model["mean"]
    model["centre"] = centred_NxD.mean(0)
    centred_NxD -= model["centre"]
    _, vectors_DxD = np.linalg.eigh(centred_NxD.T @ centred_NxD)
    model["basis"] = vectors_DxD[:, -COMPONENTS:].astype(np.float16)
    distance_N = distance(_features(held_out)[0], model)
    model["limit"] = np.quantile(distance_N, USUAL).astype("f4")
    return {"classes": np.array(CLASSES), **model}


def _features(drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """Computes the features, float32 [N, D], and the classes, int [N], of pictures."""
    with ThreadPoolExecutor(count_workers()) as pool:
        found = pool.map(lambda pair: features(pair[0].astype(np.float32)), drawn)
        return np.array(list(found), np.float32), np.array([label for _, label in drawn])


def classifier(features_NxD: np.ndarray, label_N: np.ndarray) -> dict[str, np.ndarray]:
    """Fits two dense layers by AdamW; every class weighs the same.

    Returns:
        mean [D], hidden_bias [HIDDEN], bias [classes], float32; hidden [D, HIDDEN] and weights
        [HIDDEN, classes], float16.
    """
    count, classes = len(label_N), len(CLASSES)
    mean_D = features_NxD.mean(0)
    weight_N = (1 / np.bincount(label_N, minlength=classes)[label_N]).astype(np.float32)
    key, first, second = jax.random.split(jax.random.key(0), 3)
    params = {
        "hidden": jax.random.normal(first, (len(mean_D), HIDDEN)) / np.sqrt(len(mean_D)),
        "hidden_bias": jnp.zeros(HIDDEN),
        "weights": jax.random.normal(second, (HIDDEN, classes)) * 0.1,
        "bias": jnp.zeros(classes),
    }
    steps = count // BATCH
    rate = optax.cosine_onecycle_schedule(EPOCHS * steps, RATE, pct_start=0.2)
    optimizer = optax.adamw(rate, weight_decay=DECAY)
    state = optimizer.init(params)

    def dropped(x: jax.Array, key: jax.Array, share: float) -> jax.Array:
        return x * jax.random.bernoulli(key, 1 - share, x.shape) / (1 - share)

    def loss(params: Any, x: jax.Array, label: jax.Array, weight: jax.Array, key: Any) -> Any:
        first, second = jax.random.split(key)
        x = dropped(x, first, DROPOUT / 2) @ params["hidden"] + params["hidden_bias"][None]
        x = dropped(jax.nn.relu(x), second, DROPOUT) @ params["weights"] + params["bias"][None]
        truth = optax.smooth_labels(jax.nn.one_hot(label, classes), SMOOTHING)
        return (optax.softmax_cross_entropy(x, truth) * weight).sum() / weight.sum()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, *batch: Any) -> Any:
        slope = jax.grad(loss)(params, *batch)
        change, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, change), state

    for epoch in range(EPOCHS):
        order = np.random.default_rng([0, epoch]).permutation(count)[: steps * BATCH]
        for k, batch in enumerate(np.split(order, steps)):
            own = jax.random.fold_in(key, epoch * steps + k)
            x = features_NxD[batch] - mean_D
            params, state = step(params, state, x, label_N[batch], weight_N[batch], own)
    found = {name: np.asarray(value) for name, value in params.items()}
    half = {name: found[name].astype(np.float16) for name in ("hidden", "weights")}
    return {"mean": mean_D, **found, **half}


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.fit_gate",
        description="Fits the gate to the training splits of folders of X-rays, upright and not "
        "inverted, with images/ and masks/; and to simulated films.",
    )
    parser.add_argument("dirs", nargs="+", type=Path, metavar="DIR")
    parser.add_argument(
        "--ct", nargs="+", type=Path, default=[], metavar="FILE", help="chest CT volumes, NIfTI"
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS, help=f"default: {WEIGHTS.name}")
    arguments = parser.parse_args(argv)

    arrays: Any = fit(arguments.dirs, arguments.ct)
    with write_whole(arguments.out, by_suffix=True) as partial:
        np.savez_compressed(partial, **arrays)
    print(arguments.out)


if __name__ == "__main__":
    main()
