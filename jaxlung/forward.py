"""The network on a batch of canvases: what a prediction computes, without what training needs."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlung.model import UNet, to_probability
from jaxlung.preprocess import normalize


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where images and parameters lie while the network runs; by default as they come."""

    spread_rows: Callable[[jax.Array], jax.Array] = lambda image: image
    gather_params: Callable[[Any], Any] = lambda params: params


WHOLE = Placement()


def predict_step(
    variables: Any,
    image_BxSxS: jax.Array,
    model: UNet,
    place: Placement = WHOLE,
    *,
    tta: bool = False,
    mirror: Sequence[int] = (),
) -> jax.Array:
    """Returns the probabilities of each output, float32 [B, S, S, C], of uint8 canvases.

    Args:
        variables: `steps.TrainState.variables`.
        image_BxSxS: uint8.
        model: the network.
        place: where images and parameters lie meanwhile.
        tta: test-time augmentation: the mean of an image's probabilities and of its mirror
            image's, mirrored back; left and right structures change places in it.
        mirror: as in `steps.Recipe`.
    """
    image_BxSxS = place.spread_rows(image_BxSxS)
    probability_BxSxSxC = to_probability(compute_logits(variables, image_BxSxS, model, place))
    if not tta:
        return probability_BxSxSxC
    mirrored_BxSxSxC = to_probability(
        compute_logits(variables, image_BxSxS[:, :, ::-1], model, place)
    )
    if any(i != of for i, of in enumerate(mirror)):
        mirrored_BxSxSxC = mirrored_BxSxSxC[..., jnp.array(mirror)]
    return (probability_BxSxSxC + mirrored_BxSxSxC[:, :, ::-1]) / 2


def compute_logits(variables: Any, image_BxSxS: jax.Array, model: UNet, place: Placement) -> Any:
    """Returns the logits of each output, float32 [B, S, S, C], of uint8 canvases."""
    variables = {**variables, "params": place.gather_params(variables["params"])}
    return model.apply(variables, normalize(image_BxSxS))


def mean_of_members(step: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Makes step(variables, image_BxSxS) the mean over members, whose variables are [M, ...]."""

    def mean(variables_M: Any, image_BxSxS: jax.Array) -> jax.Array:
        return jax.vmap(step, in_axes=(0, None))(variables_M, image_BxSxS).mean(0)

    return mean
