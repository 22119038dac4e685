"""Counts a U-Net's arithmetic by XLA, and prints one line of JSON; `speed.py` calls it.

JAX_PLATFORMS=cpu python -m benchmarks.speed.peers.flops [--FIELD=VALUE ...]

Nothing is compiled or run. On a GPU XLA's analysis of a compiled program leaves out what cuDNN and
cuBLAS compute (https://github.com/jax-ml/jax/issues/16008, issues/22249), and that of a lowered
program is not there. So the program is lowered for a CPU, whatever device is measured.
"""

import argparse
import json

import jax
import jax.numpy as jnp

from benchmarks.speed.peers.contender import Spec
from jaxlung.config import ModelConfig
from jaxlung.losses import soft_dice_loss
from jaxlung.model import build_model, to_probability


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in Spec()._asdict().items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    print(json.dumps(count_flops(Spec(**vars(parser.parse_args())))))


def count_flops(spec: Spec) -> dict[str, float]:
    """Counts the FLOPs of an image in a training step without its optimiser, and in a prediction.

    XLA leaves out the products of a convolution with its padding, and counts normalisation and
    activations too.
    """
    # In bfloat16 the model has none of its ways round XLA's slow convolutions of few channels on a
    # CPU (`jaxlung.model.conv`), which do more arithmetic.
    model = build_model(
        ModelConfig(width=spec.width, depth=spec.depth, patch=spec.patch, dtype="bfloat16")
    )
    image = jax.ShapeDtypeStruct((1, spec.size, spec.size, 1), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]

    def loss(params, image_1xSxSx1, mask_1xSxSx1):
        logits = model.apply({"params": params}, image_1xSxSx1, train=True)
        return soft_dice_loss(logits, mask_1xSxSx1).mean()

    def predict(params, image_1xSxSx1):
        return to_probability(model.apply({"params": params}, image_1xSxSx1))

    step = jax.jit(jax.value_and_grad(loss)).lower(params, image, image)
    prediction = jax.jit(predict).lower(params, image)
    return {
        "train": step.cost_analysis()["flops"],
        "predict_8": prediction.cost_analysis()["flops"],
    }


if __name__ == "__main__":
    main()
