"""The models of a batch: each input goes to the one of its modality."""

from typing import NamedTuple

from jaxlung.predict.predictor import Predictor


class Models(NamedTuple):
    """At least one model; both where `jaxlung predict` chooses between the bundled ones."""

    xray: Predictor | None = None
    ct: Predictor | None = None

    @property
    def known(self) -> list[Predictor]:
        return [model for model in self if model]


def models_of(model: Predictor) -> Models:
    """Makes models of a single one."""
    return Models(ct=model) if model.config.modality == "ct" else Models(xray=model)
