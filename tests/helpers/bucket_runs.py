"""Films in a bucket, and `jaxlung predict` of them by a tiny network that nothing has trained."""

import io
from unittest import mock

import numpy as np
from PIL import Image

from jaxlung.cli import predict as command
from jaxlung.predict.batch.models import models_of
from tests.helpers.predict_command import predict
from tests.helpers.random_models import random_model


def film(seed: int, height: int = 64, width: int = 70) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Tiny:
    """`jaxlung predict` with one tiny network for all calls."""

    def __init__(self):
        self.models = models_of(random_model(size=32))

    def predict(self, *arguments, code=0):
        with mock.patch.object(command, "load_models", lambda _: self.models):
            predict(*arguments, code=code)
